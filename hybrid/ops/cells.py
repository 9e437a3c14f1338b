"""LSTM and GRU cells cut in two: what depends on the input alone is one product over all steps.

Parameters, their names and the arithmetic are those of Flax's `OptimizedLSTMCell` and `GRUCell`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

_orthogonal = nn.initializers.orthogonal()


class _Gate(nn.Module):
    """Kernel [inputs, features] and bias [features], to be joined with those of other gates."""

    features: int
    use_bias: bool
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        kernel = self.param('kernel', self.kernel_init, (inputs, self.features), jnp.float32)
        if not self.use_bias:
            return kernel, jnp.zeros(self.features)
        return kernel, self.param('bias', nn.initializers.zeros, (self.features,), jnp.float32)


class Cell(nn.Module):
    """What both cells share: gates by name, each with an input and a hidden part.

    Attributes:
      features: size F of the hidden state.
      dtype: of the matrix products and the gates; the state is float32.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    gates = ''
    input_bias = False
    hidden_bias = ''

    def setup(self) -> None:
        """Makes the gates."""
        for gate in self.gates:
            # By setattr because one of them is called `if`.
            setattr(self, f'i{gate}', _Gate(self.features, self.input_bias))
            bias = gate in self.hidden_bias
            setattr(self, f'h{gate}', _Gate(self.features, bias, _orthogonal))

    def _apply(self, part: str, x: jax.Array) -> jax.Array:
        """All gates' products at once: [..., inputs] to [..., gates * F] in the compute dtype."""
        pairs = [getattr(self, f'{part}{gate}')(x.shape[-1]) for gate in self.gates]
        kernel, bias = (jnp.concatenate(arrays, axis=-1) for arrays in zip(*pairs, strict=True))
        return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(self.dtype)

    def project(self, sequence: jax.Array) -> jax.Array:
        """The inputs' part of all gates at all steps: [B, T, C] to [B, T, gates * F]."""
        return self._apply('i', sequence)

    def _hidden(self, h: jax.Array) -> list[jax.Array]:
        return jnp.split(self._apply('h', h), len(self.gates), axis=-1)

    def _inputs(self, projected: jax.Array) -> list[jax.Array]:
        return jnp.split(projected, len(self.gates), axis=-1)


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997)."""

    gates = 'ifgo'
    hidden_bias = 'ifgo'

    def initial(self, batch: int) -> Any:
        """The state before the first step: (c, h), zeros [B, F]."""
        zeros = jnp.zeros((batch, self.features), jnp.float32)
        return zeros, zeros

    def __call__(self, carry: Any, projected: jax.Array) -> tuple[Any, jax.Array]:
        """One step: state (c, h) and [B, 4 * F] to the next state and the output h [B, F]."""
        c, h = carry
        pairs = zip(self._inputs(projected), self._hidden(h), strict=True)
        i, f, g, o = (of_input + of_hidden for of_input, of_hidden in pairs)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al., https://arxiv.org/abs/1406.1078)."""

    gates = 'rzn'
    input_bias = True
    hidden_bias = 'n'

    def initial(self, batch: int) -> Any:
        """The state before the first step: h, zeros [B, F]."""
        return jnp.zeros((batch, self.features), jnp.float32)

    def __call__(self, carry: Any, projected: jax.Array) -> tuple[Any, jax.Array]:
        """One step: state h and [B, 3 * F] to the next state and the output, both h [B, F]."""
        input_r, input_z, input_n = self._inputs(projected)
        hidden_r, hidden_z, hidden_n = self._hidden(carry)
        r = nn.sigmoid(input_r + hidden_r)
        z = nn.sigmoid(input_z + hidden_z)
        n = jnp.tanh(input_n + r * hidden_n)
        h = (1 - z) * n + z * carry
        return h, h


CELLS = {'lstm': LSTMCell, 'gru': GRUCell}
