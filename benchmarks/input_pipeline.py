"""The input pipeline alone against the training step alone, in images/s.

  python benchmarks/input_pipeline.py --config=configs/quickstart.py --json=input_pipeline.json
  python benchmarks/input_pipeline.py --config=configs/utkface_resnet18_lstm.py --manual_dir=DIR

A block of batches is drawn onto the device, then a block of steps is trained on one fixed batch, in
turns; a pipeline with `ratio` above 1 keeps up. In the first epoch all images are decoded; later
ones come out of memory if `config.data.cache_bytes` lets them. A dataset that is not prepared yet
is prepared first.
"""

import argparse
import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax_hybrid import CHECKOUT, create_steps, load_config
from ml_collections import ConfigDict
from report import Step, write

from hybrid import devices
from hybrid.data import input_pipeline
from hybrid.modes import evaluate, train


def measure_block(draw: Callable[[int], float], ahead: int, block: int, step: Step) -> list[float]:
    """Seconds a batch and seconds a step.

    Args:
      draw: Draws so many batches, and returns the seconds a batch.
      ahead: How many batches may lie ready; these are not counted.
      block: How many are.
      step: A training step.
    """
    draw(ahead)
    batch_seconds = draw(block)
    # The pipeline reads ahead again, and must not do so beside the steps.
    time.sleep(2 * ahead * batch_seconds)
    step()
    start = time.perf_counter()
    for _ in range(4):
        step()
    return [batch_seconds, (time.perf_counter() - start) / 4]


def measure(config: ConfigDict, rounds: int, block: int) -> Iterator[dict[str, Any]]:
    """Yields a row for the first epoch, unless the dataset is too small, and one for later ones."""
    builder = evaluate.create_prepared_builder(config)
    num_examples = builder.info.splits[config.data.train_split].num_examples
    batches_per_epoch = num_examples // config.train.batch_size
    train_step, _, _ = create_steps(config)
    train_step()
    iterator = train.create_train_iterator(builder, config)
    # In Grain's buffer, in the queue of those on their way, and in the hands of both.
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
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--config', default=str(CHECKOUT / 'configs' / 'quickstart.py'))
    parser.add_argument('--manual_dir', default='', help='config.data.manual_dir')
    parser.add_argument('--data_dir', default='', help='config.data.data_dir')
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--block', type=int, default=16, help='batches drawn in a round')
    parser.add_argument('--json', default='', help='file to write the rows to')
    options = parser.parse_args()
    devices.keep_freed_memory()
    config = load_config(options.config)
    config.data.manual_dir = options.manual_dir or config.data.manual_dir
    config.data.data_dir = options.data_dir or config.data.data_dir
    name = pathlib.Path(options.config).stem
    rows = [
        row | {'name': f'{name}, {row["name"]}'}
        for row in measure(config, options.rounds, options.block)
    ]
    unit = f'images/s, batch {config.train.batch_size}'
    write(rows, ['pipeline', 'step', 'ratio'], unit, options.json)


if __name__ == '__main__':
    main()
