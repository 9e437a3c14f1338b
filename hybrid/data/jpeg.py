"""What JPEG does to an image, in JAX: the loss of baseline JPEG, without the coding.

The colours go to YCbCr, the two of chroma are halved along both axes (4:2:0), blocks of 8 x 8 are
transformed (DCT), and the coefficients rounded to multiples of what the tables of quantisation say;
then all of it backwards, with libjpeg's smooth magnification of chroma. Everything linear, the
padding to whole blocks included, is one constant matrix along each axis: as products of large
matrices a batch takes less time than block by block, although most of their elements are 0.

See ITU-T T.81 (the tables are those of its Annex K) and, for the scale called quality, libjpeg.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from hybrid.data import filters

_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMA = np.full((8, 8), 99, np.float32)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
# From RGB to luma and to what chroma is a multiple of; JFIF, so ITU-R BT.601 over the full range.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def tables(quality: jax.Array, base: np.ndarray) -> jax.Array:
    """The quantisation tables [B, 8, 8] of qualities [B] in 1..100, from that of quality 50."""
    quality = jnp.clip(quality, 1, 100)[:, None, None]
    percent = jnp.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    return jnp.clip(jnp.floor((base * percent + 50) / 100), 1, 255)


@functools.cache
def _matrices(size: int, halved: bool) -> tuple[np.ndarray, np.ndarray]:
    """The transform of a line of `size` pixels, [P, size], and the way back, [size, P].

    P is a multiple of 8, and of the halved line as many as it takes.
    """
    padded = -(-size // 16) * 16  # Whole blocks of chroma, each of which covers 16 pixels.
    pad = np.zeros((padded, size))
    pad[np.arange(padded), np.minimum(np.arange(padded), size - 1)] = 1
    back = np.eye(size, padded)
    if halved:
        half = padded // 2
        place = np.arange(half)
        mean = np.zeros((half, padded))
        mean[place, 2 * place] = mean[place, 2 * place + 1] = 0.5
        magnify = np.zeros((padded, half))
        for side, neighbour in ((0, -1), (1, 1)):
            np.add.at(magnify, (2 * place + side, place), 0.75)
            other = np.clip(place + neighbour, 0, half - 1)
            np.add.at(magnify, (2 * place + side, other), 0.25)
        pad, back = mean @ pad, back @ magnify
    frequency, position = np.arange(8)[:, None], np.arange(8)[None, :]
    dct = np.cos((2 * position + 1) * frequency * np.pi / 16) / 2
    dct[0] /= np.sqrt(2)
    blocks = np.kron(np.eye(len(pad) // 8), dct)
    return (blocks @ pad).astype(np.float32), (back @ blocks.T).astype(np.float32)


def _along_both(planes: jax.Array, matrix: np.ndarray) -> jax.Array:
    """The matrix [Q, P] along both axes of [..., P, P]: [..., Q, Q]."""
    for _ in range(2):
        # Along the last axis of all images at once; turned over, the next time along the other.
        planes = filters.product(planes, matrix.T)
        planes = jnp.swapaxes(planes, -1, -2)
    return planes


def _quantize(planes: jax.Array, table: jax.Array, halved: bool) -> jax.Array:
    """Transforms planes [B, C, S, S] in 0..255 around 0, rounds by tables [B, 8, 8], and back."""
    forward, back = _matrices(planes.shape[-1], halved)
    coefficients = _along_both(planes, forward)
    step = jnp.tile(table, (1, *(side // 8 for side in coefficients.shape[-2:])))[:, None]
    return _along_both(jnp.round(coefficients / step) * step, back)


def compress(planes: jax.Array, quality: jax.Array) -> jax.Array:
    """Does to images what JPEG does.

    Args:
      planes: [B, 3, S, S] float32 in 0..1, red, green and blue.
      quality: [B] from 1 to 100, as of libjpeg and Pillow; where it is 0, the image stays.

    Returns:
      [B, 3, S, S] in 0..1.
    """
    quality = quality.astype(jnp.float32)
    # Computed once: fused into what follows, the pixels would be computed for each of three uses.
    planes = jax.lax.optimization_barrier(planes)
    bright = LUMA[0] * planes[:, 0] + LUMA[1] * planes[:, 1] + LUMA[2] * planes[:, 2]
    luma = 255 * bright[:, None] - 128
    # Blue and red, each less luma; divided so that both fill -0.5..0.5.
    room = 2 * (1 - LUMA[[2, 0]])[:, None, None]
    chroma = 255 * (planes[:, 2::-2] - bright[:, None]) / room
    luma = (_quantize(luma, tables(quality, _LUMA), False) + 128) / 255
    chroma = _quantize(chroma, tables(quality, _CHROMA), True) * (room / 255)
    blue, red = luma[:, 0] + chroma[:, 0], luma[:, 0] + chroma[:, 1]
    green = (luma[:, 0] - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    result = jnp.clip(jnp.stack([red, green, blue], axis=1), 0, 1)
    return jnp.where(quality[:, None, None, None] > 0, result, planes)
