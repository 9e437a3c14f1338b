"""What the encoders of this package have in common: a stem, and then stages of blocks."""

from collections.abc import Callable, Collection, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hybrid.models.dropout import block_keys, block_rate


class StageBlock(nn.Module, kw_only=True):
    """The settings that the blocks of all encoders share.

    Attributes:
      drop_path: Probability, for each example in training, of leaving out all but the shortcut.
      dtype, axis_name, kernels: See `encoders.create_module`.
    """

    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    kernels: str = 'portable'


class StagedEncoder(nn.Module, kw_only=True):
    """The settings that the encoders share, and the loop over their stages.

    Attributes:
      drop_path: Probability, for each example in training, of leaving out the last block but for
        its shortcut; for the blocks before it falls linearly to 0 for the first.
      dtype, axis_name, frozen_stages, frozen_statistics, kernels, read: See
        `encoders.create_module`.
    """

    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    frozen_stages: int = 0
    frozen_statistics: bool = False
    kernels: str = 'portable'
    read: tuple[str, ...] = ()

    @nn.nowrap
    def follows_batch(self, stage: int, train: bool) -> bool:
        """Whether the stage of this number, the stem's being 0, normalises by the batch."""
        return train and not self.frozen_statistics and stage >= self.frozen_stages

    @nn.nowrap
    def complete(self, stages: Collection[str]) -> bool:
        """Whether these stages are all that are read, so that the others need not be computed."""
        return bool(self.read) and set(self.read) <= set(stages)

    @nn.nowrap
    def run_stages(
        self,
        stem: jax.Array,
        stages: Mapping[str, Sequence[Callable[..., StageBlock]]],
        *,
        train: bool,
        dropout_keys: jax.Array | None,
    ) -> dict[str, jax.Array]:
        """Computes the stages, up to the last one that is read, inside of a compact method.

        Args:
          stem: The stem's output [B, H, W, C].
          stages: Of each stage after the stem, by name, what makes its blocks from the fields of a
            `StageBlock`. They map [B, H, W, C] and the keywords `train` and `dropout_keys` to
            [B, h, w, C].
          train: Whether this is training.
          dropout_keys: One PRNG key per example [B], or None where no block is left out.

        Returns:
          The feature map after each stage, by name, from the stem's on.
        """
        maps = {'stem': stem}
        x, number, count = stem, 0, sum(map(len, stages.values()))
        for stage, (name, blocks) in enumerate(stages.items(), start=1):
            if self.complete(maps):
                break
            drops = train and stage >= self.frozen_stages
            for index, block in enumerate(blocks):
                x = block(
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    kernels=self.kernels,
                    drop_path=block_rate(drops * self.drop_path, number, count),
                    name=f'{name}_{index}',
                )(
                    x,
                    train=self.follows_batch(stage, train),
                    dropout_keys=block_keys(dropout_keys, number),
                )
                number += 1
            maps[name] = x
        return maps

    @nn.nowrap
    def select(self, maps: Mapping[str, jax.Array]) -> jax.Array | tuple[jax.Array, ...]:
        """The maps of the stages that are read, as a tuple; the last map where none is named."""
        return tuple(maps[name] for name in self.read) if self.read else [*maps.values()][-1]
