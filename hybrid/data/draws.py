"""How strongly `config.augment` varies examples, and what it lets a camera do to each of them."""

import dataclasses

import jax
import jax.numpy as jnp

from hybrid.data import camera

# Parts these draws from those of the affine map, which are older and have to stay what they are.
_PURPOSE = 0x63616D65
# One number for each, in this order, whichever are used: so that what is drawn for one does not
# change with what else is switched on. New ones go to the end.
_NAMES = (
    *('filtered', 'filter', 'resample', 'sharpen', 'sharpen_radius', 'blur', 'motion_blur'),
    *('along', 'coloured', 'red', 'blue', 'contrast', 'saturation', 'hue', 'gamma', 'grey'),
    *('erase', 'erase_area', 'erase_aspect', 'erase_x', 'erase_y', 'erase_red', 'erase_green'),
    *('erase_blue', 'noisy', 'noise', 'noise_seed', 'compressed', 'jpeg', 'mixed', 'mix_kind'),
    *('mix_x', 'mix_y'),
)
# The blur of the unsharp mask, as shares of the side: from fine halos to coarse ones.
_SHARPEN_RADII = (0.005, 0.02)
# What is erased has at least this share of the area, and at most this ratio of its sides.
_ERASE_LEAST, _ERASE_ASPECT = 0.02, 3.0


@dataclasses.dataclass(frozen=True)
class Ranges:
    """How strongly training images are varied; zero switches a part off.

    Attributes:
      rotation: Largest angle in degrees, either way.
      scale: Zoom factor is drawn from 1 - scale .. 1 + scale.
      shift: Largest shift as a share of the output's side, both axes.
      flip: Probability of a horizontal flip.
      brightness: Gain is drawn from 1 - brightness .. 1 + brightness.

    The others are described where the keys of `config.augment` are: hybrid/default_config.py.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    share: float = 0.5
    resample: int = 0
    sharpen: float = 0.0
    blur: float = 0.0
    motion_blur: float = 0.0
    white_balance: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0
    grey: float = 0.0
    erase: float = 0.0
    erase_area: float = 0.2
    noise: float = 0.0
    jpeg: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0


def draw_numbers(keys: jax.Array) -> dict[str, jax.Array]:
    """Uniform numbers [B] in 0..1 by name, from the keys [B] of the examples; a seed as uint32."""
    bits = jax.vmap(lambda key: jax.random.bits(jax.random.fold_in(key, _PURPOSE), (len(_NAMES),)))(
        keys
    )
    # 24 bits, which float32 holds exactly.
    uniform = (bits >> 8).astype(jnp.float32) / (1 << 24)
    numbers = {name: uniform[:, k] for k, name in enumerate(_NAMES)}
    return numbers | {'noise_seed': bits[:, _NAMES.index('noise_seed')]}


def draw_strengths(keys: jax.Array, size: int, ranges: Ranges) -> camera.Strengths:
    """Draws what `camera.distort` does to each example; names only what is switched on.

    Args:
      keys: [B], the keys of the examples.
      size: Side of the images in pixels.
      ranges: How strongly.
    """
    u = draw_numbers(keys)
    strengths = _filters(u, size, ranges)

    def around_1(name: str, width: float) -> jax.Array:
        return 1 + (2 * u[name] - 1) * width

    def around_1_log(name: str, width: float) -> jax.Array:
        """From 1 / (1 + width) to 1 + width."""
        return jnp.exp((2 * u[name] - 1) * jnp.log1p(width))

    coloured = u['coloured'] < ranges.share
    if ranges.white_balance:
        gains = [around_1_log(name, ranges.white_balance) for name in ('red', 'blue')]
        strengths['white_balance'] = jnp.where(coloured[:, None], jnp.stack(gains, axis=1), 1)
    if ranges.contrast:
        strengths['contrast'] = jnp.where(coloured, around_1('contrast', ranges.contrast), 1)
    if ranges.saturation or ranges.grey:
        factor = jnp.where(coloured, around_1('saturation', ranges.saturation), 1)
        strengths['saturation'] = jnp.where(u['grey'] < ranges.grey, 0, factor)
    if ranges.hue:
        strengths['hue'] = jnp.where(coloured, (2 * u['hue'] - 1) * ranges.hue, 0)
    if ranges.gamma:
        strengths['gamma'] = jnp.where(coloured, around_1_log('gamma', ranges.gamma), 1)
    if ranges.erase:
        strengths['erase'] = _rectangle(u, ranges)
    if ranges.noise:
        noisy = u['noisy'] < ranges.share
        strengths['noise'] = jnp.where(noisy, u['noise'] * ranges.noise, 0)
        strengths['noise_seed'] = u['noise_seed']
    if ranges.jpeg:
        quality = ranges.jpeg + u['jpeg'] * (100 - ranges.jpeg)
        strengths['jpeg'] = jnp.where(u['compressed'] < ranges.share, quality, 0)
    return strengths


def _filters(u: dict[str, jax.Array], size: int, ranges: Ranges) -> dict[str, jax.Array]:
    """One filter at most for each example, of those that are switched on, with equal odds."""
    on = [name for name in camera.FILTERS if getattr(ranges, name)]
    place = jnp.floor(u['filter'] * len(on))

    def chosen(name: str) -> jax.Array:
        return (u['filtered'] < ranges.share) & (place == on.index(name))

    strengths: dict[str, jax.Array] = {}
    if 'resample' in on:
        smallest = min(ranges.resample, size)
        side = size * jnp.exp(u['resample'] * jnp.log(smallest / size))
        strengths['resample'] = jnp.where(chosen('resample'), side, 0)
    if 'blur' in on:
        strengths['blur'] = jnp.where(chosen('blur'), u['blur'] * ranges.blur * size, 0)
    if 'motion_blur' in on:
        length = jnp.where(chosen('motion_blur'), u['motion_blur'] * ranges.motion_blur * size, 0)
        across = u['along'] < 0.5
        both = [jnp.where(across, length, 0), jnp.where(across, 0, length)]
        strengths['motion_blur'] = jnp.stack(both, axis=1)
    if 'sharpen' in on:
        strengths['sharpen'] = jnp.where(chosen('sharpen'), u['sharpen'] * ranges.sharpen, 0)
        fine, coarse = _SHARPEN_RADII
        radius = size * fine * (coarse / fine) ** u['sharpen_radius']
        strengths['blur'] = jnp.where(chosen('sharpen'), radius, strengths.get('blur', 0.0))
    return strengths


def _rectangle(u: dict[str, jax.Array], ranges: Ranges) -> jax.Array:
    """What is erased of each example, [B, 7], as `camera.distort` takes it.

    As in random erasing (Zhong et al., https://arxiv.org/abs/1708.04896) the area and the ratio of
    the sides are drawn, and the place so that all of it lies inside; the colour is one for all of
    it, as of a hand or a mask.
    """
    area = _ERASE_LEAST * (ranges.erase_area / _ERASE_LEAST) ** u['erase_area']
    aspect = _ERASE_ASPECT ** (2 * u['erase_aspect'] - 1)
    width, height = jnp.minimum(jnp.sqrt(area * aspect), 1), jnp.minimum(jnp.sqrt(area / aspect), 1)
    left, top = u['erase_x'] * (1 - width), u['erase_y'] * (1 - height)
    colour = (u[f'erase_{name}'] for name in ('red', 'green', 'blue'))
    rectangle = jnp.stack([left, top, left + width, top + height, *colour], axis=1)
    return jnp.where((u['erase'] < ranges.erase)[:, None], rectangle, 0)
