"""Where a training's figures go: the console, metrics.jsonl and TensorBoard."""

import contextlib
import json
import logging
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

from hybrid import files

_LOG = logging.getLogger(__name__)

METRICS = 'metrics.jsonl'
FEW_STEPS = 5


def truncate_metrics(path: pathlib.Path, last_step: int) -> None:
    """Removes the rows beyond `last_step`, which the continued run will write again.

    A last line that was cut off when the run was killed goes too.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            row = json.loads(line)
            belongs = row['step'] <= last_step
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
        if belongs:
            kept.append(line + '\n')
    files.replace(path, ''.join(kept))


def format_duration(seconds: float) -> str:
    """Seconds as 59 s, 12:34 or 1:02:03."""
    total = round(seconds)
    hours, minutes = divmod(total // 60, 60)
    if hours:
        return f'{hours}:{minutes:02d}:{total % 60:02d}'
    return f'{minutes}:{total % 60:02d}' if minutes else f'{total} s'


def _columns(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80


class Progress:
    """The one progress line: in place on a terminal, one line a call elsewhere.

    Args:
      num_steps: Length of the training.
      start_step: Steps already done.
      stream: Where to write; standard error by default, so that output can be piped.
      active: Only one process writes.
    """

    def __init__(
        self, num_steps: int, start_step: int, stream: TextIO | None = None, active: bool = True
    ):
        self._active = active
        self._num_steps = num_steps
        self._stream = stream or sys.stderr
        self._start = time.monotonic()
        self._start_step = start_step
        self._metrics: dict[str, float] = {}
        self._warm: tuple[int, float] | None = None
        self._width = 0

    def show(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the line for a step, with the newest of what was ever given."""
        if not self._active:
            return
        self._metrics |= metrics
        line = ' | '.join([f'step {step}/{self._num_steps}{self._time_left(step)}', *self._parts()])
        if self._stream.isatty():
            line = line[: _columns(self._stream) - 1]  # A wrapped line could not be taken back.
            self._stream.write('\r' + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + '\n')
        self._stream.flush()

    def _parts(self) -> Iterator[str]:
        m = self._metrics
        if 'train/loss' in m:
            losses = {'age': m['train/age_loss'], 'gender': m['train/gender_loss']}
            # Without labels of a kind there is no loss of it.
            parts = [
                f' {name} {value:.3f}' for name, value in losses.items() if not math.isnan(value)
            ]
            yield f'loss {m["train/loss"]:.3f}{"".join(parts)}'
        if 'validation/age/mae' in m:
            errors = {'MAE': m['validation/age/mae']}
            errors['interval error'] = m.get('validation/age/interval_error', math.nan)
            # What there are no labels of, or what is not learnt, has no score.
            shown = [f'{name} {mean:.2f}' for name, mean in errors.items() if math.isfinite(mean)]
            if math.isfinite(gender := m['validation/gender/accuracy']):
                shown.append(f'gender {100 * gender:.1f} %')
            yield ' '.join(['validation', *shown])
        if 'train/images_per_second' in m:
            yield f'{m["train/images_per_second"]:.0f} images/s'

    def _time_left(self, step: int) -> str:
        # The first steps compile, so time is taken from the first line on as soon as there are two.
        now = time.monotonic()
        since_step, since = self._warm or (self._start_step, self._start)
        if step == since_step:
            since_step, since = self._start_step, self._start
        self._warm = self._warm or (step, now)
        # The time that a step took which compiled says nothing about a thousand others.
        if since == self._start and step - since_step < FEW_STEPS and step < self._num_steps:
            return ''
        left = (now - since) / (step - since_step) * (self._num_steps - step)
        return f', {format_duration(left)} left'

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *unused: object) -> None:
        """Ends the line."""
        if self._stream.isatty() and self._width:
            self._stream.write('\n')
            self._stream.flush()


class Writers:
    """metrics.jsonl and TensorBoard events of a workdir.

    Args:
      workdir: The run's folder.
      start_step: Rows beyond this step are removed: they come again.
      active: Only one process writes.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int, active: bool = True):
        self._active = active
        if not active:
            return
        # It imports PyTorch where that is installed: by now there are programs being compiled.
        import tensorboardX

        truncate_metrics(workdir / METRICS, start_step)
        self._file = (workdir / METRICS).open('a')
        # TensorBoard then hides what was written beyond start_step before the run was killed.
        self._events = tensorboardX.SummaryWriter(
            str(workdir / 'tensorboard'), purge_step=start_step + 1
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds one row, on disk when this returns.

        A value that is not finite is null in metrics.jsonl, and absent from TensorBoard.
        """
        if not self._active:
            return
        row = {'step': step} | {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        self._file.write(json.dumps(row) + '\n')
        self._file.flush()
        os.fsync(self._file.fileno())
        try:
            for name, value in metrics.items():
                if math.isfinite(value):
                    self._events.add_scalar(name, value, step)
            self._events.flush()
        except OSError as error:  # Everything is in metrics.jsonl too.
            _LOG.warning('TensorBoard events could not be written: %s', error)

    def __enter__(self) -> 'Writers':
        return self

    def __exit__(self, *unused: object) -> None:
        """Closes the files."""
        if self._active:
            # What could not be written has been said when it was.
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._events.close()
