"""Batch normalisation with the parameters and the mathematics of `nn.BatchNorm`, in fewer passes.

What costs time is memory, so the activations are read and written in the compute dtype, and only
sums over them are taken in float32: twice in a forward pass (the sums of x and of x squared) and
twice in a backward pass (the sums of dy and of dy x), with one elementwise pass after each.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike


def _sum(x: jax.Array) -> jax.Array:
    """Sums over all axes but the last: [..., C] to [C]."""
    return x.sum(axis=tuple(range(x.ndim - 1)))


def _sums(x: jax.Array, y: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Sums of x and of x times y, or of the squares of x, in float32: [..., C] to [C] each."""
    # The barrier keeps XLA from converting x once for both, and writing it to memory for that.
    again = lax.optimization_barrier(x).astype(jnp.float32)
    products = jnp.square(again) if y is None else again * y.astype(jnp.float32)
    return _sum(x.astype(jnp.float32)), _sum(products)


def _count(x: jax.Array, axis_name: str | None) -> jax.Array:
    """How many values a channel has, over all devices."""
    count = jnp.float32(x.size // x.shape[-1])
    return count if axis_name is None else lax.psum(count, axis_name)


def _reduce(sums: tuple[jax.Array, ...], axis_name: str | None) -> tuple[jax.Array, ...]:
    return sums if axis_name is None else lax.psum(sums, axis_name)


def scale_and_shift(x: jax.Array, factor: jax.Array, offset: jax.Array) -> jax.Array:
    """Computes `x * factor + offset` for [..., C] and [C] in float32; keeps the dtype of x."""
    return (x.astype(jnp.float32) * factor + offset).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize_by_batch(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the statistics of the batch (Ioffe & Szegedy, https://arxiv.org/abs/1502.03167).

    Args:
      x: [..., C].
      scale: [C], float32.
      bias: [C], float32.
      epsilon: What is added to the variance.
      axis_name: Mapped axis over whose devices the statistics are taken; None for this one alone.

    Returns:
      The normalised values, in the dtype of x, and mean and biased variance, float32 [C], which
      carry no gradient.
    """
    return _forward(x, scale, bias, epsilon, axis_name)[0]


def _forward(x, scale, bias, epsilon, axis_name):
    sums = _reduce(_sums(x), axis_name)
    mean, mean_of_squares = (total / _count(x, axis_name) for total in sums)
    # As nn.BatchNorm does by default; rounding may make the difference negative.
    variance = jnp.maximum(mean_of_squares - jnp.square(mean), 0)
    inverse = lax.rsqrt(variance + epsilon)
    y = scale_and_shift(x, scale * inverse, bias - mean * scale * inverse)
    return (y, mean, variance), (x, scale, mean, inverse)


def _backward(epsilon, axis_name, saved, cotangents):
    del epsilon
    x, scale, mean, inverse = saved
    dy, _, _ = cotangents
    of_dy, of_dy_x = _sums(dy, x)
    # Of this device: gradients of parameters are summed over devices with all others.
    dbias, dscale = of_dy, (of_dy_x - mean * of_dy) * inverse
    count = _count(x, axis_name)
    mean_dy, mean_dy_xhat = (total / count for total in _reduce((dbias, dscale), axis_name))
    # dx = scale * inverse * (dy - mean(dy) - xhat * mean(dy * xhat)), xhat = (x - mean) * inverse
    of_x = -inverse * mean_dy_xhat
    constant = -mean_dy - mean * of_x
    factor = scale * inverse
    dx = dy.astype(jnp.float32) * factor + x.astype(jnp.float32) * (factor * of_x)
    return (dx + factor * constant).astype(x.dtype), dscale, dbias


normalize_by_batch.defvjp(_forward, _backward)


class BatchNorm(nn.Module):
    """A drop-in for `nn.BatchNorm` over all axes but the last.

    Attributes:
      use_running_average: normalise by the running statistics and leave them as they are; else by
        the batch's, and update them (the collection 'batch_stats' must be mutable).
      momentum: of the running statistics.
      epsilon: what is added to the variance.
      dtype: of the output; parameters and statistics are float32.
      axis_name: mapped axis over whose devices the statistics are taken.
      scale_init: initialiser of the scale.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., C] to [..., C]."""
        features = (x.shape[-1],)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, features, jnp.float32)
        variance = self.variable('batch_stats', 'var', jnp.ones, features, jnp.float32)
        scale = self.param('scale', self.scale_init, features, jnp.float32)
        bias = self.param('bias', nn.initializers.zeros, features, jnp.float32)
        x = x.astype(self.dtype)
        if self.use_running_average:
            factor = scale * lax.rsqrt(variance.value + self.epsilon)
            return scale_and_shift(x, factor, bias - mean.value * factor)
        axis_name = None if self.is_initializing() else self.axis_name
        y, batch_mean, batch_variance = normalize_by_batch(x, scale, bias, self.epsilon, axis_name)
        if not self.is_initializing():
            for running, of_batch in ((mean, batch_mean), (variance, batch_variance)):
                running.value = self.momentum * running.value + (1 - self.momentum) * of_batch
        return y
