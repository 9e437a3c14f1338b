"""LSTM, GRU, a layer without memory, or nothing over the patch sequence; cells by `nn.scan`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hybrid.ops import cells, dense

CELLS = (*cells.CELLS, 'dense', 'none')
REDUCTIONS = ('last', 'mean', 'max', 'attention')


class Recurrent(nn.Module):
    """Reads a sequence with a recurrent cell and sums it up in one vector.

    Attributes:
      cell: 'lstm' (Hochreiter & Schmidhuber, 1997), 'gru' (Cho et al.,
        https://arxiv.org/abs/1406.1078); 'dense', tanh of a linear layer at each position by
        itself, which is what a cell is without its memory; or 'none': the sequence itself is
        summed up, which is the CNN alone, with global average pooling. Both ignore `bidirectional`,
        'none' ignores `features`, too, and both take the mean if `reduce` is 'last'.
      features: size F of the hidden state, of each direction.
      bidirectional: also read the sequence backwards and concatenate both directions.
      reduce: 'last' state of each direction (the backward one ends at the first position); or over
        the sequence the 'mean' of the outputs, their 'max', or by 'attention' their mean weighted
        with the softmax of a learned score (Yang et al., https://aclanthology.org/N16-1174, without
        the hidden layer), which begins as the mean.
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
            summaries = [self._pool(sequence.astype(jnp.float32))]
        elif self.cell == 'dense':
            layer = dense.Dense(self.features, self.dtype, name='dense')
            summaries = [self._pool(nn.tanh(layer(sequence)))]
        else:
            directions = (False, True) if self.bidirectional else (False,)
            summaries = [self._read(sequence, reverse=reverse) for reverse in directions]
        joined = jnp.concatenate(summaries, axis=-1)
        if self.reduce != 'attention':
            return joined
        zeros = nn.initializers.zeros
        score = nn.Dense(1, use_bias=False, kernel_init=zeros, name='attention')
        return (nn.softmax(score(joined), axis=1) * joined).sum(axis=1)

    def _pool(self, outputs: jax.Array, state: jax.Array | None = None) -> jax.Array:
        """Sums up [B, T, F] and the last state, if there is one; for attention later: [B, F]."""
        if self.reduce == 'attention':
            return outputs
        if self.reduce == 'last' and state is not None:
            return state
        return (jnp.max if self.reduce == 'max' else jnp.mean)(outputs, axis=1)

    def _read(self, sequence: jax.Array, *, reverse: bool) -> jax.Array:
        """Scans [B, T, C] in one direction, and sums it up."""
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
        # The LSTM's carry is (c, h), the GRU's is h.
        return self._pool(outputs, carry[1] if self.cell == 'lstm' else carry)
