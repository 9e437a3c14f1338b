import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.data import augment


def images(count=3, size=8, seed=0):
    return np.random.default_rng(seed).random((count, size, size, 3), np.float32)


def affine(x, size, angle=0.0, zoom=1.0, shift=(0.0, 0.0), flip=False):
    count = len(x)
    return np.asarray(
        augment.affine(
            jnp.asarray(x),
            size,
            angle=jnp.full(count, angle),
            zoom=jnp.full(count, zoom),
            shift=jnp.tile(jnp.array(shift), (count, 1)),
            flip=jnp.full(count, flip),
        )
    )


@pytest.mark.parametrize('size', [7, 8])
@pytest.mark.parametrize('quarters', [-1, 0, 1, 2])
def test_quarter_turns_are_exact(size, quarters):
    x = images(size=size)
    np.testing.assert_array_equal(
        affine(x, size, angle=90.0 * quarters), np.rot90(x, quarters, axes=(1, 2))
    )


def test_whole_shift_moves_pixels_right_and_down_and_repeats_the_edge():
    x = images()
    shifted = affine(x, 8, shift=(2.0, 1.0))
    padded = np.pad(x, ((0, 0), (1, 0), (2, 0), (0, 0)), mode='edge')[:, :8, :8]
    np.testing.assert_array_equal(shifted, padded)


def test_half_pixel_shift_averages_neighbours():
    x = images()
    shifted = affine(x, 8, shift=(-0.5, 0.0))
    np.testing.assert_allclose(shifted[:, :, :7], (x[:, :, :7] + x[:, :, 1:]) / 2, atol=1e-6)


def test_flip_comes_before_the_rotation():
    x = images()
    np.testing.assert_array_equal(affine(x, 8, flip=True), x[:, :, ::-1])
    np.testing.assert_array_equal(
        affine(x, 8, flip=True, angle=90.0), np.rot90(x[:, :, ::-1], axes=(1, 2))
    )


def test_zoom_by_two_magnifies_about_the_centre():
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[None, None, :, None], (1, 8, 8, 3))
    zoomed = affine(np.ascontiguousarray(ramp), 8, zoom=2.0)
    np.testing.assert_allclose(zoomed[0, 3, :, 0], 3.5 + (np.arange(8) - 3.5) / 2, atol=1e-6)


def test_crop_is_the_middle():
    x = images(size=12)
    np.testing.assert_array_equal(affine(x, 8), x[:, 2:10, 2:10])
    np.testing.assert_array_equal(augment.center_crop(x, 8), x[:, 2:10, 2:10])


def test_gain_is_clipped():
    x = np.array([0.2, 0.6, 1.0], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(
        augment.brighten(jnp.asarray(x), jnp.array([2.0])).ravel(), [0.4, 1.0, 1.0], rtol=1e-6
    )


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_everything_off_is_the_center_crop():
    x = jnp.asarray(images(size=12))
    result = augment.augment(x, keys(3), 8, augment.Ranges())
    np.testing.assert_array_equal(result, augment.center_crop(x, 8))


def test_each_part_alone_in_the_pipeline():
    """One part at its extreme, found again by trying what it can have done."""
    x = images(count=64, size=9)
    k = keys(64)

    flipped = np.asarray(augment.augment(jnp.asarray(x), k, 9, augment.Ranges(flip=0.5)))
    is_same = (flipped == x).all(axis=(1, 2, 3))
    is_mirrored = (flipped == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (is_same ^ is_mirrored).all()
    assert 16 < is_mirrored.sum() < 48
    always = augment.augment(jnp.asarray(x), k, 9, augment.Ranges(flip=1.0))
    np.testing.assert_array_equal(always, x[:, :, ::-1])

    bright = np.asarray(augment.augment(jnp.asarray(x), k, 9, augment.Ranges(brightness=0.3)))
    gain = np.array([np.median(b[b < 1] / a[b < 1]) for a, b in zip(x, bright, strict=True)])
    np.testing.assert_allclose(bright, np.clip(x * gain[:, None, None, None], 0, 1), atol=1e-5)
    assert gain.min() > 0.69
    assert gain.max() < 1.31
    assert gain.max() - gain.min() > 0.4

    # A horizontal ramp tells the shift, and with a vertical one the angle and the zoom.
    offsets = np.arange(33, dtype=np.float32) - 16
    ramp = np.stack([*np.meshgrid(offsets, offsets), np.zeros((33, 33))], -1).astype(np.float32)
    ramps = jnp.asarray(np.repeat(ramp[None], 64, 0))

    def centre(ranges):
        out = np.asarray(augment.augment(ramps, k, 5, ranges))
        middle = out[:, 2, 2, :2]
        along = (out[:, 2, 3] - out[:, 2, 1])[:, :2] / 2  # what a step to the right does
        return middle, along

    middle, along = centre(augment.Ranges(shift=0.4))
    assert np.abs(middle).max() <= 0.4 * 5 + 1e-3
    assert np.abs(middle).max() > 1.5
    np.testing.assert_allclose(along, np.tile([1, 0], (64, 1)), atol=1e-3)

    middle, along = centre(augment.Ranges(rotation=30))
    np.testing.assert_allclose(middle, 0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(along, axis=1), 1, atol=1e-3)
    angles = np.rad2deg(np.arctan2(along[:, 1], along[:, 0]))
    assert 25 < np.abs(angles).max() <= 30.1
    assert angles.min() < 0 < angles.max()

    middle, along = centre(augment.Ranges(scale=0.2))
    np.testing.assert_allclose(middle, 0, atol=1e-3)
    zoom = 1 / along[:, 0]
    assert 0.8 <= zoom.min() < 0.87
    assert 1.13 < zoom.max() <= 1.2001


def test_an_example_gets_the_same_wherever_it_stands():
    x, k = jnp.asarray(images(count=6, size=12)), keys(6)
    ranges = augment.Ranges(rotation=15, scale=0.1, shift=0.1, flip=0.5, brightness=0.3)
    whole = augment.augment(x, k, 8, ranges)
    parts = [augment.augment(x[i : i + 2], k[i : i + 2], 8, ranges) for i in (0, 2, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1


def test_normalizations():
    x = images(count=2)
    np.testing.assert_array_equal(augment.normalize(x, 'unit'), x)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(augment.normalize(x, 'imagenet'), (x - mean) / std, atol=1e-6)
    standardized = np.asarray(augment.normalize(jnp.asarray(x), 'standardize'))
    np.testing.assert_allclose(standardized.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(standardized.std(axis=(1, 2, 3)), 1, atol=1e-5)
    one_colour = augment.normalize(jnp.full((1, 4, 4, 3), 0.5), 'standardize')
    np.testing.assert_array_equal(one_colour, np.zeros((1, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"normalization='zscore' is not one of unit"):
        augment.normalize(x, 'zscore')


def test_uint8_to_unit():
    x = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(augment.to_unit(jnp.asarray(x)).ravel(), [0, 0.2, 1], rtol=1e-6)
