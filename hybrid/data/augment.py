"""Augmentation on the device, inside the compiled step: drawn per example, vectorised, exact.

Rotation, zoom, shift, flip and the crop are one affine map, so a pixel is interpolated once. What
cameras and files do comes after it (`camera`), and the mixture of two examples last (`mixing`).
What an example gets depends on its key alone, never on its place in a device's share of the batch.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hybrid.data import camera, draws
from hybrid.data.draws import Ranges

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NORMALIZATIONS = ('unit', 'symmetric', 'standardize', 'imagenet')


def create_ranges(config: ConfigDict) -> Ranges:
    """The ranges of `config.augment`, all zero if it is not enabled."""
    if not config.enabled:
        return Ranges()
    return Ranges(**{name: value for name, value in config.items() if name != 'enabled'})


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 [B, H, W, 3] in 0..255 to float32 in 0..1."""
    return images.astype(jnp.float32) / 255.0


def center_crop(images: jax.Array, size: int) -> jax.Array:
    """The middle [B, size, size, 3] of [B, R, R, 3], which evaluation sees."""
    top = (images.shape[1] - size) // 2
    left = (images.shape[2] - size) // 2
    return images[:, top : top + size, left : left + size]


def normalize(images: jax.Array, normalization: str) -> jax.Array:
    """Brings float32 images [B, H, W, 3] in 0..1 to what the network expects.

    Raises:
      ValueError: for an unknown normalization.
    """
    if normalization == 'unit':
        return images
    if normalization == 'symmetric':
        return 2 * images - 1
    if normalization == 'imagenet':
        return (images - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)
    if normalization == 'standardize':
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        deviation = images.std(axis=(1, 2, 3), keepdims=True)
        # The floor keeps a one-coloured image finite: one grey level of 255.
        return (images - mean) / jnp.maximum(deviation, 1 / 255)
    raise ValueError(
        f'config.data.normalization={normalization!r} is not one of {", ".join(NORMALIZATIONS)}'
    )


def affine(
    images: jax.Array,
    size: int,
    *,
    angle: jax.Array,
    zoom: jax.Array,
    shift: jax.Array,
    flip: jax.Array,
) -> jax.Array:
    """Flips, zooms, rotates and shifts about the centre, and crops the middle, in one resampling.

    Bilinear; outside the image its nearest edge pixel continues. Whole-pixel maps (the identity, a
    flip, quarter turns, whole shifts when the sides of image and crop are both even or both odd)
    are exact.

    Args:
      images: [B, R, R, 3] float32.
      size: Side of the output in pixels.
      angle: [B] degrees, counter-clockwise.
      zoom: [B], above 1 magnifies.
      shift: [B, 2] pixels, to the right and down.
      flip: [B] bool, mirror left and right (before everything else).

    Returns:
      [B, size, size, 3] float32.
    """
    height, width = images.shape[1:3]
    offsets = jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2
    # Offsets from the crop's centre of every output pixel, then the inverse map into the input.
    x = offsets[None, None, :] - shift[:, 0, None, None]
    y = offsets[None, :, None] - shift[:, 1, None, None]
    # Rounding makes the cosine of a quarter turn 0 rather than -4e-8.
    radians = jnp.deg2rad(angle)
    cos = (jnp.round(jnp.cos(radians), 7) / zoom)[:, None, None]
    sin = (jnp.round(jnp.sin(radians), 7) / zoom)[:, None, None]
    source_x = cos * x - sin * y
    source_y = sin * x + cos * y
    source_x = jnp.where(flip[:, None, None], -source_x, source_x)
    # Weights from a float32 coordinate this large carry 1e-5 of noise; whole pixels stay whole.
    source_x = jnp.round(source_x + (width - 1) / 2, 4)
    source_y = jnp.round(source_y + (height - 1) / 2, 4)
    return jax.vmap(_bilinear)(images, source_x, source_y)


def _bilinear(image: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Samples [R, R, 3] at coordinates [S, S]; beyond the edge the edge's pixel is repeated."""
    height, width, channels = image.shape
    x = jnp.clip(x, 0, width - 1)
    y = jnp.clip(y, 0, height - 1)
    left = jnp.floor(x)
    top = jnp.floor(y)
    right_share = (x - left)[..., None]
    bottom_share = (y - top)[..., None]
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    right = jnp.minimum(left + 1, width - 1)
    bottom = jnp.minimum(top + 1, height - 1)
    pixels = image.reshape(height * width, channels)

    def take(row, column):
        return jnp.take(pixels, row * width + column, axis=0, mode='clip')

    upper = take(top, left) * (1 - right_share) + take(top, right) * right_share
    lower = take(bottom, left) * (1 - right_share) + take(bottom, right) * right_share
    return upper * (1 - bottom_share) + lower * bottom_share


def brighten(images: jax.Array, gain: jax.Array) -> jax.Array:
    """Multiplies [B, H, W, 3] in 0..1 by gain [B] and clips to 0..1.

    Without the clip, `standardize` would cancel the gain.
    """
    return jnp.clip(images * gain[:, None, None, None], 0.0, 1.0)


def augment(images: jax.Array, keys: jax.Array, size: int, ranges: Ranges) -> jax.Array:
    """Varies a batch of training images and crops them.

    Args:
      images: [B, R, R, 3] float32 in 0..1.
      keys: [B] PRNG keys, one an example.
      size: Side of the output in pixels.
      ranges: How strongly.

    Returns:
      [B, size, size, 3] float32 in 0..1.
    """

    def draw(key):
        rotation, scale, shift, flip, brightness = jax.random.split(key, 5)
        uniform = jax.random.uniform
        return {
            'angle': uniform(rotation, minval=-1.0, maxval=1.0) * ranges.rotation,
            'zoom': 1 + uniform(scale, minval=-1.0, maxval=1.0) * ranges.scale,
            'shift': uniform(shift, (2,), minval=-1.0, maxval=1.0) * ranges.shift * size,
            'flip': uniform(flip) < ranges.flip,
            'gain': 1 + uniform(brightness, minval=-1.0, maxval=1.0) * ranges.brightness,
        }

    drawn = jax.vmap(draw)(keys)
    gain = drawn.pop('gain')
    if ranges.rotation or ranges.scale or ranges.shift:
        images = affine(images, size, **drawn)
    else:
        # A flip and a crop need no interpolation.
        images = center_crop(images, size)
        images = jnp.where(drawn['flip'][:, None, None, None], images[:, :, ::-1], images)
    images = brighten(images, gain) if ranges.brightness else images
    return camera.distort(images, draws.draw_strengths(keys, size, ranges))
