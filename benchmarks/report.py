"""How the benchmarks take times, and what they print: a small table, the machine, the versions."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hybrid.runs import provenance

_LOAD_BEFORE = os.getloadavg()[0]

# Does something, and returns when it is done.
Step = Callable[[], object]


def compile_step(function: Callable, *arrays: Any) -> Step:
    """A function of arrays, compiled, as a step that waits for what it returns."""
    compiled, on_device = jax.jit(function), jax.device_put(arrays)
    return lambda: jax.block_until_ready(compiled(*on_device))


def alternate(steps: Sequence[Step], rounds: int) -> list[float]:
    """Median seconds of each step, taken in turns.

    A round runs each step three times, of which the first is not counted: threads of the step
    before may still be spinning.
    """
    for step in steps:
        step()
        step()
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, seconds in zip(steps, times, strict=True):
            for repeat in range(3):
                start = time.perf_counter()
                step()
                if repeat:
                    seconds.append(time.perf_counter() - start)
    return [float(np.median(seconds)) for seconds in times]


def environment() -> dict[str, str]:
    """The machine, its load, the versions and the flags that a figure depends on."""
    versions = provenance.versions() | {'machine': provenance.machine()}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions['torch'] = importlib.metadata.version('torch')
    load = f'{_LOAD_BEFORE:.1f} before, {os.getloadavg()[0]:.1f} after (this benchmark included)'
    flags = os.environ.get('XLA_FLAGS') or 'none'
    commit = provenance.commit(pathlib.Path(__file__).parent)
    return {'commit': commit, **versions, 'load': load, 'XLA_FLAGS': flags}


class Table:
    """Rows that are printed as they come, with the machine and the versions at the end."""

    def __init__(self, columns: Sequence[str], unit: str, name_width: int = 52):
        """Prints the heads.

        Args:
          columns: Which figures are printed, from left to right.
          unit: What the figures are, over the names.
          name_width: Characters for the names.
        """
        self.rows: list[Mapping[str, Any]] = []
        self._width = max(name_width, len(unit))
        self._widths = {column: max(12, len(column) + 3) for column in columns}
        heads = ''.join(f'{column:>{width}}' for column, width in self._widths.items())
        print(f'{unit:{self._width}}{heads}', flush=True)

    def add(self, row: Mapping[str, Any]) -> None:
        """Prints a row: its `name`, and figures under the names of columns, where there is one.

        If it has `chosen`, the name of a column, that figure is marked with `*`.
        """
        self.rows.append(row)
        line = f'{row["name"]:{self._width}}'
        for column, width in self._widths.items():
            mark = '*' if row.get('chosen') == column else ''
            cell = f'{mark}{row[column]:.2f}' if column in row else ''
            line += f'{cell:>{width}}'
        print(line.rstrip(), flush=True)

    def end(self, path: str = '') -> None:
        """Prints the machine, and writes the rows with it as JSON if a path is given."""
        found = environment()
        print(', '.join(f'{name} {value}' for name, value in found.items()))
        if path:
            record = {'environment': found, 'rows': self.rows}
            pathlib.Path(path).write_text(json.dumps(record, indent=2) + '\n')


def write(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], unit: str, path: str) -> None:
    """Prints rows as a `Table`, and writes them if a path is given."""
    table = Table(columns, unit, max(len(row['name']) for row in rows))
    for row in rows:
        table.add(row)
    table.end(path)
