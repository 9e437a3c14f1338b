"""Mixtures of two examples, faces and labels: mixup and cutmix.

Mixup is the weighted mean of two images (Zhang et al., https://arxiv.org/abs/1710.09412), cutmix a
rectangle of one in the other (Yun et al., https://arxiv.org/abs/1905.04899). The loss of a mixture
is the mean, with the same weights, of its losses by both labels. The other example is the next one
of the global batch, wherever that is, so that neither devices nor processes change what is trained.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from hybrid import devices
from hybrid.data import draws
from hybrid.data.draws import Ranges

# As in `draws`: these draws are apart from all others.
_PURPOSE = 0x6D697865

Labels = Mapping[str, jax.Array]
# Labels to losses [B], and how much each counts [B]: 0 where the label is unknown.
Losses = Callable[[Labels], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Images of two examples each, and what is true of them.

    Attributes:
      images: [B, S, S, 3].
      labels: The columns of the example itself, which has the larger share of its image.
      other: Those of the other example.
      share: float32 [B], that of the other example, 0..0.5.
    """

    images: jax.Array
    labels: Labels
    other: Labels
    share: jax.Array

    def losses(self, losses: Losses) -> tuple[jax.Array, jax.Array]:
        """The losses by both labels, [2 B], and how much each counts, [2 B]."""
        (own, weight), (other, other_weight) = losses(self.labels), losses(self.other)
        weights = [weight * (1 - self.share), other_weight * self.share]
        return jnp.concatenate([own, other]), jnp.concatenate(weights)


def mix(images: jax.Array, batch: Labels, keys: jax.Array, ranges: Ranges) -> Mixture:
    """Mixes each example of this device with the next of the global batch.

    Call it in a function that is mapped over `devices.AXIS`.

    Args:
      images: [B, S, S, 3], augmented.
      batch: The columns of the batch, `position` among them.
      keys: [B], the keys of the examples.
      ranges: `mixup` and `cutmix`, at least one of which is not 0, and `share`.
    """
    # Computed once, not for each use: the compiler would fuse it into both.
    images = jax.lax.optimization_barrier(images)
    labels = {name: column for name, column in batch.items() if name != 'image'}
    position = batch['position']
    gathered = jax.lax.all_gather((position, images, labels), devices.AXIS, tiled=True)
    positions, all_images, all_labels = gathered
    rank = jnp.sum(positions < position[:, None], axis=1)
    following = jnp.argsort(positions)[(rank + 1) % len(positions)]
    other_images, other = jax.tree.map(lambda x: x[following], (all_images, all_labels))
    weight = draw_weights(keys, images.shape[1], ranges)
    mixed = images + weight[..., None] * (other_images - images)
    return Mixture(mixed, labels, other, weight.mean(axis=(1, 2)))


def draw_weights(keys: jax.Array, size: int, ranges: Ranges) -> jax.Array:
    """Draws how much of each pixel is of the other example.

    Returns:
      [B, size, size]: the same number everywhere for mixup, 1 in a rectangle and 0 elsewhere for
      cutmix; on average at most a half.
    """
    u = draws.draw_numbers(keys)
    use_cutmix = u['mix_kind'] < 0.5 if ranges.mixup else jnp.ones(len(keys), bool)
    use_cutmix &= ranges.cutmix > 0
    alpha = jnp.where(use_cutmix, ranges.cutmix, ranges.mixup)

    def draw(key: jax.Array, alpha: jax.Array) -> jax.Array:
        return jax.random.beta(jax.random.fold_in(key, _PURPOSE), alpha, alpha)

    share = jax.vmap(draw)(keys, alpha)
    share = jnp.where(u['mixed'] < ranges.share, jnp.minimum(share, 1 - share), 0)
    everywhere = jnp.broadcast_to(share[:, None, None], (len(keys), size, size))
    if not ranges.cutmix:
        return everywhere
    # Of the share of the area, with the ratio of the image's sides; all of it inside.
    side = jnp.sqrt(share) * size
    pixel = jnp.arange(size) + 0.5

    def inside(start: jax.Array) -> jax.Array:
        first = (start * (size - side))[:, None]
        return (pixel >= first) & (pixel < first + side[:, None])

    rectangle = inside(u['mix_y'])[:, :, None] & inside(u['mix_x'])[:, None, :]
    return jnp.where(use_cutmix[:, None, None], rectangle, everywhere)
