"""The rows of a prediction that is not done, from which the same command continues.

They are in `<output>.partial`. Beside it `<output>.partial.journal` says what they are of: its
first line describes the prediction, and each further line the file of the next rows, once all of
them are written. So whatever ends the program, at any moment, what the journal tells is there.

Both only grow. The rows of a file that has changed since stay where they are, and its new ones come
at the end; only the finished table has the order of the files.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import pathlib
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
      state: What `files.file_state` said of it before it was read.
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
    config, *others = (flatten(model.config.to_dict()) for model in models)
    for name in (*workdir.MACHINE_KEYS, 'evaluate.batch_size'):
        if not detect or not name.startswith(('detect.', 'video.')):
            config.pop(name, None)
        for other in others:
            other.pop(name, None)
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
        **{
            f'config {number}.{name}': value
            for number, other in enumerate(others, start=1)
            for name, value in other.items()
        },
    }


class PartialRows:
    """Writes rows to `<target>.partial`, after those of the same prediction that are there.

    Usage: `with PartialRows(...) as rows:`. If the block ends without an exception, the rows of
    `paths` take the place of the target; else the file stays, and the next one of the same
    prediction keeps the rows of all files that are as they were.

    What else is there, as of another prediction, is not touched but renamed, with a word.

    Args:
      target: The file to write in the end.
      identity: Whatever decides what the rows say, but for the files, as JSON can hold it.
      columns: What each row has.
      paths: All files of the prediction, in their order.
      drawings: The file of the drawing of each; those that are not drawn are left out.

    Attributes:
      path: The file that is written.
      done: Those of `paths` whose rows are there, in their order.
      place: Where the last row that is there stood, see `face_rows.predict_placed_rows`.

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
        drawings: Mapping[str, pathlib.Path] = types.MappingProxyType({}),
    ):
        self._target = target
        self._columns = columns
        self._head = b'' if target.suffix == '.jsonl' else (','.join(columns) + '\n').encode()
        # By way of JSON, as the one in the journal went.
        self._identity = json.loads(json.dumps({**identity, 'columns': columns}))
        self._paths = paths
        self._drawings = drawings
        self._states: dict[str, list[int] | None] = {}
        # Of each file: where its rows begin, and how long they are.
        self._parts: dict[str, tuple[int, int]] = {}
        self._end = len(self._head)
        self._length = self._checksum = 0
        self.path = target.with_name(f'{target.name}.partial')
        self._journal_path = target.with_name(f'{target.name}.partial.journal')
        self._ordered = target.with_name(f'{target.name}.partial.ordered')
        self._stack = contextlib.ExitStack()
        self.done: list[Done] = []
        self.place = (0, 0)

    def __enter__(self) -> 'PartialRows':
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(self._open())
            identity, listed = self._read_journal()
            self._file.seek(0)
            start = self._file.read(len(self._head) + 1)
            if identity != self._identity or not start.startswith(self._head):
                listed = []
                if not self._head.startswith(start):  # It is more than a header, or none of ours.
                    self._file.close()
                    self._set_aside(identity)
                    self._file = stack.enter_context(self._open())
            listed = self._take_up(listed)
            lines = [{'identity': self._identity}, *map(dataclasses.asdict, listed)]
            files.replace(self._journal_path, ''.join(json.dumps(line) + '\n' for line in lines))
            self._file.truncate(self._end if listed else 0)
            if not listed:
                self._file.write(self._head)
            self._journal = stack.enter_context(self._journal_path.open('a'))
            self._stack = stack.pop_all()
        if self.done:
            _LOG.info(
                '%s: going on after %s of %s files',
                *(self.path, f'{len(self.done):,}', f'{len(self._paths):,}'),
            )
        return self

    def remaining(self) -> Iterator[pathlib.Path]:
        """Yields the files whose rows are to be written, each just before it is read."""
        done = {one.path for one in self.done}
        for path in self._paths:
            if str(path) in done:
                continue
            self._states[str(path)] = files.file_state(path)
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

    def end_file(self, path: str, place: tuple[int, int], counts: Mapping[str, int]) -> None:
        """Notes that what was written since the last call is all of a file; see `Done`."""
        drawing = self._drawings.get(path)
        drawn = str(drawing) if drawing and drawing.exists() else ''
        state = self._states.pop(path)
        done = Done(path, state, self._length, self._checksum, place, dict(counts), drawn)
        self._journal.write(json.dumps(dataclasses.asdict(done)) + '\n')
        self._journal.flush()
        self._add_part(done)
        self._length = self._checksum = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Closes the files and, unless there was an exception, puts the rows in their place."""
        with self._stack:
            self._ordered.unlink(missing_ok=True)  # If the program has ended while it was written.
            finished = self._put_in_order() if kind is None else None
        if finished:
            finished.replace(self._target)
            self.path.unlink(missing_ok=True)
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

    def _take_up(self, listed: Sequence[Done]) -> list[Done]:
        """Finds the rows that can stay; returns the files whose rows are there, changed or not."""
        size = self._file.seek(0, os.SEEK_END)
        latest = {}
        for number, done in enumerate(listed):
            if self._end + done.length > size:  # As after a power failure.
                listed = listed[:number]
                break
            self._add_part(done)
            latest[done.path] = done
        # A later file may have been drawn under the same name, and have gone since.
        drawn = {done.drawing: done.path for done in listed} | {'': ''}
        known = [latest[str(path)] for path in self._paths if str(path) in latest]
        stay = [self._is_as_it_was(one) and drawn[one.drawing] in ('', one.path) for one in known]
        self.done = list(itertools.compress(known, stay))
        if listed:
            self.place = listed[-1].place
        if not all(stay):
            _LOG.warning(
                '%s: of %s files (first of %s) the file, its rows or its drawing has changed; they '
                'are predicted again',
                *(self.path, f'{stay.count(False):,}', known[stay.index(False)].path),
            )
        return list(listed)

    def _add_part(self, done: Done) -> None:
        self._parts[done.path] = self._end, done.length
        self._end += done.length

    def _is_as_it_was(self, done: Done) -> bool:
        """Whether a file, its rows and its drawing are what they were."""
        drawing = str(self._drawings.get(done.path))  # Other files may have given it another name.
        return (
            done.state == files.file_state(done.path)
            and zlib.crc32(self._read_part(done.path)) == done.checksum
            and (not done.drawing or (done.drawing == drawing and os.path.exists(drawing)))
        )

    def _read_part(self, path: str) -> bytes:
        start, length = self._parts[path]
        self._file.seek(start)
        return self._file.read(length)

    def _put_in_order(self) -> pathlib.Path:
        """Returns a file with the rows of `paths` in their order: the one that is there, if it is.

        Otherwise it is another one, so that nothing is lost if the program ends meanwhile.
        """
        paths = [str(path) for path in self._paths if str(path) in self._parts]
        lengths = (self._parts[path][1] for path in paths)
        starts = [*itertools.accumulate(lengths, initial=len(self._head))]
        if starts == [*(self._parts[path][0] for path in paths), self._end]:
            return self.path
        with self._ordered.open('wb') as file:
            file.write(self._head)
            for path in paths:
                file.write(self._read_part(path))
        return self._ordered

    def _set_aside(self, identity: Any) -> None:
        """Renames what is not of this prediction; a later one may have the name."""
        others = (self.path.with_name(f'{self.path.name}.{n}') for n in itertools.count(1))
        other = next(path for path in others if not path.exists())
        self.path.replace(other)
        _LOG.warning(
            '%s held %s: renamed to %s, beginning with the first file',
            *(self.path, _difference(identity, self._identity), other.name),
        )


def _difference(old: Any, new: Mapping[str, Any]) -> str:
    if not isinstance(old, dict) or old == new:
        return 'something else, of which no journal tells'
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    shown = ', '.join(f'{key} {old.get(key)!r} there, {new.get(key)!r} now' for key in keys[:2])
    more = f' and {len(keys) - 2} more' if len(keys) > 2 else ''
    return f'rows of another prediction ({shown}{more})'
