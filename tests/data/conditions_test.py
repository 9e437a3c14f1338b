import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.data import augment, camera, conditions

SIDE, SIZE = 20, 16
distort = jax.jit(camera.distort)
affine = jax.jit(augment.affine, static_argnames='size')


def images(count=4):
    x = np.random.default_rng(0).integers(60, 200, (count, SIDE, SIDE, 3), np.uint8)
    return x


@pytest.fixture(scope='module')
def step():
    return jax.jit(conditions.create_step(SIZE))


@pytest.fixture(scope='module')
def step_64():
    return jax.jit(conditions.create_step(64))


def see(step, x, name, place, index=None):
    """The images under a condition in the strength of that place."""
    condition = {one.name: one for one in conditions.CONDITIONS}[name]
    numbers = conditions.to_arrays(condition, condition.strengths[place])
    index = np.arange(len(x)) if index is None else index
    return np.asarray(step(numbers, {'image': x, 'index': np.int32(index)})['image'])


def test_without_a_condition_images_stay_to_the_bit_and_labels_too(step):
    x = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    batch = {'image': x, 'index': np.arange(4, dtype=np.int32), 'age': np.arange(4.0)}
    seen = step(conditions.to_arrays(), batch)
    np.testing.assert_array_equal(seen['image'], x)
    np.testing.assert_array_equal(seen['age'], batch['age'])
    assert seen['image'].dtype == np.uint8


def test_every_condition_has_five_strengths_which_change_more_and_more(step_64):
    # Smooth, as faces are: noise alone would be gone at the first blur.
    x, y = np.meshgrid(np.linspace(0, 1, 72), np.linspace(0, 1, 72))
    planes = [100 + 80 * np.sin(29 * x + 9 * y), 110 + 60 * np.sin(28 * y), 90 + 70 * np.cos(7 * x)]
    faces = np.repeat(np.stack(planes, -1).astype(np.uint8)[None], 4, 0)
    assert len({one.name for one in conditions.CONDITIONS}) == len(conditions.CONDITIONS) == 20
    for one in conditions.CONDITIONS:
        assert len(one.strengths) == 5
        seen = [see(step_64, faces, one.name, place).astype(float) for place in range(5)]
        change = [np.abs(image - faces).mean() for image in seen]
        # A wave that is moved as far as it is long is what it was.
        if one.name not in ('shift', 'rotation'):
            assert change == sorted(change), one.name
        assert change[-1] > 0.5, one.name
        assert all(image.min() >= 0 and image.max() <= 255 for image in seen)


def test_what_strengths_mean(step):
    x = images()
    gain = np.round(np.clip(x * (np.float32(1.5) / 255), 0, 1) * 255)
    np.testing.assert_allclose(see(step, x, 'brighter', 2), gain, atol=1)
    luma = np.round(x @ np.array([0.299, 0.587, 0.114]))[..., None]
    np.testing.assert_allclose(see(step, x, 'grey', 4), np.repeat(luma, 3, -1), atol=1)
    warm = see(step, np.full((1, SIDE, SIDE, 3), 100, np.uint8), 'warmer', 2)[0, 0, 0]
    assert warm[0] / warm[1] == pytest.approx(1.35, rel=0.02)
    assert warm[1] / warm[2] == pytest.approx(1.35, rel=0.02)
    # Of the side of the crop, not of the image.
    planes = jnp.asarray(x, jnp.float32) / 255
    blurred = distort(planes, {'blur': jnp.full(4, 0.015 * SIZE)})
    np.testing.assert_allclose(see(step, x, 'blur', 2), np.round(255 * blurred), atol=1)
    turned = affine(
        planes,
        size=SIDE,
        angle=jnp.array([15.0, -15.0, 15.0, -15.0]),
        zoom=jnp.ones(4),
        shift=jnp.zeros((4, 2)),
        flip=jnp.zeros(4, bool),
    )
    np.testing.assert_allclose(see(step, x, 'rotation', 2), np.round(255 * turned), atol=1)


def test_low_resolution_counts_the_pixels_of_the_crop(step_64):
    x = np.random.default_rng(0).integers(0, 256, (4, 72, 72, 3), np.uint8)
    seen = see(step_64, x, 'low_resolution', 3)
    small = distort(jnp.asarray(x) / 255.0, {'resample': jnp.full(4, 36.0)})
    np.testing.assert_allclose(seen, np.round(255 * small), atol=1)


def test_shifts_and_what_stands_in_the_way_take_turns(step):
    x = np.repeat(images(1), 4, 0)
    seen = see(step, x, 'occlusion', 2).astype(int)
    covered = (seen == 128).all(axis=-1)
    middle = [np.argwhere(one).mean(axis=0) + 0.5 for one in covered]
    expected = [(0.35, 0.5), (0.7, 0.5), (0.5, 0.3), (0.5, 0.7)]
    found = (np.array(middle) - SIDE / 2) / SIZE + 0.5
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(covered.sum(axis=(1, 2)) / SIZE**2, 0.15, atol=0.05)
    np.testing.assert_array_equal(seen[~covered], x[~covered])

    moved = [np.abs(one - x[0]).mean() for one in see(step, x, 'shift', 4).astype(int)]
    assert min(moved) > 5
    # An example gets the same wherever it stands.
    order = [2, 0, 3, 1]
    again = see(step, x[order], 'occlusion', 2, index=order)
    np.testing.assert_array_equal(again, seen[order])
