"""Our side of the benchmarks: configs, and the steps of a run on one fixed batch."""

import argparse
import itertools
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from report import Step, numbers, words

from hybrid import default_config, devices
from hybrid.models.network import create_model
from hybrid.ops import kernels
from hybrid.training import train_state, train_step
from hybrid.training.eval_step import create_eval_step
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer


def add_model_flags(parser: argparse.ArgumentParser, image_size: str) -> None:
    """Adds the flags for the model and its batch; all but the batch size may be lists."""
    several = 'one or several, separated by commas'
    parser.add_argument('--encoder', type=words, default='resnet18', help=several)
    parser.add_argument('--image_size', type=numbers, default=image_size, help=several)
    parser.add_argument('--dtype', type=words, default='float32', help='float32, bfloat16 or both')
    parser.add_argument('--batch_size', type=int, default=32)
    parser.add_argument('--kernels', default='auto', help='config.model.kernels')


def create_configs(options: argparse.Namespace) -> list[ConfigDict]:
    """Returns the default config for each dtype, encoder and size of the flags, settled."""
    configs = []
    for dtype, encoder, size in itertools.product(
        options.dtype, options.encoder, options.image_size
    ):
        config = default_config.get_config()
        config.model.dtype = dtype
        config.model.kernels = options.kernels
        config.model.encoder.name = encoder
        config.data.image_size = config.data.resize_size = size
        config.train.batch_size = options.batch_size
        configs.append(config)
    settle(*configs)
    return configs


def settle(*configs: ConfigDict) -> None:
    """Makes the settings of the runs that must stand before JAX starts.

    Afterwards `config.model.kernels` of each says which kernels it has on this machine.
    """
    for config in configs:
        kernels.settle(config)
    devices.keep_freed_memory()


def create_batch(config: ConfigDict) -> dict[str, jax.Array]:
    """Returns a training batch of noise, on the devices."""
    batch_size, size = config.train.batch_size, config.data.resize_size
    rng = np.random.default_rng(0)
    return devices.shard_batch(
        {
            'image': rng.integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8),
            'age': rng.uniform(0, 80, batch_size).astype(np.float32),
            'gender': rng.integers(0, 2, batch_size, dtype=np.int32),
            'mask': np.ones(batch_size, np.float32),
            'position': np.arange(batch_size, dtype=np.int32),
        }
    )


def create_steps(config: ConfigDict) -> tuple[Step, Step, float]:
    """Compiles the steps of a run as the run does, for one batch of noise.

    Args:
      config: The run's config; `config.train.batch_size` holds for both steps.

    Returns:
      The training step, the inference step, and the arithmetic operations of the former (0 on a
      CPU, where our convolutions are not counted as such).
    """
    model = create_model(config.model, axis_name=devices.AXIS)
    tx = create_optimizer(config.optimizer, create_learning_rate_fn(config.optimizer, 1000))
    state = devices.replicate(train_state.create_train_state(model, tx, config))
    batch = create_batch(config)
    inputs = {name: batch[name] for name in ('image', 'age', 'gender', 'mask')}
    inputs['index'] = batch['position']
    step: Any = devices.compile_train_step(train_step.create_train_step(model, tx, config))
    eval_step = devices.compile_eval_step(create_eval_step(model, config))
    on_cpu = jax.default_backend() == 'cpu'
    flops = 0.0 if on_cpu else (step.lower(state, batch).cost_analysis() or {}).get('flops', 0.0)
    box = [state]

    def train() -> None:
        box[0], metrics = step(box[0], batch)
        jax.block_until_ready(metrics)

    def infer() -> None:
        jax.block_until_ready(eval_step(box[0].eval_variables, inputs))

    return train, infer, flops
