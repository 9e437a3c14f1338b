"""LSTM, GRU or nothing over the patch sequence, by `nn.scan`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hybrid.ops import cells

CELLS = (*cells.CELLS, 'none')
REDUCTIONS = ('last', 'mean')


class Recurrent(nn.Module):
    """Reads a sequence with a recurrent cell and sums it up in one vector.

    Attributes:
      cell: 'lstm' (Hochreiter & Schmidhuber, 1997), 'gru' (Cho et al.,
        https://arxiv.org/abs/1406.1078) or 'none': no parameters, the mean over the sequence, which
        is the CNN alone with global average pooling. 'none' ignores the attributes below.
      features: size F of the hidden state, of each direction.
      bidirectional: also read the sequence backwards and concatenate both directions.
      reduce: 'last' state of each direction (the backward one ends at the first position), or the
        'mean' of the outputs over the sequence.
      dtype: of the matrix products; the state is carried in float32.
    """

    cell: str = 'lstm'
    features: int = 256
    bidirectional: bool = False
    reduce: str = 'last'
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, sequence: jax.Array) -> jax.Array:
        """Maps [B, T, C] to float32 [B, F], [B, 2 * F] if bidirectional, [B, C] if 'none'.

        Raises:
          ValueError: if `cell` or `reduce` is unknown.
        """
        if self.cell not in CELLS:
            raise ValueError(f'unknown recurrent cell {self.cell!r}; known: {", ".join(CELLS)}')
        if self.reduce not in REDUCTIONS:
            raise ValueError(f'unknown reduction {self.reduce!r}; known: {", ".join(REDUCTIONS)}')
        if self.cell == 'none':
            return sequence.astype(jnp.float32).mean(axis=1)
        summary = self._read(sequence, reverse=False)
        if self.bidirectional:
            summary = jnp.concatenate([summary, self._read(sequence, reverse=True)], axis=-1)
        return summary

    def _read(self, sequence: jax.Array, *, reverse: bool) -> jax.Array:
        """Scans [B, T, C] in one direction: [B, F]."""
        cell = cells.CELLS[self.cell](
            self.features, self.dtype, name='backward' if reverse else 'forward'
        )
        scan = nn.scan(
            lambda cell, carry, projected: cell(carry, projected),
            variable_broadcast='params',
            split_rngs={'params': False},
            in_axes=1,
            out_axes=1,
            reverse=reverse,
        )
        carry, outputs = scan(cell, cell.initial(sequence.shape[0]), cell.project(sequence))
        if self.reduce == 'mean':
            return outputs.mean(axis=1)
        # The LSTM's carry is (c, h), the GRU's is h.
        return carry[1] if self.cell == 'lstm' else carry
