import numpy as np
import pytest
from PIL import Image

from hybrid.datasets import near_duplicates


def random_hashes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.packbits(rng.random((count, 256)) < 0.5, axis=1).view(np.uint64)


def flip(one_hash: np.ndarray, bits: np.ndarray) -> np.ndarray:
    unpacked = np.unpackbits(one_hash.view(np.uint8))
    unpacked[bits] ^= 1
    return np.packbits(unpacked).view(np.uint64)


def brute_force_pairs(hashes: np.ndarray, max_distance: int) -> list[list[int]]:
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), -1), axis=1).astype(int)
    distance = np.abs(bits[:, None] - bits[None]).sum(-1)
    return [
        [i, j]
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if distance[i, j] <= max_distance
    ]


def test_difference_hash_says_where_a_pixel_is_brighter_than_its_left_neighbour():
    rows = np.zeros((16, 17), np.uint8)
    rows[3, 5:] = 200  # one step up, between columns 4 and 5 of row 3
    rows[7, :9] = 100  # one step down: no bit
    value = near_duplicates.difference_hash(Image.fromarray(rows))
    bits = np.unpackbits(value.view(np.uint8)).reshape(16, 16)
    assert np.argwhere(bits).tolist() == [[3, 4]]


def test_difference_hash_of_a_colour_image_is_that_of_its_luminance():
    colours = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    image = Image.fromarray(colours)
    pixels = np.asarray(image.convert('L').resize((17, 16), Image.Resampling.BILINEAR))
    table = [
        bool(pixels[row, column + 1] > pixels[row, column])
        for row in range(16)
        for column in range(16)
    ]
    bits = np.unpackbits(near_duplicates.difference_hash(image).view(np.uint8))
    assert bits.tolist() == table


@pytest.mark.parametrize('max_distance', [0, 1, 16, 40, 255])
def test_near_pairs_equals_brute_force(max_distance):
    rng = np.random.default_rng(1)
    base = random_hashes(30)
    relatives = [
        flip(base[i % 20], rng.choice(256, size=rng.integers(0, 60), replace=False))
        for i in range(60)
    ]
    hashes = np.concatenate([base, np.stack(relatives), base[:5]])
    for slack in (0,) if max_distance == 255 else (0, 1):
        pairs = near_duplicates.near_pairs(hashes, max_distance, slack)
        assert pairs.tolist() == brute_force_pairs(hashes, max_distance)
        assert len(pairs) >= 5


def test_distance_16_is_near_and_17_is_not_wherever_the_bits_lie():
    base = random_hashes(1)[0]
    rng = np.random.default_rng(2)
    spread = [np.roll(np.arange(256), start) for start in range(50)]  # a bit in every band but one
    for k, bits in enumerate([*spread, *(rng.permutation(256) for _ in range(50))]):
        near = np.stack([base, flip(base, bits[:16])])
        far = np.stack([base, flip(base, bits[:17])])
        for slack in (0,) if k % 10 else (0, 1):
            assert near_duplicates.near_pairs(near, 16, slack).tolist() == [[0, 1]]
            assert near_duplicates.near_pairs(far, 16, slack).tolist() == []


def test_components_are_chains_and_carry_the_smallest_index():
    first, second, lone = random_hashes(3)
    chain = [first, flip(first, np.arange(10)), flip(first, np.arange(20))]  # ends 20 apart
    hashes = np.stack([lone, second, chain[2], chain[0], second, chain[1]])
    assert near_duplicates.components(hashes, 16).tolist() == [0, 1, 2, 2, 1, 2]
    assert near_duplicates.components(hashes, 0).tolist() == [0, 1, 2, 3, 1, 5]


def test_many_equal_hashes_are_one_component():
    hashes = np.repeat(random_hashes(2), 20_000, axis=0)
    labels = near_duplicates.components(hashes, 16)
    assert np.unique(labels, return_counts=True)[0].tolist() == [0, 20_000]


def test_group_is_the_smallest_name_whatever_the_order():
    first, second = random_hashes(2)
    hashes = np.stack([first, second, flip(first, np.arange(3)), first])
    names = ['c', 'a', 'b', 'd']
    expected = {'a': 'a', 'b': 'b', 'c': 'b', 'd': 'b'}
    assert near_duplicates.group_names(names, hashes, 16) == expected
    backwards = near_duplicates.group_names(names[::-1], hashes[::-1].copy(), 16)
    assert backwards == expected


def test_distance_out_of_range_is_refused():
    with pytest.raises(ValueError, match='max_distance=256'):
        near_duplicates.near_pairs(random_hashes(2), 256)
