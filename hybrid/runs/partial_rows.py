"""The rows of a prediction that is not done, from which the same command continues.

They are in `<output>.partial`. Beside it `<output>.partial.journal` says what they are of: its
first line describes the prediction, and each further line a file whose rows are all written. It is
written after them, so whatever ends the program, at any moment, what the journal tells is there.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import pathlib
import stat
import types
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from hybrid import __version__, files
from hybrid.photos.faces import format_row
from hybrid.runs import calibration, trained, workdir
from hybrid.schema import flatten
from hybrid.scores import combination

try:
    import fcntl
except ImportError:  # There is none on Windows, where a file that is open cannot be replaced.
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Done:
    """A file whose rows are all written.

    Attributes:
      path: The file.
      state: What `file_state` said of it before it was read.
      length: Bytes of its rows.
      checksum: CRC-32 of them.
      place: Where its last row stood, see `face_rows.predict_placed_rows`.
      counts: What it adds to the summary.
      drawing: The file of its drawing; '' for none.
    """

    path: str
    state: list[int] | None
    length: int
    checksum: int
    place: tuple[int, int]
    counts: Mapping[str, int]
    drawing: str


def identify(
    models: Sequence[trained.Trained],
    weights: combination.Weights | None,
    calibrated: calibration.Calibration | None,
    detect: bool,
) -> dict[str, Any]:
    """Names whatever decides what rows say, but for the files.

    Args:
      models: What predicts.
      weights: With which they are combined.
      calibrated: What validation says of the predictions.
      detect: Whether photographs are searched for faces.
    """
    config = flatten(models[0].config.to_dict())
    for name in (*workdir.MACHINE_KEYS, 'evaluate.batch_size'):
        if not detect or not name.startswith(('detect.', 'video.')):
            config.pop(name, None)
    detector = files.expanded(config.get('detect.model', ''))
    if detector.is_file():
        config['detect.model'] = hashlib.sha256(detector.read_bytes()).hexdigest()[:16]
    return {
        'program': __version__,
        'model': [trained.fingerprint(model) for model in models],
        'weights': weights and [weights.age.tolist(), weights.gender.tolist()],
        'calibration': calibrated and calibrated.fingerprint,
        '--detect': detect,
        **{f'config.{name}': value for name, value in config.items()},
    }


def file_state(path: str | os.PathLike) -> list[int] | None:
    """The size and the time of the last change of a file; None if it is no regular file."""
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            return [found.st_size, found.st_mtime_ns]
    return None


class PartialRows:
    """Writes rows to `<target>.partial`, after those of the same prediction that are there.

    Usage: `with PartialRows(...) as rows:`. If the block ends without an exception, the file takes
    the place of the target; else it stays, and the next one of the same prediction goes on.

    What is there of another prediction is not touched but renamed, with a word.

    Args:
      target: The file to write in the end.
      identity: Whatever decides what the rows say, but for the files, as JSON can hold it.
      columns: What each row has.
      paths: All files of the prediction, in their order.

    Attributes:
      path: The file that is written.
      done: The files whose rows are there; `paths` begins with them.

    Raises:
      ValueError: when another process is writing it.
      OSError: when it cannot be written.
    """

    def __init__(
        self,
        target: pathlib.Path,
        identity: Mapping[str, Any],
        columns: Sequence[str],
        paths: Sequence[pathlib.Path],
    ):
        self._target = target
        self._columns = columns
        self._head = b'' if target.suffix == '.jsonl' else (','.join(columns) + '\n').encode()
        # By way of JSON, as the one in the journal went.
        self._identity = json.loads(json.dumps({**identity, 'columns': columns}))
        self._paths = paths
        self._states: dict[str, list[int] | None] = {}
        self._length = self._checksum = 0
        self.path = target.with_name(f'{target.name}.partial')
        self._journal_path = target.with_name(f'{target.name}.partial.journal')
        self._stack = contextlib.ExitStack()
        self.done: list[Done] = []

    def __enter__(self) -> 'PartialRows':
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(self._open())
            identity, listed = self._read_journal()
            rows = os.fstat(self._file.fileno()).st_size - len(self._head)
            if identity == self._identity:
                self.done = self._fitting(listed)
            elif rows > 0:
                self._file.close()
                self._set_aside(identity)
                self._file = stack.enter_context(self._open())
            lines = [{'identity': self._identity}, *map(dataclasses.asdict, self.done)]
            files.replace(self._journal_path, ''.join(json.dumps(line) + '\n' for line in lines))
            length = sum(done.length for done in self.done)
            self._file.truncate(len(self._head) + length if self.done else 0)
            if not self.done:
                self._file.write(self._head)
            self._journal = stack.enter_context(self._journal_path.open('a'))
            self._stack = stack.pop_all()
        if self.done:
            _LOG.info(
                '%s: going on after %s of %s files',
                *(self.path, f'{len(self.done):,}', f'{len(self._paths):,}'),
            )
        return self

    @property
    def place(self) -> tuple[int, int]:
        """Where the last row that is there stood, see `face_rows.predict_placed_rows`."""
        return self.done[-1].place if self.done else (0, 0)

    def remaining(self) -> Iterator[pathlib.Path]:
        """Yields the files whose rows are to be written, each just before it is read."""
        for path in self._paths[len(self.done) :]:
            self._states[str(path)] = file_state(path)
            yield path

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows of one file."""
        lines = (format_row(row, self._target.suffix, self._columns) for row in rows)
        # File names need not be text in any encoding.
        content = ''.join(lines).encode(errors='backslashreplace')
        self._file.write(content)
        self._file.flush()
        self._length += len(content)
        self._checksum = zlib.crc32(content, self._checksum)

    def end_file(
        self,
        path: str,
        place: tuple[int, int],
        counts: Mapping[str, int],
        drawing: pathlib.Path | None = None,
    ) -> None:
        """Notes that what was written since the last call is all of a file; see `Done`."""
        drawn = str(drawing) if drawing and drawing.exists() else ''
        state = self._states.pop(path)
        done = Done(path, state, self._length, self._checksum, place, dict(counts), drawn)
        self._journal.write(json.dumps(dataclasses.asdict(done)) + '\n')
        self._journal.flush()
        self._length = self._checksum = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Closes the files and, unless there was an exception, puts the rows in their place."""
        self._stack.close()
        if kind is None:
            self.path.replace(self._target)
            self._journal_path.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        """Opens the file, and keeps other processes out until it is closed."""
        file = self.path.open('a+b')
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ValueError(f'{self.path}: another process is writing it') from None
        except OSError:  # Some file systems have no locks.
            pass
        return file

    def _read_journal(self) -> tuple[Any, list[Done]]:
        """Reads the journal up to a line that is not whole; None and no files if there is none."""
        identity, listed = None, []
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            lines = self._journal_path.read_text().splitlines()
            identity = json.loads(lines[0])['identity']
            for line in lines[1:]:
                done = json.loads(line)
                listed.append(Done(**done | {'place': tuple(done['place'])}))
        return identity, listed

    def _fitting(self, listed: Sequence[Done]) -> list[Done]:
        """Returns the files, from the first on, that are as they were, as are their rows."""
        self._file.seek(0)
        if self._file.read(len(self._head)) != self._head:
            return []
        for number, done in enumerate(listed):
            if (
                number >= len(self._paths)
                or done.path != str(self._paths[number])
                or done.state != file_state(done.path)
                or (done.drawing and not os.path.exists(done.drawing))
            ):
                reason = 'files or drawings are not what they were'
            elif zlib.crc32(self._file.read(done.length)) != done.checksum:
                reason = 'rows are not what they were'
            else:
                continue
            _LOG.warning(
                '%s: from %s on, %s; these are predicted again', self.path, done.path, reason
            )
            return list(listed[:number])
        return list(listed)

    def _set_aside(self, identity: Any) -> None:
        """Renames the rows of another prediction; a later one may have the name."""
        others = (self.path.with_name(f'{self.path.name}.{n}') for n in itertools.count(1))
        other = next(path for path in others if not path.exists())
        self.path.replace(other)
        _LOG.warning(
            '%s held rows of another prediction (%s): renamed to %s, beginning with the first file',
            *(self.path, _difference(identity, self._identity), other.name),
        )


def _difference(old: Any, new: Mapping[str, Any]) -> str:
    if not isinstance(old, dict):
        return 'nothing says which'
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    shown = ', '.join(f'{key} {old.get(key)!r} there, {new.get(key)!r} now' for key in keys[:2])
    return f'{shown} and {len(keys) - 2} more' if len(keys) > 2 else shown
