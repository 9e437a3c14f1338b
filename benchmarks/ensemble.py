r"""Members of an ensemble trained in one vmapped step against one after another.

  python benchmarks/ensemble.py --members=4 --image_size=64,96 --json=ensemble.json
  python benchmarks/ensemble.py --members=1,2,4,8 --image_size=128 --dtype=bfloat16 \
      --batch_size=64

`vmapped` and `mapped` are the step that trains an ensemble, with `config.ensemble.at_once` of all
members and of one; `sequential` are K steps of one model. All are on one batch; in member-images/s,
alternating. `ratio` is vmapped over sequential, more than 1 if the vmapped step is faster; so is
`mapped ratio`. Peak memory is measured in a process of its
own for each form, over a few steps, states and program included.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import jax
from jax_hybrid import CHECKOUT, create_batch, load_config
from ml_collections import ConfigDict
from report import Step, alternate, write

from hybrid import devices
from hybrid.models.network import create_model
from hybrid.ops import kernels
from hybrid.training import ensemble, train_state, train_step
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer

FORMS = ('vmapped', 'sequential', 'mapped')


def create_step(form: str, config: ConfigDict, members: int) -> Step:
    """A training step of all members, compiled, on one fixed batch."""
    model = create_model(config.model, axis_name=devices.AXIS)
    tx = create_optimizer(config.optimizer, create_learning_rate_fn(config.optimizer, 1000))
    of_one = train_step.create_train_step(model, tx, config)
    batch = create_batch(config)
    if form == 'sequential':
        states = [
            devices.replicate(train_state.create_train_state(model, tx, config, member))
            for member in range(members)
        ]
        step = devices.compile_train_step(of_one)

        def train_in_turn() -> None:
            last = []
            for member in range(members):
                states[member], metrics = step(states[member], batch)
                last.append(metrics)
            jax.block_until_ready(last)

        return train_in_turn
    at_once = 1 if form == 'mapped' else members
    step = devices.compile_train_step(ensemble.map_members(of_one, at_once))
    stacked = train_state.create_stacked_train_state(model, tx, config, range(members))
    box = [devices.replicate(stacked)]

    def train() -> None:
        box[0], metrics = step(box[0], batch)
        jax.block_until_ready(metrics)

    return train


def peak_bytes(form: str, options: argparse.Namespace, size: int, members: int) -> int:
    """Peak memory of a few steps, in a process of its own: on the GPU if there is one."""
    command = [sys.executable, __file__, f'--peak={form}', f'--members={members}']
    command += [f'--image_size={size}', f'--batch_size={options.batch_size}']
    command += [f'--dtype={options.dtype}', f'--encoder={options.encoder}']
    command += [f'--width={options.width}']
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def measure_peak(form: str, config: ConfigDict, members: int) -> int:
    """Peak memory of this process after a few steps."""
    step = create_step(form, config, members)
    for _ in range(3):
        step()
    statistics = jax.devices()[0].memory_stats() or {}
    # Not getrusage's, which a process inherits from the one that started it.
    status = pathlib.Path('/proc/self/status').read_text()
    (in_kilobytes,) = re.findall(r'^VmHWM:\s+(\d+) kB$', status, re.MULTILINE)
    return statistics.get('peak_bytes_in_use', 1024 * int(in_kilobytes))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--encoder', default='resnet18')
    parser.add_argument('--width', type=int, default=64)
    parser.add_argument('--members', default='4')
    parser.add_argument('--image_size', default='64,96')
    parser.add_argument('--batch_size', type=int, default=32)
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16'])
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--forms', default=','.join(FORMS), help='which to measure')
    parser.add_argument('--no_memory', action='store_true', help='leave the peak memory out')
    parser.add_argument('--peak', default='', choices=['', *FORMS], help=argparse.SUPPRESS)
    parser.add_argument('--json', default='', help='file to write the rows to')
    options = parser.parse_args()
    with_dtype = load_config(CHECKOUT / 'configs' / 'default.py')
    with_dtype.model.dtype = options.dtype
    kernels.settle(with_dtype)  # Before JAX starts.
    devices.keep_freed_memory()
    forms = options.forms.split(',')
    rows: list[dict[str, Any]] = []
    for size in map(int, options.image_size.split(',')):
        config = with_dtype.copy_and_resolve_references()
        config.model.encoder.name = options.encoder
        config.model.encoder.width = options.width
        config.data.image_size = config.data.resize_size = size
        config.train.batch_size = options.batch_size
        for members in map(int, options.members.split(',')):
            if options.peak:
                print(measure_peak(options.peak, config, members))
                return
            row: dict[str, Any] = {
                'name': f'{options.encoder}, width {options.width}, {size} px, {options.dtype}, '
                f'{members} members'
            }
            seconds = alternate([create_step(f, config, members) for f in forms], options.rounds)
            for form, time in zip(forms, seconds, strict=True):
                row[form] = members * options.batch_size / time
                if not options.no_memory:
                    row[f'{form} GB'] = peak_bytes(form, options, size, members) / 1e9
            if {'vmapped', 'sequential'} <= row.keys():
                row['ratio'] = row['vmapped'] / row['sequential']
            if {'mapped', 'sequential'} <= row.keys():
                row['mapped ratio'] = row['mapped'] / row['sequential']
            rows.append(row)
    columns = [*forms, 'ratio', 'mapped ratio'] + [
        f'{form} GB' for form in forms if not options.no_memory
    ]
    unit = f'member-images/s, batch {options.batch_size}'
    write(rows, columns, unit, options.json)


if __name__ == '__main__':
    main()
