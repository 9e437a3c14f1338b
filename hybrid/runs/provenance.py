"""Where the figures of a run come from: command, commit, versions, machine and time of each start.

`sessions.jsonl` in the workdir has one line for every start and, unless it was killed, one for its
end. Nothing reads it but people and `tools.record`; the run itself does not depend on it.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax

SESSIONS = 'sessions.jsonl'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')


def commit(folder: pathlib.Path | None = None) -> str:
    """The commit of the code, with `+changes` if files differ from it; '' outside a checkout.

    Args:
      folder: Of the code; this package's by default.
    """
    folder = folder or pathlib.Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        # A package installed inside somebody else's checkout is not part of it.
        git('ls-files', '--error-unmatch', str(folder))
        changes = git('status', '--porcelain', '--untracked-files=no')
        return git('rev-parse', '--short=12', 'HEAD') + ('+changes' if changes else '')
    except (OSError, subprocess.CalledProcessError):
        return ''


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide about numbers."""
    found = {'python': platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine() -> str:
    """The accelerators, or the processor and its cores."""
    devices = jax.devices()
    if devices[0].platform != 'cpu':
        return f'{len(devices)} x {devices[0].device_kind}'
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                model = line.split(':', 1)[1].strip()
                break
    return f'{os.cpu_count()} cores of {model}'


@contextlib.contextmanager
def session(workdir: pathlib.Path, first_step: int, kernels: str) -> Iterator[None]:
    """Notes the start of a training in `sessions.jsonl`, and its end.

    Args:
      workdir: The run's folder.
      first_step: How many steps were finished before.
      kernels: `config.model.kernels`.
    """
    start = time.monotonic()
    _append(
        workdir,
        {
            'started': _now(),
            'first_step': first_step,
            'command': shlex.join(['python', pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
            'commit': commit(),
            'machine': machine(),
            'processes': jax.process_count(),
            'kernels': kernels,
            'xla_flags': os.environ.get('XLA_FLAGS', ''),
            'versions': versions(),
        },
    )
    try:
        yield
    finally:
        _append(workdir, {'ended': _now(), 'seconds': round(time.monotonic() - start, 1)})


def _append(workdir: pathlib.Path, row: dict[str, Any]) -> None:
    with (workdir / SESSIONS).open('a') as file:
        file.write(json.dumps(row) + '\n')


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
