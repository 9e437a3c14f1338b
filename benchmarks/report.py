"""What all benchmarks share: flags, taking times in turns, the table with machine and versions.

JAX is imported only where it is used: benchmarks/prepare.py measures the memory of a process that
does not need it.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
_LOAD_BEFORE = os.getloadavg()[0]

# A step does something, and returns when it is done.
Step = Callable[[], object]


def create_parser(doc: str | None, rounds: int = 0) -> argparse.ArgumentParser:
    """Creates a parser with the flags that all benchmarks have.

    Args:
      doc: The benchmark's docstring, whose first line describes it.
      rounds: The default of `--rounds`; 0 for a benchmark that does not alternate.
    """
    parser = argparse.ArgumentParser(description=(doc or '').split('\n')[0])
    parser.add_argument('--json', default='', help='file to write the rows to')
    if rounds:
        parser.add_argument('--rounds', type=int, default=rounds, help='how often to take turns')
    return parser


def words(text: str) -> list[str]:
    """Splits the value of a flag at its commas."""
    return text.split(',')


def numbers(text: str) -> list[int]:
    """Splits the value of a flag at its commas, into whole numbers."""
    return [int(word) for word in text.split(',')]


def peak_memory(usage: resource.struct_rusage) -> int:
    """The peak of a process's memory in bytes, which macOS gives in bytes, Linux in kilobytes."""
    return usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def compile_step(function: Callable, *arrays: Any) -> Step:
    """Compiles a function of arrays into a step that waits for what the function returns."""
    import jax

    compiled, on_device = jax.jit(function), jax.device_put(arrays)
    return lambda: jax.block_until_ready(compiled(*on_device))


def alternate(steps: Sequence[Step], rounds: int) -> list[float]:
    """Measures steps in turns, and returns the median seconds of each."""
    return [float(seconds) for seconds in np.median(alternate_rounds(steps, rounds), axis=1)]


def alternate_rounds(steps: Sequence[Step], rounds: int) -> np.ndarray:
    """Measures steps in turns, and returns the seconds, [steps, 2 * rounds].

    A round runs each step three times. The first time is not counted, because threads of the step
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
    return np.array(times)


def environment() -> dict[str, str]:
    """Returns what a figure depends on: commit, versions, machine, its load, XLA's flags."""
    from hybrid.runs import provenance

    versions = provenance.versions() | {'machine': provenance.machine()}
    for name in ('torch', 'torchvision'):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    load = f'{_LOAD_BEFORE:.1f} before, {os.getloadavg()[0]:.1f} after (this benchmark included)'
    flags = os.environ.get('XLA_FLAGS') or 'none'
    commit = provenance.commit(CHECKOUT / 'benchmarks')
    return {'commit': commit, **versions, 'load': load, 'XLA_FLAGS': flags}


class Table:
    """Prints rows as they come, and the machine and the versions at the end."""

    def __init__(self, columns: Sequence[str], unit: str):
        """Prints the heads.

        Args:
          columns: The figures to print, from left to right.
          unit: What the figures are; it stands over the names.
        """
        self.rows: list[Mapping[str, Any]] = []
        self._width = max(52, len(unit))
        self._widths = {column: max(12, len(column) + 3) for column in columns}
        heads = ''.join(f'{column:>{width}}' for column, width in self._widths.items())
        print(f'{unit:{self._width}}{heads}', flush=True)

    def add(self, row: Mapping[str, Any]) -> None:
        """Prints a row: its `name`, and its figures under the columns of the same names.

        The figure of the column that `chosen` names, if there is one, is marked with `*`.
        """
        self.rows.append(row)
        line = f'{row["name"]:{self._width}}'
        for column, width in self._widths.items():
            mark = '*' if row.get('chosen') == column else ''
            cell = f'{mark}{row[column]:.2f}' if column in row else ''
            line += f'{cell:>{width}}'
        print(line.rstrip(), flush=True)

    def end(self, path: str = '') -> None:
        """Prints the machine, and writes it and the rows as JSON if a path is given."""
        found = environment()
        print(', '.join(f'{name} {value}' for name, value in found.items()))
        if path:
            record = {'environment': found, 'rows': self.rows}
            pathlib.Path(path).write_text(json.dumps(record, indent=2) + '\n')
