"""Our side of the benchmarks: a config, and the steps of its run on one fixed batch."""

import pathlib
import runpy
import sys
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from report import Step

from hybrid import devices
from hybrid.models.network import create_model
from hybrid.training import train_state, train_step
from hybrid.training.eval_step import create_eval_step
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def load_config(path: str | pathlib.Path) -> ConfigDict:
    """What `get_config()` of a config file returns."""
    # Config files import `configs.default`; the folder is no part of the installed package.
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    return runpy.run_path(str(path))['get_config']()


def create_batch(config: ConfigDict) -> dict[str, jax.Array]:
    """A training batch of noise on the devices, of the run's size."""
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
    """The steps of a run, compiled as the run compiles them, on one batch of noise.

    Args:
      config: Of the run; `config.train.batch_size` is that of both steps.

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
