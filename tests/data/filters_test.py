import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.data import filters


def images(count=2, size=12, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((count, size, size, 3), np.float32))


def run(x, **strengths):
    strengths = {name: jnp.asarray(values, jnp.float32) for name, values in strengths.items()}
    return np.moveaxis(np.asarray(filters.filter_images(x, strengths)), 1, 3)


@pytest.mark.parametrize('side', [1, 7])
def test_resampling_is_what_resizing_there_and_back_does(side):
    x = images()
    small = jax.image.resize(x, (2, side, side, 3), 'linear')
    expected = jax.image.resize(small, x.shape, 'linear')
    np.testing.assert_allclose(run(x, resample=[side, side]), expected, atol=1e-6)


def test_each_image_has_its_own_strength_and_zero_leaves_it_as_it_is():
    x = images(3)
    for name in ('resample', 'blur'):
        both = run(x, **{name: [0, 3, 0]})
        np.testing.assert_array_equal(both[[0, 2]], x[jnp.array([0, 2])])
        np.testing.assert_array_equal(both[1], run(x, **{name: [3, 3, 3]})[1])
        assert np.abs(both[1] - x[1]).max() > 0.1
    np.testing.assert_array_equal(run(x, resample=[12, 13, 400]), x)
    still = run(x, motion_blur=[[0, 0], [1, 1], [0.5, 0]], sharpen=[0, 0, 0])
    np.testing.assert_array_equal(still, x)


def test_gaussian_has_the_deviation_it_is_asked_for():
    middle = np.asarray(filters.gaussian(jnp.array([1.0, 2.5]), 41))[:, 20]
    distance = np.arange(41) - 20
    np.testing.assert_allclose(middle.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(middle @ distance**2, [1.0, 6.25], rtol=1e-4)
    # At the edge, what lies beyond is left out.
    corner = np.exp(-(np.arange(41) ** 2) / 2)
    edge = filters.gaussian(jnp.array([1.0]), 41)[0, 0]
    np.testing.assert_allclose(edge, corner / corner.sum(), atol=1e-6)


def test_a_path_of_three_pixels_is_their_mean_along_one_axis():
    x = images()
    across = run(x, motion_blur=[[3, 0], [0, 3]])
    expected = (x[0, :, :-2] + x[0, :, 1:-1] + x[0, :, 2:]) / 3
    np.testing.assert_allclose(across[0, :, 1:-1], expected, atol=1e-6)
    expected = (x[1, :-2] + x[1, 1:-1] + x[1, 2:]) / 3
    np.testing.assert_allclose(across[1, 1:-1], expected, atol=1e-6)
    half = filters.box(jnp.array([2.0]), 5)[0, 2]
    np.testing.assert_allclose(half, [0, 0.25, 0.5, 0.25, 0], atol=1e-7)


def test_sharpening_adds_what_a_blur_takes_away():
    x = images()
    blurred = run(x, blur=[1, 1])
    sharp = run(x, blur=[1, 1], sharpen=[0, 0.7])
    np.testing.assert_array_equal(sharp[0], blurred[0])
    np.testing.assert_allclose(sharp[1], x[1] + 0.7 * (x[1] - blurred[1]), atol=1e-6)


def test_of_several_filters_an_image_gets_the_first():
    x = images(4)
    strengths = {
        'resample': [0, 0, 0, 5],
        'motion_blur': [[0, 1], [3, 0], [0, 4], [3, 3]],
        'blur': [1, 2, 0, 2],
    }
    out = run(x, **strengths)
    for image, name in enumerate(('blur', 'motion_blur', 'motion_blur', 'resample')):
        np.testing.assert_array_equal(out[image], run(x, **{name: strengths[name]})[image])
