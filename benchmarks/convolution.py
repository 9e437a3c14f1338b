"""Milliseconds of every form of a ResNet-18's convolutions and of its max-pool, pass by pass.

  python benchmarks/convolution.py --image_size=64,96,128 --batch_size=32 --json=convolution.json

Everything is float32. `*` marks the form that the code takes on this backend. PyTorch, measured on
CPUs if it is installed, computes all gradients in one call: it stands in the row of the last pass.
"""

import argparse
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from report import Step, alternate, compile_step, write

from hybrid import parallel
from hybrid.models import convolution, im2col, pooling, shifts, winograd

try:
    import torch
except ModuleNotFoundError:
    torch = None  # type: ignore[assignment]

ON_CPU = jax.default_backend() == 'cpu'
PASSES = ('forward', 'input gradient', 'kernel gradient', 'both gradients')


class Operation(NamedTuple):
    """A layer: each form's functions, one a pass, take inputs, parameters, outputs' gradient."""

    name: str
    shapes: list[tuple[int, ...]]
    forms: dict[str, list[Callable]]
    chosen: str
    torch: Callable


def create_convolution(
    batch: int, side: int, channels: int, features: int, taps: int, stride: int
) -> Operation:
    """A convolution of a square map with `taps // 2` zeros around."""
    pad, out = taps // 2, (side - 1) // stride + 1
    strides, padding = (stride, stride), ((pad, pad), (pad, pad))
    inputs, kernel = (batch, side, side, channels), (taps, taps, channels, features)
    xla = functools.partial(convolution.xla_convolution, strides=strides, padding=padding)
    forms: dict[str, list[Callable]] = {
        'xla': [
            lambda x, k, dy: xla(x, k),
            lambda x, k, dy: jax.linear_transpose(lambda x: xla(x, k), x)(dy),
            lambda x, k, dy: jax.linear_transpose(lambda k: xla(x, k), k)(dy),
        ],
        'im2col': [
            lambda x, k, dy: im2col.forward(x, k, strides, padding),
            lambda x, k, dy: shifts.input_gradient(dy, k, x.shape, strides, padding),
            lambda x, k, dy: im2col.kernel_gradient(x, dy, k.shape, strides, padding),
        ],
        'shifts': [
            lambda x, k, dy: shifts.forward(x, k, strides, padding),
            lambda x, k, dy: shifts.input_gradient(dy, k, x.shape, strides, padding),
            lambda x, k, dy: shifts.kernel_gradient(x, dy, k.shape, strides, padding),
        ],
    }
    if (taps, stride) == (3, 1):
        forms['winograd'] = [
            lambda x, k, dy: winograd.forward(x, k),
            lambda x, k, dy: winograd.input_gradient(dy, k),
            lambda x, k, dy: winograd.kernel_gradient(x, dy),
        ]
    for functions in forms.values():
        functions.append(lambda *arrays, fs=tuple(functions[1:]): [f(*arrays) for f in fs])
    return Operation(
        f'{side} px {channels}->{features} {taps}x{taps}/{stride}',
        [inputs, kernel, (batch, out, out, features)],
        forms,
        convolution.choose(inputs, kernel, strides, padding),
        lambda x, k: torch.nn.functional.conv2d(x, k, stride=stride, padding=pad),
    )


def create_max_pool(batch: int, side: int, channels: int) -> Operation:
    """The max-pool; `taps` is ours."""
    out = (side + 1) // 2

    def passes(pool: Callable) -> list[Callable]:
        return [lambda x, dy: pool(x), lambda x, dy: jax.vjp(pool, x)[1](dy)]

    return Operation(
        f'{side} px {channels} max-pool',
        [(batch, side, side, channels), (batch, out, out, channels)],
        {'xla': passes(pooling.xla_max_pool), 'taps': passes(pooling.max_pool)},
        'taps',
        lambda x: torch.nn.functional.max_pool2d(x, 3, 2, 1),
    )


def resnet18(batch: int, side: int, width: int) -> Iterator[Operation]:
    """Each different convolution of a ResNet-18, and its max-pool."""
    yield create_convolution(batch, side, 3, width, 7, 2)
    yield create_max_pool(batch, (side + 1) // 2, width)
    side = (side + 3) // 4
    yield create_convolution(batch, side, width, width, 3, 1)
    for features in (2 * width, 4 * width, 8 * width):
        yield create_convolution(batch, side, features // 2, features, 3, 2)
        yield create_convolution(batch, side, features // 2, features, 1, 2)
        side = (side + 1) // 2
        yield create_convolution(batch, side, features, features, 3, 1)


def measure(operation: Operation, rounds: int) -> Iterator[dict[str, Any]]:
    """Yields a row in milliseconds for each pass."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, np.float32) for shape in operation.shapes]
    images = arrays[0].shape[-1] == 3  # For their gradient nobody asks.
    numbers = range(len(operation.forms['xla']))[:: 2 if images else 1]
    by_torch: dict[int, Step] = {}
    if torch and ON_CPU:
        # Maps from NHWC to NCHW, the kernel from HWIO to OIHW.
        orders = [(0, 3, 1, 2), *[(3, 2, 0, 1)] * (len(arrays) - 2), (0, 3, 1, 2)]
        ordered = (a.transpose(o).copy() for a, o in zip(arrays, orders, strict=True))
        *tensors, gradient = map(torch.from_numpy, ordered)
        wanted = [tensor.requires_grad_() for tensor in tensors[images:]]
        y = operation.torch(*tensors)
        by_torch[numbers[0]] = lambda: operation.torch(*tensors)
        by_torch[numbers[-1]] = lambda: torch.autograd.grad(y, wanted, gradient, retain_graph=True)
    for number in numbers:
        steps = {form: compile_step(f[number], *arrays) for form, f in operation.forms.items()}
        if number in by_torch:
            steps['torch'] = by_torch[number]
        seconds = alternate(list(steps.values()), rounds)
        row = {form: 1e3 * s for form, s in zip(steps, seconds, strict=True)}
        name = f'{operation.name} {PASSES[number]}'
        yield {'name': name, **row, 'chosen': operation.chosen if ON_CPU else 'xla'}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--image_size', default='64,96,128')
    parser.add_argument('--batch_size', type=int, default=32)
    parser.add_argument('--width', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--json', default='', help='file to write the rows to')
    options = parser.parse_args()
    parallel.keep_freed_memory()
    if torch:
        torch.set_num_threads(os.cpu_count() or 1)
    rows: list[dict[str, Any]] = []
    for size in map(int, options.image_size.split(',')):
        for operation in resnet18(options.batch_size, size, options.width):
            rows += measure(operation, options.rounds)
    columns = ['xla', 'im2col', 'shifts', 'winograd', 'taps', 'torch']
    write(rows, columns, f'ms, batch {options.batch_size}', options.json)


if __name__ == '__main__':
    main()
