"""How the benchmarks take times, and what they print: a small table, the machine, the versions."""

import contextlib
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hybrid import provenance

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
    """The machine and the versions that a figure depends on."""
    versions = provenance.versions() | {'machine': provenance.machine()}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions['torch'] = importlib.metadata.version('torch')
    return {'commit': provenance.commit(pathlib.Path(__file__).parent), **versions}


def write(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], unit: str, path: str) -> None:
    """Prints rows as a table, and writes them as a JSON list if a path is given.

    Args:
      rows: Each has a `name`, and figures under the names of columns, where there is one. If it has
        `chosen`, the name of a column, that figure is marked with `*`.
      columns: Which figures are printed, from left to right.
      unit: What the figures are, over the names.
      path: Of the JSON file, or ''.
    """
    widths = {column: max(12, len(column) + 3) for column in columns}
    first = max(len(text) for text in (unit, *(row['name'] for row in rows)))
    print(f'{unit:{first}}' + ''.join(f'{column:>{widths[column]}}' for column in columns))
    for row in rows:
        line = f'{row["name"]:{first}}'
        for column, width in widths.items():
            mark = '*' if row.get('chosen') == column else ''
            cell = f'{mark}{row[column]:.2f}' if column in row else ''
            line += f'{cell:>{width}}'
        print(line.rstrip())
    print(', '.join(f'{name} {value}' for name, value in environment().items()))
    if path:
        pathlib.Path(path).write_text(json.dumps(list(rows), indent=2) + '\n')
