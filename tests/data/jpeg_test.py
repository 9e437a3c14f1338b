import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.data import jpeg


def picture(size):
    """Smooth shades, an edge, and some texture, of all colours: uint8 [size, size, 3]."""
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    red = 120 + 100 * np.sin(5 * x + 2 * y)
    green = 90 + 80 * x + 60 * (x > 0.6)
    blue = 60 + 120 * y + 30 * np.sin(40 * x * y)
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255).astype(np.uint8)


def compress(image, quality):
    planes = jnp.moveaxis(jnp.asarray(image, jnp.float32) / 255, 2, 0)[None]
    planes = jax.jit(jpeg.compress)(planes, jnp.array([quality]))
    return 255 * np.moveaxis(np.asarray(planes[0]), 0, 2)


@pytest.mark.parametrize('size', [48, 50])
def test_the_loss_is_that_of_libjpeg(size):
    image = picture(size)
    for quality in (5, 20, 50, 80, 95):
        coded = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        theirs = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert theirs is not None
        theirs = theirs[..., ::-1].astype(np.float32)
        ours = compress(image, quality)
        loss = np.sqrt(np.mean((theirs - image) ** 2))
        # libjpeg rounds pixels and colours in between, so that a few coefficients differ.
        assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.2 * loss + 0.5, (quality, loss)
        assert np.sqrt(np.mean((ours - image) ** 2)) == pytest.approx(loss, rel=0.05)


def test_tables_are_those_of_the_standard_scaled_as_libjpeg_does():
    base = np.arange(1, 65, dtype=np.float32).reshape(8, 8)
    found = jpeg.tables(jnp.array([50, 25, 75, 100, 1]), base)
    np.testing.assert_array_equal(found[0], base)
    np.testing.assert_array_equal(found[1], 2 * base)
    np.testing.assert_array_equal(found[2], np.floor((base * 50 + 50) / 100).clip(1))
    np.testing.assert_array_equal(found[3], np.ones((8, 8)))
    np.testing.assert_array_equal(found[4], np.minimum(50 * base, 255))


def test_no_quality_leaves_an_image_as_it_is():
    image = picture(48)
    np.testing.assert_allclose(compress(image, 0), image, rtol=1e-6)
