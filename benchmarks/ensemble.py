r"""Measures the training step of an ensemble in three forms, in member-images/s.

  python benchmarks/ensemble.py --members=4 --image_size=64,96 --json=ensemble.json
  python benchmarks/ensemble.py --members=1,2,4,8 --image_size=128 --dtype=bfloat16 \
      --batch_size=64

`vmapped` and `apart` are the step that trains an ensemble: it takes all members side by side, or
one at a time (`config.ensemble.at_once`). `sequential` are K steps of one model each, of which each
is waited for. All three train on one batch, in turns. `ratio` is vmapped over sequential, so it is
above 1 if the vmapped step is faster; `apart ratio` likewise. Peak memory is measured over a few
steps, in a process of its own for each form; it includes states and program.
"""

import argparse
import itertools
import pathlib
import re
import resource
import subprocess
import sys
from typing import Any

import jax
from jax_hybrid import add_model_flags, create_batch, create_configs
from ml_collections import ConfigDict
from report import Step, Table, alternate, create_parser, numbers, peak_memory, words

from hybrid import devices
from hybrid.models.network import create_model
from hybrid.training import ensemble, learner, train_state
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer

FORMS = ('vmapped', 'sequential', 'apart')


def create_step(form: str, config: ConfigDict, members: int) -> Step:
    """Compiles a training step of all members, on one fixed batch."""
    learning_rate_fn = create_learning_rate_fn(config.optimizer, 1000)
    batch = create_batch(config)
    if form == 'sequential':
        one = learner.SingleModel(config, learning_rate_fn)
        model = create_model(config.model, axis_name=devices.AXIS)
        tx = create_optimizer(config.optimizer, learning_rate_fn)
        states = [
            devices.replicate(train_state.create_train_state(model, tx, config, member))
            for member in range(members)
        ]

        def train_in_turn() -> None:
            for member in range(members):
                states[member], metrics = one.train_step(states[member], batch)
                jax.block_until_ready(metrics)

        return train_in_turn
    config = config.copy_and_resolve_references()
    config.ensemble.size = members
    config.ensemble.at_once = 1 if form == 'apart' else members
    of_all = ensemble.Ensemble(config, learning_rate_fn)
    box = [of_all.place(devices.replicate(of_all.create_state()))]

    def train() -> None:
        box[0], metrics = of_all.train_step(box[0], batch)
        jax.block_until_ready(metrics)

    return train


def peak_bytes(form: str, config: ConfigDict, members: int) -> int:
    """Returns the peak memory of a few steps, measured in a process of its own."""
    # The same flags as this process, with one value each instead of lists.
    flags = [*sys.argv[1:], f'--peak={form}', f'--members={members}']
    flags += [f'--image_size={config.data.image_size}', f'--dtype={config.model.dtype}']
    flags += [f'--encoder={config.model.encoder.name}']
    command = [sys.executable, __file__, *flags]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


def measure_peak(form: str, config: ConfigDict, members: int) -> int:
    """Returns the peak memory of this process after a few steps: the GPU's, if there is one."""
    step = create_step(form, config, members)
    for _ in range(3):
        step()
    statistics = jax.devices()[0].memory_stats() or {}
    if 'peak_bytes_in_use' in statistics:
        return statistics['peak_bytes_in_use']
    status = pathlib.Path('/proc/self/status')
    if not status.exists():
        return peak_memory(resource.getrusage(resource.RUSAGE_SELF))
    # On Linux getrusage does not do: a process inherits its peak from the one that started it.
    (in_kilobytes,) = re.findall(r'^VmHWM:\s+(\d+) kB$', status.read_text(), re.MULTILINE)
    return 1024 * int(in_kilobytes)


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__, rounds=6)
    add_model_flags(parser, image_size='64,96')
    parser.add_argument('--width', type=int, default=64)
    parser.add_argument('--members', type=numbers, default='4')
    parser.add_argument('--forms', type=words, default=','.join(FORMS), help='which to measure')
    parser.add_argument('--no_memory', action='store_true', help='leave the peak memory out')
    parser.add_argument('--peak', help=argparse.SUPPRESS)
    options = parser.parse_args()
    configs = create_configs(options)
    for config in configs:
        config.model.encoder.width = options.width
    if options.peak:
        print(measure_peak(options.peak, configs[0], options.members[0]))
        return
    forms = options.forms
    ratios = {'ratio': 'vmapped', 'apart ratio': 'apart'}
    memory = [] if options.no_memory else [f'{form} GB' for form in forms]
    unit = f'member-images/s, batch {options.batch_size}'
    table = Table([*forms, *ratios, *memory], unit)
    for config, members in itertools.product(configs, options.members):
        model = config.model
        row: dict[str, Any] = {
            'name': f'{model.encoder.name}, width {options.width}, {config.data.image_size} px, '
            f'{model.dtype}, {members} members'
        }
        seconds = alternate([create_step(f, config, members) for f in forms], options.rounds)
        for form, time in zip(forms, seconds, strict=True):
            row[form] = members * options.batch_size / time
        for ratio, form in ratios.items():
            if {form, 'sequential'} <= row.keys():
                row[ratio] = row[form] / row['sequential']
        if memory:
            row |= {f'{form} GB': peak_bytes(form, config, members) / 1e9 for form in forms}
        table.add(row)
    table.end(options.json)


if __name__ == '__main__':
    main()
