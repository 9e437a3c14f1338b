"""Conditions under which a camera may see faces, each in five strengths, for evaluation.

All are one program, `create_step`: what differs between them are numbers that it is given. They
apply to the image as it is read, before its middle is cropped. Lengths count from the side of the
crop, which is what the network sees.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybrid.data import augment, camera

# What leaves an image as it is; the names of what a condition may change.
NEUTRAL = {
    **dict.fromkeys(('gain', 'warmth', 'contrast', 'saturation', 'gamma', 'zoom'), 1.0),
    **dict.fromkeys(('resample', 'blur', 'motion_blur', 'sharpen', 'noise', 'jpeg'), 0.0),
    **dict.fromkeys(('rotation', 'shift', 'occlusion'), 0.0),
}
# The blur of the unsharp mask, as a share of the side of the crop.
SHARPEN_RADIUS = 0.01
# Where the middle of what stands in the way is, by turns: over the eyes, over the mouth, over
# either side.
_OCCLUDED = ((0.5, 0.35), (0.5, 0.7), (0.3, 0.5), (0.7, 0.5))
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))


@dataclasses.dataclass(frozen=True)
class Condition:
    """A condition.

    Attributes:
      name: What it is called.
      unit: What its strengths are.
      strengths: Five of them, from weak to strong.
      changes: A strength as changes of `NEUTRAL`.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    changes: Callable[[float], Mapping[str, float]]


def _one(name: str, unit: str, strengths: tuple[float, ...], key: str) -> Condition:
    return Condition(name, unit, strengths, lambda strength: {key: strength})


CONDITIONS = (
    _one('brighter', 'gain', (1.15, 1.3, 1.5, 1.75, 2.0), 'gain'),
    _one('darker', 'gain', (0.85, 0.7, 0.55, 0.4, 0.3), 'gain'),
    _one('more_contrast', 'factor', (1.15, 1.3, 1.5, 1.75, 2.0), 'contrast'),
    _one('less_contrast', 'factor', (0.85, 0.7, 0.55, 0.4, 0.25), 'contrast'),
    _one('gamma_darker', 'exponent', (1.2, 1.4, 1.6, 2.0, 2.5), 'gamma'),
    _one('gamma_brighter', 'exponent', (0.85, 0.7, 0.6, 0.5, 0.4), 'gamma'),
    _one('warmer', 'red/green', (1.1, 1.2, 1.35, 1.5, 1.75), 'warmth'),
    _one('colder', 'red/green', (0.9, 0.8, 0.7, 0.6, 0.5), 'warmth'),
    Condition(
        'grey', 'share', (0.2, 0.4, 0.6, 0.8, 1.0), lambda strength: {'saturation': 1 - strength}
    ),
    _one('blur', 'of the side', (0.005, 0.01, 0.015, 0.0225, 0.03), 'blur'),
    _one('motion_blur', 'of the side', (0.02, 0.04, 0.06, 0.09, 0.12), 'motion_blur'),
    _one('sharpening', 'amount', (0.5, 1.0, 1.5, 2.0, 3.0), 'sharpen'),
    _one('noise', 'deviation', (0.01, 0.02, 0.04, 0.06, 0.09), 'noise'),
    _one('jpeg', 'quality', (70, 50, 30, 20, 10), 'jpeg'),
    _one('low_resolution', 'pixels', (64, 48, 40, 32, 24), 'resample'),
    _one('rotation', 'degrees', (5, 10, 15, 20, 30), 'rotation'),
    _one('tighter_crop', 'zoom', (1.05, 1.1, 1.15, 1.2, 1.3), 'zoom'),
    _one('looser_crop', 'zoom', (0.95, 0.9, 0.85, 0.8, 0.7), 'zoom'),
    _one('shift', 'of the side', (0.02, 0.04, 0.06, 0.08, 0.12), 'shift'),
    _one('occlusion', 'of the area', (0.05, 0.1, 0.15, 0.2, 0.3), 'occlusion'),
)


def to_arrays(condition: Condition | None = None, strength: float = 0.0) -> dict[str, np.ndarray]:
    """The numbers that the program of `create_step` takes; of no condition, the neutral ones."""
    changes = condition.changes(strength) if condition else {}
    return {
        name: np.asarray(value, np.float32) for name, value in (NEUTRAL | dict(changes)).items()
    }


def create_step(size: int) -> Callable[[Mapping[str, jax.Array], Mapping[str, Any]], dict]:
    """Returns the per-device `step(numbers, batch) -> batch`, whose images are seen under them.

    What has a direction takes it by turns, from the place of an example in the split: half of the
    images are rotated either way, quarters shifted to each side. Neither devices nor the size of
    batches change what an example gets.

    Args:
      size: Side in pixels of the crop that the network sees.
    """

    def step(numbers: Mapping[str, jax.Array], batch: Mapping[str, Any]) -> dict[str, Any]:
        images = augment.to_unit(batch['image'])
        index, side = batch['index'], images.shape[1]
        turn = index % 4
        direction = jnp.array(_DIRECTIONS, jnp.float32)[turn]
        images = augment.affine(
            images,
            side,
            angle=numbers['rotation'] * (1 - 2 * (index % 2)),
            zoom=jnp.broadcast_to(numbers['zoom'], index.shape),
            shift=numbers['shift'] * size * direction,
            flip=jnp.zeros(index.shape, bool),
        )
        images = camera.distort(images, _strengths(numbers, index, size, side))
        # As a file holds it.
        return {**batch, 'image': jnp.round(255 * images).astype(jnp.uint8)}

    return step


def _strengths(
    numbers: Mapping[str, jax.Array], index: jax.Array, size: int, side: int
) -> camera.Strengths:
    """The numbers for each image of `index` [B], as `camera.distort` takes them."""

    def each(value: Any) -> jax.Array:
        return jnp.broadcast_to(value, index.shape)

    names = ('gain', 'contrast', 'saturation', 'gamma', 'sharpen', 'noise', 'jpeg')
    strengths = {name: each(numbers[name]) for name in names}
    warmth = each(numbers['warmth'])
    strengths['white_balance'] = jnp.stack([warmth, 1 / warmth], axis=1)
    # The face has so many pixels when the crop has: the image is larger than it.
    strengths['resample'] = each(numbers['resample'] * (side / size))
    across, length = index % 2 == 0, numbers['motion_blur'] * size
    paths = [jnp.where(across, length, 0), jnp.where(across, 0, length)]
    strengths['motion_blur'] = jnp.stack(paths, axis=1)
    radius = jnp.where(numbers['sharpen'] > 0, SHARPEN_RADIUS, numbers['blur'])
    strengths['blur'] = each(radius * size)
    strengths['noise_seed'] = index.astype(jnp.uint32)
    # A square of middle grey, in shares of the side of the image.
    middle = 0.5 + (jnp.array(_OCCLUDED)[index % 4] - 0.5) * (size / side)
    half = 0.5 * jnp.sqrt(numbers['occlusion']) * (size / side)
    grey = jnp.full((len(index), 3), 0.5)
    strengths['erase'] = jnp.concatenate([middle - half, middle + half, grey], axis=1)
    return strengths
