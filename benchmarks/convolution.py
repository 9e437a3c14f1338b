"""Measures every form of a ResNet's convolutions and of its max-pool, pass by pass, in ms.

  python benchmarks/convolution.py --dtype=float32,bfloat16 --json=convolution.json
  python benchmarks/convolution.py --encoder=resnet50 --image_size=96 --kernels=portable

`xla` is XLA's own convolution with the gradients that JAX derives. `*` marks the form that the code
takes on this machine with the `config.model.kernels` of `--kernels`. PyTorch is measured on CPUs if
it is installed, with channels last.
"""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax_hybrid import add_model_flags, create_configs
from report import Table, alternate, compile_step, create_parser

from hybrid.models import resnet
from hybrid.ops import convolution, pooling

try:
    import torch
except ModuleNotFoundError:
    torch = None  # type: ignore[assignment]

# Side of the inputs, channels, features, side of the kernel, stride.
Layer = tuple[int, int, int, int, int]


def layers(encoder: str, side: int, width: int = 64) -> list[Layer]:
    """Lists the different convolutions of an encoder, whose bottlenecks have stride in the 3x3."""
    sizes, block = resnet.ENCODERS[encoder]
    found: list[Layer] = [(side, 3, width, 7, 2)]
    side, channels = (side + 3) // 4, width
    for stage in range(len(sizes)):
        features, stride = width * 2**stage, 2 if stage else 1
        outputs = features * (4 if block == 'bottleneck' else 1)
        after = (side - 1) // stride + 1
        if block == 'bottleneck':
            found += [(side, channels, features, 1, 1), (side, features, features, 3, stride)]
            found += [(after, features, outputs, 1, 1), (after, outputs, features, 1, 1)]
        else:
            found.append((side, channels, features, 3, stride))
        found.append((after, features, features, 3, 1))
        if stride > 1 or channels != outputs:
            found.append((side, channels, outputs, 1, stride))
        side, channels = after, outputs
    return list(dict.fromkeys(found))


def xla_pass(of_pass: str, strides: Any, padding: Any) -> Callable:
    """Returns a pass of XLA's own convolution, as a function of (x, kernel, dy)."""
    run = functools.partial(convolution.xla_convolution, strides=strides, padding=padding)
    return {
        'forward': lambda x, k, dy: run(x, k),
        'input_gradient': lambda x, k, dy: jax.linear_transpose(lambda x: run(x, k), x)(dy),
        'kernel_gradient': lambda x, k, dy: jax.linear_transpose(lambda k: run(x, k), k)(dy),
    }[of_pass]


def form_pass(form: str, of_pass: str, strides: Any, padding: Any) -> Callable:
    """Returns a pass of one of our forms, as a function of (x, kernel, dy)."""
    run = convolution.FORMS[form][of_pass]
    return {
        'forward': lambda x, k, dy: run(x, k, strides, padding),
        'input_gradient': lambda x, k, dy: run(dy, k, x.shape, strides, padding),
        'kernel_gradient': lambda x, k, dy: run(x, dy, k.shape, strides, padding),
    }[of_pass]


def torch_pass(of_pass: str, arrays: Any, stride: int, pad: int) -> Callable:
    """Returns PyTorch's pass, on the same arrays."""
    x, k, dy = (
        torch.from_numpy(np.asarray(a, np.float32).transpose(axes).copy())
        .to(torch.bfloat16 if a.dtype == jnp.bfloat16 else torch.float32)
        .to(memory_format=torch.channels_last)
        for a, axes in zip(arrays, ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)), strict=True)
    )
    if of_pass == 'forward':
        return lambda: torch.nn.functional.conv2d(x, k, stride=stride, padding=pad)
    wanted = [of_pass == 'input_gradient', of_pass == 'kernel_gradient', False]
    settings = ([stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, wanted)
    return lambda: torch.ops.aten.convolution_backward(dy, x, k, None, *settings)


def measure_convolution(
    layer: Layer, dtype: str, kernels: str, batch: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """Yields a row in milliseconds for each pass."""
    side, channels, features, taps, stride = layer
    pad, after = taps // 2, (side - 1) // stride + 1
    strides, padding = (stride, stride), ((pad, pad), (pad, pad))
    shapes = (batch, side, side, channels), (taps, taps, channels, features)
    settings = (*shapes, strides, padding)
    rng = np.random.default_rng(0)
    arrays = [
        jnp.asarray(rng.standard_normal(shape, np.float32), dtype)
        for shape in (*shapes, (batch, after, after, features))
    ]
    for of_pass in convolution.PASSES:
        if channels == 3 and of_pass == 'input_gradient':
            continue  # Training does not need the gradient of the images.
        steps = {'xla': compile_step(xla_pass(of_pass, strides, padding), *arrays)}
        for form, passes in convolution.FORMS.items():
            # Tap by tap, a 7x7 kernel takes a hundred times as long.
            left_out = form == 'winograd' and not convolution.fits_winograd(*settings[1:])
            if of_pass in passes and not left_out and not (form == 'shifts' and taps > 3):
                steps[form] = compile_step(form_pass(form, of_pass, strides, padding), *arrays)
        if torch and jax.default_backend() == 'cpu':
            steps['torch'] = torch_pass(of_pass, arrays, stride, pad)
        seconds = alternate(list(steps.values()), rounds)
        chosen = 'xla'
        if jax.default_backend() == 'cpu' and kernels != 'xla':
            chosen = convolution.choose(of_pass, *settings, kernels, dtype)
        name = f'{side} px {channels}->{features} {taps}x{taps}/{stride} {dtype} {of_pass}'
        milliseconds = {form: 1e3 * s for form, s in zip(steps, seconds, strict=True)}
        yield {'name': name, **milliseconds, 'chosen': chosen}


def measure_max_pool(
    side: int, channels: int, dtype: str, batch: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """Yields a row in milliseconds for each pass; the form `taps` is ours."""
    rng, after = np.random.default_rng(0), (side + 1) // 2
    x, dy = (
        jnp.asarray(rng.standard_normal((batch, s, s, channels), np.float32), dtype)
        for s in (side, after)
    )
    pools = {'xla': pooling.xla_max_pool, 'taps': pooling.max_pool}
    for of_pass in ('forward', 'both'):
        steps = [
            compile_step(pool, x)
            if of_pass == 'forward'
            else compile_step(lambda x, dy, p=pool: jax.vjp(p, x)[1](dy), x, dy)
            for pool in pools.values()
        ]
        milliseconds = [1e3 * s for s in alternate(steps, rounds)]
        name = f'{side} px {channels} max-pool {dtype} {of_pass}'
        yield {'name': name, **dict(zip(pools, milliseconds, strict=True)), 'chosen': 'taps'}


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__, rounds=6)
    add_model_flags(parser, image_size='64,96,128')
    options = parser.parse_args()
    configs = create_configs(options)
    if torch:
        torch.set_num_threads(os.cpu_count() or 1)
    kernels = {config.model.dtype: config.model.kernels for config in configs}
    table = Table(
        ['xla', *convolution.FORMS, 'taps', 'torch'], f'ms, batch {options.batch_size}, {kernels}'
    )
    settings = options.batch_size, options.rounds
    for config in configs:
        size, dtype = config.data.image_size, config.model.dtype
        for layer in layers(config.model.encoder.name, size):
            for row in measure_convolution(layer, dtype, config.model.kernels, *settings):
                table.add(row)
        for row in measure_max_pool((size + 1) // 2, 64, dtype, *settings):
            table.add(row)
    table.end(options.json)


if __name__ == '__main__':
    main()
