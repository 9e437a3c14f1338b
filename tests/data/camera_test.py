import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.data import camera

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def images(count=2, size=16, seed=0):
    x = np.random.default_rng(seed).uniform(0.3, 0.7, (count, size, size, 3))
    return x.astype(np.float32)


def distort(x, **strengths):
    strengths = {name: jnp.asarray(values) for name, values in strengths.items()}
    return np.asarray(jax.jit(camera.distort)(jnp.asarray(x), strengths))


NEUTRAL = {
    **{name: [0.0, 0.0] for name in ('resample', 'blur', 'sharpen', 'hue', 'noise', 'jpeg')},
    **{name: [1.0, 1.0] for name in ('gain', 'contrast', 'saturation', 'gamma')},
    'motion_blur': np.zeros((2, 2), np.float32),
    'white_balance': np.ones((2, 2), np.float32),
    'erase': np.zeros((2, 7), np.float32),
    'noise_seed': np.array([1, 2], np.uint32),
}


def test_neutral_strengths_leave_an_image_as_it_is():
    x = images()
    assert camera.distort(x, {}) is x
    np.testing.assert_allclose(distort(x, **NEUTRAL), x, atol=2e-6)


@pytest.mark.parametrize('name', ['gain', 'contrast', 'saturation', 'gamma'])
def test_factors(name):
    x, factors = images(), np.array([0.8, 1.3], np.float32)
    by = factors[:, None, None, None]
    grey = (x @ LUMA)[..., None]
    expected = {
        'gain': np.clip(by * x, 0, 1),
        'contrast': 0.5 + by * (x - 0.5),
        'saturation': grey + by * (x - grey),
        'gamma': x**by,
    }[name]
    np.testing.assert_allclose(distort(x, **{name: factors}), expected, atol=2e-6)


def test_saturation_of_zero_is_grey():
    x = images()
    grey = distort(x, saturation=np.zeros(2, np.float32))
    np.testing.assert_allclose(grey, np.repeat((x @ LUMA)[..., None], 3, -1), atol=1e-6)


def test_white_balance_scales_colours_and_keeps_the_luma_of_grey():
    gains = np.array([[1.5, 0.5], [0.9, 1.2]], np.float32)
    x = np.full((2, 16, 16, 3), 0.4, np.float32)
    out = distort(x, white_balance=gains)[:, 0, 0]
    np.testing.assert_allclose(out @ LUMA, 0.4, rtol=1e-5)
    np.testing.assert_allclose(out[:, [0, 2]] / out[:, 1:2], gains, rtol=1e-5)


def test_hue_turns_the_chroma_and_keeps_the_luma():
    x = images(1, 4)
    turned = distort(x, hue=np.array([40.0], np.float32))
    np.testing.assert_allclose(turned @ LUMA, x @ LUMA, atol=2e-3)

    def angle(pixels):
        yiq = np.array([colorsys.rgb_to_yiq(*pixel) for pixel in pixels.reshape(-1, 3)])
        return np.rad2deg(np.arctan2(yiq[:, 2], yiq[:, 1]))

    difference = (angle(turned) - angle(x)) % 360
    # The standard library has other decimals in its matrix.
    np.testing.assert_allclose(difference, 40, atol=4)
    np.testing.assert_allclose(distort(x, hue=np.array([360.0], np.float32)), x, atol=1e-5)


def test_colours_follow_each_other_in_the_order_of_their_names():
    x = images()
    strengths = {
        'gain': np.array([1.1, 0.9], np.float32),
        'white_balance': np.array([[1.1, 0.9], [0.9, 1.1]], np.float32),
        'contrast': np.array([0.8, 1.2], np.float32),
        'saturation': np.array([0.5, 1.2], np.float32),
        'hue': np.array([20.0, -10.0], np.float32),
    }
    assert tuple(strengths) == camera.COLOURS
    expected = x
    for name, values in strengths.items():
        expected = distort(expected, **{name: values})
    np.testing.assert_allclose(distort(x, **strengths), expected, atol=1e-5)


def test_a_rectangle_is_erased():
    x = images(2, 8)
    rectangle = np.array([[0.25, 0.5, 0.75, 1, 0.1, 0.2, 0.3], [0] * 7], np.float32)
    out = distort(x, erase=rectangle)
    expected = x.copy()
    expected[0, 4:, 2:6] = [0.1, 0.2, 0.3]
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_noise_is_almost_normal_and_independent():
    seeds = np.array([1, 2, 3, 2], np.uint32)
    noise = np.asarray(camera.normal(jnp.asarray(seeds), (3, 64, 64)), np.float64)
    np.testing.assert_array_equal(noise[1], noise[3])
    flat = noise[:3].reshape(3, -1)
    np.testing.assert_allclose(flat.mean(axis=1), 0, atol=0.03)
    np.testing.assert_allclose(flat.std(axis=1), 1, atol=0.02)
    assert abs(np.mean(flat**3)) < 0.05
    assert 2.6 < np.mean(flat**4) < 2.8  # 3 of a normal distribution
    # Neither examples, nor colours, nor neighbours have to do with each other.
    pairs = [(flat[0], flat[1]), (noise[0, 0], noise[0, 1])]
    pairs += [(noise[0, :, :, 1:], noise[0, :, :, :-1]), (noise[0, :, 1:], noise[0, :, :-1])]
    for a, b in pairs:
        assert abs(np.mean(a * b)) < 4 / np.sqrt(a.size)


def test_noise_has_the_deviation_it_is_asked_for():
    x = np.full((2, 32, 32, 3), 0.5, np.float32)
    seeds = np.array([7, 8], np.uint32)
    out = distort(x, noise=np.array([0.02, 0.1], np.float32), noise_seed=seeds)
    np.testing.assert_allclose((out - x).std(axis=(1, 2, 3)), [0.02, 0.1], rtol=0.03)


def test_an_image_gets_the_same_wherever_it_stands():
    x = np.concatenate([images(), images(seed=1)])
    strengths = {name: np.concatenate([v, v]) for name, v in NEUTRAL.items()}
    strengths |= {
        'blur': np.array([0.5, 1, 1.5, 2], np.float32),
        'gain': np.array([0.5, 1, 1.5, 2], np.float32),
        'noise': np.array([0.1, 0.1, 0.1, 0.1], np.float32),
        'noise_seed': np.arange(4, dtype=np.uint32),
    }
    whole = distort(x, **strengths)
    for half in (slice(0, 2), slice(2, 4)):
        part = distort(x[half], **{name: v[half] for name, v in strengths.items()})
        np.testing.assert_allclose(whole[half], part, atol=1e-6)
