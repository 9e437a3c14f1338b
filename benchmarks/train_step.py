r"""Measures the training step and the inference step against PyTorch, in images/s.

  python -m pip install -e '.[torch]'
  python benchmarks/train_step.py --dtype=float32,bfloat16 --json=train_step.json
  python benchmarks/train_step.py --encoder=resnet18,resnet50 --image_size=128,224 \
      --batch_size=256 --dtype=bfloat16

Both sides take turns in one run. Ours is the program that trains, without the augmentation, which
PyTorch's side does not have. On a CPU, PyTorch is measured with both of its memory formats, `torch`
and `channels_last`. `ratio` is ours over the faster of them, so above 1 ours is faster. On a GPU,
PyTorch runs with channels_last, autocast and torch.compile; `share_of_matmul_rate` says how close
our training step comes to the rate of bfloat16 matrix products, measured in the same run. A row's
name ends with its `config.model.kernels`.
"""

import contextlib
import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax_hybrid import add_model_flags, create_configs, create_steps
from ml_collections import ConfigDict
from report import Step, Table, alternate, compile_step, create_parser

try:
    import torch
    from torch_hybrid import TorchHybrid
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}; install the extra: python -m pip install -e '.[torch]'")

ON_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if ON_GPU else 'cpu'


def torch_steps(config: ConfigDict, channels_last: bool) -> tuple[Step, Step]:
    """Returns PyTorch's training step and inference step, with the model and batch of a config."""
    model: Any = TorchHybrid(config.model.encoder.name).to(DEVICE)
    batch_size, size = config.train.batch_size, config.data.image_size
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
        if config.model.dtype == 'float32':
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
    """Measures how many operations a second a large bfloat16 matrix product makes."""
    n = 8192
    step = compile_step(lambda a: a @ a, jnp.ones((n, n), jnp.bfloat16))
    return 2 * n**3 / alternate([step], 10)[0]


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__, rounds=6)
    add_model_flags(parser, image_size='64,96,128')
    options = parser.parse_args()
    configs = create_configs(options)
    if (jax.default_backend() == 'gpu') != ON_GPU:
        sys.exit(
            f'error: JAX runs on {jax.default_backend()} and PyTorch on {DEVICE}; '
            "install JAX's extra cuda, or hide the GPU (CUDA_VISIBLE_DEVICES=)"
        )
    torch.set_num_threads(os.cpu_count() or 1)
    rate = matmul_rate() if ON_GPU else 0.0
    formats = ['channels_last'] if ON_GPU else ['torch', 'channels_last']
    columns = ['ours', *formats, 'ratio'] + (['share_of_matmul_rate'] if rate else [])
    table = Table(columns, f'images/s, batch {options.batch_size}')
    for config in configs:
        config.augment.enabled = False
        *ours, flops = create_steps(config)
        theirs = [torch_steps(config, name == 'channels_last') for name in formats]
        kernels = 'GPU' if ON_GPU else config.model.kernels
        case = f'{config.model.encoder.name} {config.data.image_size} px {config.model.dtype}'
        for place, kind in enumerate(('train', 'infer')):
            steps = [ours[place], *(pair[place] for pair in theirs)]
            mine, *seconds = alternate(steps, options.rounds)
            row: dict[str, Any] = {
                'name': f'{kind} {case} {kernels}',
                'ours': options.batch_size / mine,
                'ratio': min(seconds) / mine,
            }
            row |= {k: options.batch_size / time for k, time in zip(formats, seconds, strict=True)}
            if rate and kind == 'train':
                row['share_of_matmul_rate'] = flops / mine / rate
            table.add(row)
    table.end(options.json)


if __name__ == '__main__':
    main()
