"""Measures the input pipeline alone against the training step alone, in images/s.

  python benchmarks/input_pipeline.py --config=configs/quickstart.py --json=input_pipeline.json
  python benchmarks/input_pipeline.py --config=configs/utkface_resnet18_lstm.py --manual_dir=DIR

A block of batches is drawn onto the device, then a block of steps is trained on one fixed batch, in
turns. A pipeline with a `ratio` above 1 keeps up. In the first epoch all images are decoded; later
they come out of memory, if `config.data.cache_bytes` is enough for them. A dataset that is not
prepared yet is prepared first.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax_hybrid import create_steps, settle
from ml_collections import ConfigDict
from report import CHECKOUT, Step, Table, create_parser

from hybrid import devices, recipes
from hybrid.data import input_pipeline, parts
from hybrid.modes import train


def measure_block(draw: Callable[[int], float], ahead: int, block: int, step: Step) -> list[float]:
    """Returns the seconds for a batch and the seconds for a step.

    Args:
      draw: Draws so many batches, and returns the seconds for each.
      ahead: How many batches may lie ready; so many are drawn first, and not counted.
      block: How many batches are counted.
      step: A training step.
    """
    draw(ahead)
    batch_seconds = draw(block)
    # The pipeline reads ahead again: wait, so that it does not do so beside the steps.
    time.sleep(2 * ahead * batch_seconds)
    step()
    start = time.perf_counter()
    for _ in range(4):
        step()
    return [batch_seconds, (time.perf_counter() - start) / 4]


def measure(config: ConfigDict, rounds: int, block: int) -> Iterator[dict[str, Any]]:
    """Yields a row for the first epoch, unless the dataset is too small, and one for later ones."""
    datasets = parts.open_all(config)
    num_examples = len(parts.join(datasets)[config.data.train_split]['id'])
    batches_per_epoch = num_examples // config.train.batch_size
    train_step, _, _ = create_steps(config)
    train_step()
    iterator = train.create_train_iterator(datasets, config)
    # Batches in Grain's buffer, on their way to the device, and in the hands of both.
    ahead = config.data.num_threads + 2 * config.data.prefetch + 2
    batches = input_pipeline.prefetch_to_device(iterator, devices.shard_batch, config.data.prefetch)

    def draw(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            jax.block_until_ready(next(batches)[0])
        return (time.perf_counter() - start) / count

    def row(name: str, num_blocks: int) -> dict[str, Any]:
        blocks = [measure_block(draw, ahead, block, train_step) for _ in range(num_blocks)]
        pipeline, step = config.train.batch_size / np.median(blocks, axis=0)
        return {'name': name, 'pipeline': pipeline, 'step': step, 'ratio': pipeline / step}

    with contextlib.closing(batches):
        first = min(rounds, batches_per_epoch // (ahead + block))
        if first:
            yield row('first epoch', first)
        draw(batches_per_epoch + 1 - first * (ahead + block))
        yield row('later epochs', rounds)


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__, rounds=6)
    parser.add_argument('--config', default=str(CHECKOUT / 'configs' / 'quickstart.py'))
    parser.add_argument('--manual_dir', default='', help='config.data.manual_dir')
    parser.add_argument('--data_dir', default='', help='config.data.data_dir')
    parser.add_argument('--block', type=int, default=16, help='batches drawn in a round')
    options = parser.parse_args()
    config = recipes.get_config(options.config)
    config.data.manual_dir = options.manual_dir or config.data.manual_dir
    config.data.data_dir = options.data_dir or config.data.data_dir
    settle(config)
    name = pathlib.Path(options.config).stem
    table = Table(['pipeline', 'step', 'ratio'], f'images/s, batch {config.train.batch_size}')
    for row in measure(config, options.rounds, options.block):
        table.add(row | {'name': f'{name}, {row["name"]}'})
    table.end(options.json)


if __name__ == '__main__':
    main()
