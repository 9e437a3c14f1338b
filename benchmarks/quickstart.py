"""Measures the seconds of launch.py: to its first step, of a whole run, and of `--help`.

  python benchmarks/quickstart.py --json=quickstart.json
  python benchmarks/quickstart.py --num_steps=20

Every run is a process of its own, in a temporary folder. The first start finds nothing: it makes
the dataset and compiles everything. The next one finds the dataset alone, the last one both.
`training` is when the first step begins, `first_step` when its figures are on disk, `end` when the
run ends.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from report import CHECKOUT, Table, create_parser

LAUNCH = [sys.executable, str(CHECKOUT / 'launch.py')]


class Runs:
    """Runs launch.py, with everything that it writes in one folder."""

    def __init__(self, folder: pathlib.Path, *flags: str):
        self._folder = folder
        self._flags = flags

    def _start(self, name: str, data: str, cache: str, *flags: str) -> subprocess.Popen:
        command = [*LAUNCH, *self._flags, *flags, f'--workdir={self._folder / name}']
        command.append(f'--config.data.data_dir={self._folder / data}')
        environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(self._folder / cache)}
        with (self._folder / f'{name}.log').open('w') as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def _fail(self, name: str) -> None:
        log = (self._folder / f'{name}.log').read_text()
        sys.exit(f'error: launch.py ended before its time:\n{log[-4000:]}')

    def whole(self, name: str, data: str, cache: str) -> float:
        """Measures the seconds of a run from beginning to end.

        Args:
          name: What its workdir is called.
          data: The name of the folder for the dataset.
          cache: The name of the folder for what JAX has compiled.
        """
        start = time.perf_counter()
        with self._start(name, data, cache) as process:
            if process.wait():
                self._fail(name)
        return time.perf_counter() - start

    def first_step(self, name: str, data: str, cache: str) -> dict[str, float]:
        """Measures the seconds to the training and to the end of its first step; ends the run."""
        metrics = self._folder / name / 'metrics.jsonl'  # made when the training begins
        seconds: dict[str, float] = {}
        start = time.perf_counter()
        with self._start(name, data, cache, '--config.train.log_every_steps=1') as process:
            try:
                while 'first_step' not in seconds:
                    if process.poll() is not None:
                        self._fail(name)
                    if metrics.exists():
                        key = 'first_step' if metrics.stat().st_size else 'training'
                        seconds.setdefault(key, time.perf_counter() - start)
                    time.sleep(0.02)
            finally:
                process.terminate()
        return seconds


def help_seconds() -> float:
    """Measures the seconds of `launch.py --help`."""
    start = time.perf_counter()
    subprocess.run([*LAUNCH, '--help'], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__)
    parser.add_argument('--config', default=str(CHECKOUT / 'configs' / 'quickstart.py'))
    parser.add_argument('--num_steps', type=int, default=0, help="0: the config's own")
    options = parser.parse_args()
    flags = [f'--config={options.config}']
    if options.num_steps:
        flags.append(f'--config.train.num_steps={options.num_steps}')
    table = Table(['training', 'first_step', 'end'], 'seconds')
    of_help = float(np.median([help_seconds() for _ in range(5)]))
    table.add({'name': '--help, median of 5', 'end': of_help})
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(pathlib.Path(folder), *flags)
        for name, data, cache in (
            ('first start', 'data', 'compiled'),
            ('start with the dataset', 'data', 'compiled_again'),
            ('second start', 'data', 'compiled'),
        ):
            table.add({'name': name, **runs.first_step(name, data, cache)})
        whole = runs.whole('whole run', 'other_data', 'other_compiled')
        table.add({'name': 'whole run, first start', 'end': whole})
    table.end(options.json)


if __name__ == '__main__':
    main()
