"""Records where the figures of a run come from: command, commit, versions, machine and time.

`sessions.jsonl` in the workdir gets a line whenever a training starts and, unless it is killed, a
line when it ends. People and `tools.record` read it; the training itself does not depend on it.
"""

import contextlib
import datetime
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from hybrid import __version__, files
from hybrid.runs.public import clean_command

_LOG = logging.getLogger(__name__)

SESSIONS = 'sessions.jsonl'
_PACKAGES = (
    *('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy'),
    *('scikit-image', 'scikit-learn'),  # benchmarks/traditional.py
)


def program() -> str:
    """Says how this process was started, such as `python launch.py` or `python -m hybrid`."""
    path = pathlib.Path(sys.argv[0])
    if path.name == '__main__.py':
        return f'python -m {path.parent.name}'
    checkout = pathlib.Path(__file__).resolve().parents[2]
    place = path.resolve()
    name = place.relative_to(checkout) if place.is_relative_to(checkout) else path.name
    return shlex.join(['python', str(name)]) if path.name else 'python'


def commit(folder: pathlib.Path | None = None) -> str:
    """Returns the commit of the code, with `+changes` if files differ; '' outside a checkout.

    Args:
      folder: Where the code is; by default where this package is.
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
    """Returns the versions of this program, of Python and of the packages that decide numbers."""
    found = {'hybrid': __version__, 'python': platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine() -> str:
    """Describes the accelerators or, without any, the processor and its cores that may be used."""
    import jax  # Here, because the command line asks for `program()` alone and must be quick.

    devices = jax.devices()
    if devices[0].platform != 'cpu':
        return f'{len(devices)} x {devices[0].device_kind}'
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                model = line.split(':', 1)[1].strip()
                break
    # All of them but on Linux, where a process may be kept to some (taskset, containers).
    cores = len(os.sched_getaffinity(0)) if sys.platform == 'linux' else os.cpu_count()
    return f'{cores} {"core" if cores == 1 else "cores"} of {model}'


def warn_of_changes(workdir: pathlib.Path, kernels: str) -> None:
    """Warns where a training goes on with what changes the last bits of its results.

    Sums of floats depend on the processor, on how many of its cores share the work (2 or 1 changed
    the losses of a training in bfloat16 from its first steps on), on the version of XLA, and on how
    processes and kernels divide them.

    Args:
      workdir: The folder of a run that is continued, before its new session is written.
      kernels: `config.model.kernels`.
    """
    import jax

    starts = [row for row in _rows(workdir) if 'started' in row]
    if not starts:
        return
    was = {**starts[-1], **starts[-1].get('versions', {})}
    now: dict[str, Any] = {'processes': jax.process_count(), 'kernels': kernels, **versions()}
    now['machine'] = machine()
    changed = [
        f'{"" if name == "machine" else name + " "}{was[name]}, now {now[name]}'
        for name in ('machine', 'processes', 'kernels', 'jax', 'jaxlib')
        if was.get(name, now[name]) != now[name]
    ]
    if changed:
        _LOG.warning(
            '%s: so far trained with %s; the results will differ in their last bits from those of '
            'a training that was not interrupted',
            workdir,
            '; '.join(changed),
        )


@contextlib.contextmanager
def session(workdir: pathlib.Path, first_step: int, kernels: str) -> Iterator[None]:
    """Writes the start of a training to `sessions.jsonl`, and its end.

    Args:
      workdir: The folder of the run.
      first_step: How many steps earlier sessions finished.
      kernels: `config.model.kernels`.
    """
    import jax

    start = time.monotonic()
    _append(
        workdir,
        {
            'started': _now(),
            'first_step': first_step,
            'command': f'{program()} {shlex.join(sys.argv[1:])}'.strip(),
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


def describe_sessions(workdir: pathlib.Path) -> dict[str, Any]:
    """Sums up the `sessions.jsonl` of a run, which was started once or several times.

    Returns:
      Command and versions of the last start, commits and machines of all, how often the run was
      `started`, and the `seconds` it trained; None if one of its sessions was killed. Nothing where
      there is no such file, as in runs of before it.
    """
    rows = _rows(workdir)
    starts = [row for row in rows if 'started' in row]
    ends = [row for row in rows if 'ended' in row]
    if not starts:
        return {}
    whole = len(ends) == len(starts)
    return {
        'command': clean_command(starts[-1]['command']),
        'commit': ', '.join(sorted({row['commit'] for row in starts})),
        'machine': ', then '.join(dict.fromkeys(row['machine'] for row in starts)),
        'versions': starts[-1]['versions'],
        'started': len(starts),
        'seconds': round(sum(row['seconds'] for row in ends), 1) if whole else None,
    }


def _rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        return files.read_json_lines(workdir / SESSIONS)
    return []


def _append(workdir: pathlib.Path, row: dict[str, Any]) -> None:
    with (workdir / SESSIONS).open('ab+') as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b'\n':  # A crash cut the last line short.
                file.write(b'\n')
        file.write((json.dumps(row) + '\n').encode())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
