"""What cameras, light and files do to a face, on the device and for each image by itself.

`distort` does all of it, in the order in which it happens in a camera: focus and motion, colours,
what stands in the way, noise, JPEG. It is made to cost a few hundredths of a training step on
a CPU: filters are products of matrices, everything linear in colour is one 3x3 matrix, and all that
is done to each pixel by itself is one pass over the batch. dm-pix has some of it, a pass for each,
but its Gaussian blur, a convolution for each image, takes twenty times as long as that of
`filters`.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from hybrid.data import filters, jpeg

# YIQ, in which a rotation of the two axes of chroma changes the hue (the matrix of FCC NTSC).
_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)
_FROM_YIQ = np.linalg.inv(_TO_YIQ)

FILTERS = ('resample', 'blur', 'motion_blur', 'sharpen')
COLOURS = ('gain', 'white_balance', 'contrast', 'saturation', 'hue')

Strengths = Mapping[str, jax.Array]


def distort(images: jax.Array, strengths: Strengths) -> jax.Array:
    """Distorts images; what `strengths` does not name is left out of the program.

    Args:
      images: [B, S, S, 3] float32 in 0..1.
      strengths: Arrays [B] by name, and what leaves an image as it is:

        `resample`: the side in pixels to which the image is shrunk before it is magnified again; 0.
        `blur`: the standard deviation of a Gaussian in pixels; 0.
        `motion_blur`: [B, 2], the length in pixels of a path along x and along y; 0.
        `sharpen`: the amount of an unsharp mask, whose own blur are the other filters; 0.
        `gain`: a factor of all colours; 1.
        `white_balance`: [B, 2], factors of red and blue, beside which that of green is 1, before
        all three are scaled so that grey keeps its luma; 1.
        `contrast`: a factor of the distance from middle grey; 1.
        `saturation`: a factor of the distance from grey of the same luma, so that 0 is grey; 1.
        `hue`: an angle in degrees, by which the chroma of YIQ is rotated; 0.
        `gamma`: an exponent, above 1 darkens; 1.
        `erase`: [B, 7], a rectangle and its colour: left, top, right and bottom as shares of the
        side, red, green and blue; an empty one, 0.
        `noise`: the standard deviation of noise; 0.
        `noise_seed`: uint32, wanted with `noise`.
        `jpeg`: the quality in 1..100; 0.

    Returns:
      [B, S, S, 3] float32 in 0..1.
    """
    if not strengths:
        return images
    # Computed once: fused into each use, the affine map would be computed for all of them.
    images = jax.lax.optimization_barrier(images)
    # Planes: with the colour as the last axis of three, no loop over it would fill a register.
    planes = filters.filter_images(images, strengths)
    if any(name in strengths for name in COLOURS):
        matrix, offset = colour_matrix(strengths)
        parts = [matrix[:, :, c, None, None] * planes[:, None, c] for c in range(3)]
        planes = parts[0] + parts[1] + parts[2] + offset[:, None, None, None]
    planes = jnp.clip(planes, 0, 1)
    if 'gamma' in strengths:
        planes = jnp.exp(strengths['gamma'][:, None, None, None] * jnp.log(planes))
    if 'erase' in strengths:
        planes = _erase(planes, strengths['erase'])
    if 'noise' in strengths:
        deviation = strengths['noise'][:, None, None, None]
        noise = normal(strengths['noise_seed'], planes.shape[1:])
        planes = jnp.clip(planes + deviation * noise, 0, 1)
    if 'jpeg' in strengths:
        planes = jpeg.compress(planes, strengths['jpeg'])
    return jnp.moveaxis(planes, 1, 3)


def colour_matrix(strengths: Strengths) -> tuple[jax.Array, jax.Array]:
    """One matrix [B, 3, 3] and one number [B], which is added, for the colours of `distort`.

    They apply from left to right as `COLOURS` names them. All but the first two leave middle grey
    as it is, so that one number is enough for what contrast adds.
    """
    count = len(next(iter(strengths.values())))
    luma, one = jnp.array(jpeg.LUMA), jnp.eye(3)
    matrix = jnp.broadcast_to(one, (count, 3, 3))
    offset = jnp.zeros(count)
    if 'gain' in strengths:
        matrix = matrix * strengths['gain'][:, None, None]
    if 'white_balance' in strengths:
        red, blue = strengths['white_balance'].T
        gains = jnp.stack([red, jnp.ones_like(red), blue], axis=1)
        gains /= jnp.sum(gains * luma, axis=1, keepdims=True)
        matrix = gains[:, :, None] * matrix
    if 'contrast' in strengths:
        factor = strengths['contrast']
        matrix, offset = matrix * factor[:, None, None], 0.5 * (1 - factor)
    if 'saturation' in strengths:
        factor = strengths['saturation'][:, None, None]
        matrix = filters.product(factor * one + (1 - factor) * luma, matrix)
    if 'hue' in strengths:
        angle = jnp.deg2rad(strengths['hue'])
        cos, sin, no = jnp.cos(angle), jnp.sin(angle), jnp.zeros(count)
        rows = [[no + 1, no, no], [no, cos, -sin], [no, sin, cos]]
        turn = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
        turn = filters.product(_FROM_YIQ, filters.product(turn, _TO_YIQ))
        matrix = filters.product(turn, matrix)
    return matrix, offset


def _erase(planes: jax.Array, rectangle: jax.Array) -> jax.Array:
    """Fills a rectangle of each image [B, 3, S, S] with a colour, see `distort`."""
    left, top, right, bottom = (rectangle[:, k, None] for k in range(4))
    place = (jnp.arange(planes.shape[-1]) + 0.5) / planes.shape[-1]
    across = (place >= left) & (place < right)
    down = (place >= top) & (place < bottom)
    inside = down[:, None, :, None] & across[:, None, None, :]
    return jnp.where(inside, rectangle[:, 4:, None, None], planes)


def normal(seed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Almost normal noise: [B, *shape] of mean 0 and deviation 1, from seeds uint32 [B].

    A hash of the place and the seed gives 32 bits, of which the four bytes are added up. Their sum
    lies within 3.45 deviations, and its kurtosis is 2.7 instead of 3. Threefry would take longer
    than all other distortions together. The hash is "lowbias32" of Chris Wellons' hash-prospector,
    in its version of 2023.
    """
    place = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    seed = seed.reshape(-1, *(1,) * len(shape))
    bits = place * jnp.uint32(0x9E3779B9) + seed
    for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits ^= bits >> 15
    pairs = (bits & 0x00FF00FF) + ((bits >> 8) & 0x00FF00FF)
    total = (pairs & 0xFFFF) + (pairs >> 16)
    # Of four bytes, each uniform over 0..255.
    return (total.astype(jnp.int32) - 510).astype(jnp.float32) / 147.8005
