r"""Training and inference step against PyTorch: images/s of both, alternating in one run.

  python -m pip install -e '.[torch]'
  python benchmarks/train_step.py --dtype=float32,bfloat16 --json=train_step.json
  python benchmarks/train_step.py --encoder=resnet18,resnet50 --image_size=128,224 \
      --batch_size=256 --dtype=bfloat16

Ours is the program that trains, but for the augmentation, which PyTorch's side does not have. On a
GPU PyTorch runs with channels_last, autocast and torch.compile, and the share of the rate of
bfloat16 matrix products, measured in the same run, is shown. On a CPU PyTorch is measured with both
of its memory formats, `torch` and `channels_last`. `ratio` is ours over the faster of them: above 1
ours is faster. The kernels in a row's name are those of `config.model.kernels`.
"""

import argparse
import contextlib
import os
import sys
from typing import Any

import jax.numpy as jnp
from jax_hybrid import CHECKOUT, create_steps, load_config
from ml_collections import ConfigDict
from report import Step, Table, alternate, compile_step

from hybrid import devices
from hybrid.ops import kernels as kernel_choice

try:
    import torch
    from torch_hybrid import TorchHybrid
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}; install the extra: python -m pip install -e '.[torch]'")

ON_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if ON_GPU else 'cpu'


def create_config(encoder: str, size: int, batch_size: int, dtype: str, kernels: str) -> ConfigDict:
    """The default config at one size, without augmentation."""
    config = load_config(CHECKOUT / 'configs' / 'default.py')
    config.model.encoder.name = encoder
    config.model.dtype = dtype
    config.model.kernels = kernels
    config.data.image_size = config.data.resize_size = size
    config.augment.enabled = False
    config.train.batch_size = batch_size
    return config


def torch_steps(
    encoder: str, size: int, batch_size: int, dtype: str, channels_last: bool
) -> tuple[Step, Step]:
    """PyTorch's training step and inference step."""
    model: Any = TorchHybrid(encoder).to(DEVICE)
    images = torch.rand(batch_size, 3, size, size, device=DEVICE)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    ages = torch.rand(batch_size, device=DEVICE) * 80
    genders = torch.randint(0, 2, (batch_size,), device=DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=ON_GPU)
    if ON_GPU:
        torch.set_float32_matmul_precision('high')
        model = torch.compile(model)

    def cast() -> Any:
        if dtype == 'float32':
            return contextlib.nullcontext()
        return torch.autocast(DEVICE, torch.bfloat16)

    def train() -> None:
        model.train()
        with cast():
            age, logits = model(images)
        loss = 2 * ((age.float() - ages) / 20).square().mean()
        loss = loss + torch.nn.functional.cross_entropy(logits.float(), genders)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    def infer() -> None:
        model.eval()
        with torch.inference_mode(), cast():
            age, logits = model(images)
        age.sum().item()
        logits.sum().item()

    return train, infer


def matmul_rate() -> float:
    """Operations per second of a large bfloat16 matrix product."""
    n = 8192
    step = compile_step(lambda a: a @ a, jnp.ones((n, n), jnp.bfloat16))
    return 2 * n**3 / alternate([step], 10)[0]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--encoder', default='resnet18')
    parser.add_argument('--image_size', default='64,96,128')
    parser.add_argument('--batch_size', type=int, default=32)
    parser.add_argument('--dtype', default='float32', help='float32, bfloat16 or both')
    parser.add_argument('--kernels', default='auto', help='config.model.kernels')
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--json', default='', help='file to write the rows to')
    options = parser.parse_args()
    cases = [
        (encoder, size, options.batch_size, dtype, options.kernels)
        for dtype in options.dtype.split(',')
        for encoder in options.encoder.split(',')
        for size in map(int, options.image_size.split(','))
    ]
    configs = [create_config(*case) for case in cases]
    for config in configs:  # Before JAX starts.
        kernel_choice.settle(config)
    devices.keep_freed_memory()
    torch.set_num_threads(os.cpu_count() or 1)
    rate = matmul_rate() if ON_GPU else 0.0
    formats = ['channels_last'] if ON_GPU else ['torch', 'channels_last']
    columns = ['ours', *formats, 'ratio'] + (['share_of_matmul_rate'] if rate else [])
    table = Table(columns, f'images/s, batch {options.batch_size}')
    for (encoder, size, batch_size, dtype, _), config in zip(cases, configs, strict=True):
        train, infer, flops = create_steps(config)
        theirs = [
            torch_steps(encoder, size, batch_size, dtype, name == 'channels_last')
            for name in formats
        ]
        for kind, ours in (('train', train), ('infer', infer)):
            other = [steps[kind == 'infer'] for steps in theirs]
            mine, *seconds = alternate([ours, *other], options.rounds)
            kernels = 'GPU' if ON_GPU else config.model.kernels
            row: dict[str, Any] = {
                'name': f'{kind} {encoder} {size} px {dtype} {kernels}',
                'ours': batch_size / mine,
                'ratio': min(seconds) / mine,
            }
            row |= {name: batch_size / time for name, time in zip(formats, seconds, strict=True)}
            if rate and kind == 'train':
                row['share_of_matmul_rate'] = flops / mine / rate
            table.add(row)
    table.end(options.json)


if __name__ == '__main__':
    main()
