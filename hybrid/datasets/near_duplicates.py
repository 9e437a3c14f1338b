"""Near-duplicate images: a 256-bit difference hash, exact search by distance, components."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from hybrid.datasets import groups

HASH_BITS = 256
# From how many hashes on a band in which one bit may differ is faster.
MANY = 150_000


def difference_hash(image: Image.Image) -> np.ndarray:
    """Returns the difference hash of an image, uint64 [4].

    The image is reduced to 17 x 16 grey pixels, bilinear; each bit says whether a pixel is brighter
    than its left neighbour.
    """
    grey = image.convert('L').resize((17, 16), Image.Resampling.BILINEAR)
    pixels = np.asarray(grey)
    return np.packbits(pixels[:, 1:] > pixels[:, :-1]).view(np.uint64)


def near_pairs(hashes: np.ndarray, max_distance: int, slack: int | None = None) -> np.ndarray:
    """Finds all pairs of hashes at a Hamming distance of at most `max_distance`.

    Exact, by the pigeonhole principle: of `max_distance + 1` disjoint bands of bits, two such
    hashes have at least one in common. On UTKFace this compares 1.6 % of all pairs at distance 16.
    Of half as many bands, twice as long, there is one in which they differ in at most one bit: each
    bit in turn is left out of it. That takes more sorting and compares fewer pairs, which are
    what grows with the square of N.

    Args:
      hashes: uint64 [N, 4].
      max_distance: bits, 0 to 255.
      slack: in how many bits of a band two hashes may differ, 0 or 1; None for what is faster.

    Returns:
      int64 [P, 2], indices i < j, sorted.
    """
    if not 0 <= max_distance < HASH_BITS:
        raise ValueError(f'max_distance={max_distance} must lie between 0 and {HASH_BITS - 1}')
    if slack is None:
        slack = int(len(hashes) > MANY)
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), -1), axis=1)
    num_bands = max_distance // (slack + 1) + 1
    found = np.zeros(0, np.int64)
    for band in range(num_bands):
        # Neighbouring bits agree often, so a band takes bits from all over the image. 62 bits make
        # an int64 key; a longer band may be cut, for it only has to agree where it is looked at.
        key_bits = bits[:, band::num_bands][:, :62].astype(np.int64)
        places = 1 << np.arange(key_bits.shape[1])
        whole = key_bits @ places
        for left_out in places if slack else (0,):
            keys = whole & ~left_out
            order = np.argsort(keys, kind='stable')
            pairs = _pairs_within_equal_keys(order, keys[order], hashes, max_distance)
            # One number a pair, each once: most are found in several bands.
            found = np.union1d(found, pairs[:, 0] * len(hashes) + pairs[:, 1])
    return np.stack(np.divmod(found, max(len(hashes), 1)), axis=1)


def _pairs_within_equal_keys(
    order: np.ndarray, sorted_keys: np.ndarray, hashes: np.ndarray, max_distance: int
) -> np.ndarray:
    """Compares each hash with the next, the next but one, ... as long as their keys are equal."""
    sorted_hashes = hashes[order]
    left = np.arange(len(order))
    found = [np.zeros((0, 2), np.int64)]
    for shift in range(1, len(order)):
        left = left[left + shift < len(order)]
        left = left[sorted_keys[left] == sorted_keys[left + shift]]
        if not len(left):
            break
        different = np.bitwise_count(sorted_hashes[left] ^ sorted_hashes[left + shift])
        near = left[different.sum(axis=1, dtype=np.int64) <= max_distance]
        found.append(np.stack([order[near], order[near + shift]], axis=1))
    return np.sort(np.concatenate(found), axis=1)


def components(hashes: np.ndarray, max_distance: int) -> np.ndarray:
    """Returns the connected component of each hash under the near-duplicate relation.

    Args:
      hashes: uint64 [N, 4].
      max_distance: bits, 0 to 255.

    Returns:
      int64 [N]: the smallest index in the hash's component.
    """
    # Equal hashes are one node: a thousand copies of a blank image are not half a million pairs.
    unique, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    component = groups.linked(near_pairs(unique, max_distance), len(unique))
    smallest = np.full(len(unique), len(hashes), np.int64)
    np.minimum.at(smallest, component, first)
    return smallest[component][inverse.reshape(-1)]


def group_names(names: Sequence[str], hashes: np.ndarray, max_distance: int) -> dict[str, str]:
    """Returns, for each name, the smallest name in its component: what may not straddle a split.

    Args:
      names: N file names, all different.
      hashes: uint64 [N, 4], in the same order.
      max_distance: bits, 0 to 255.
    """
    order = sorted(range(len(names)), key=lambda index: names[index])
    labels = components(hashes[order], max_distance)
    return {names[index]: names[order[label]] for index, label in zip(order, labels, strict=True)}
