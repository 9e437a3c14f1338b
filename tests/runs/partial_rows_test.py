import csv
import io
import json
import os
import pathlib
from typing import Any

import pytest

from hybrid.photos import faces
from hybrid.runs import partial_rows
from hybrid.runs.partial_rows import PartialRows

COLUMNS = ('path', 'face', 'age', 'error')
IDENTITY = {'model': ['step 1 abc'], 'config.detect.threshold': 0.7}


@pytest.fixture
def inputs(tmp_path):
    """Six files; the third has a row that needs quotes, the fourth three rows."""
    paths = [tmp_path / f'{k}.jpg' for k in range(6)]
    for k, path in enumerate(paths):
        path.write_bytes(bytes(k + 1))
    return paths


def rows_of(path) -> list[dict[str, Any]]:
    k = int(path.stem)
    if k == 2:
        return [{'path': str(path), 'error': 'a "word", and\ntwo'}]
    return [
        {'path': str(path), 'face': n, 'age': 10 * k + n / 7} for n in range(3 if k == 3 else 1)
    ]


def write(target, paths, stop_after=None, identity=None, drawn=()):
    """Writes the rows of what is left, until so many files are written; returns how many were."""
    drawings = {str(path): path.with_suffix('.png') for path in drawn}
    partial = PartialRows(target, identity or IDENTITY, COLUMNS, paths, drawings)
    with partial as rows:
        for number, path in enumerate(rows.remaining()):
            if number == stop_after:
                rows.write(rows_of(path)[:1])
                raise KeyboardInterrupt
            for row in rows_of(path):
                rows.write([row])
            if str(path) in drawings:
                drawings[str(path)].touch()
            rows.end_file(str(path), (number, number), {'files': 1})
    return len(partial.done)


def stop(target, paths, after, **options):
    with pytest.raises(KeyboardInterrupt):
        write(target, paths, after, **options)


def whole(paths, folder, suffix='.csv'):
    """What a prediction that is not stopped writes."""
    write(folder / f'whole{suffix}', paths)
    return (folder / f'whole{suffix}').read_bytes()


def beside(target):
    names = sorted(path.name for path in target.parent.glob('out*'))
    return [name.removeprefix(target.name) for name in names]


def cuts(content):
    """Where a file may be cut: at both sides of each line's end, and in the middle of a line."""
    ends = [place for place, letter in enumerate(content) if letter == ord('\n')]
    return sorted({0, *(end + more for end in ends for more in (-20, -1, 0, 1))})


@pytest.mark.parametrize('suffix', ['.csv', '.jsonl'])
def test_killed_at_any_moment_and_continued_is_as_if_never_killed(inputs, tmp_path, suffix):
    target = tmp_path / f'out{suffix}'
    expected = whole(inputs, tmp_path, suffix)
    stop(target, inputs, 4)
    partial, journal = target.with_name(f'out{suffix}.partial'), f'out{suffix}.partial.journal'
    rows, lines = partial.read_bytes(), target.with_name(journal).read_bytes()
    for length in cuts(lines):
        partial.write_bytes(rows)
        target.with_name(journal).write_bytes(lines[:length])
        written = lines[:length].count(b'\n')
        kept = write(target, inputs)
        # A line is whole without its end.
        assert kept in ((0,) if written < 1 else (written - 1, written))
        assert target.read_bytes() == expected
        for path in tmp_path.glob('out*.partial.*'):
            path.unlink()
        assert beside(target) == ['']
    # After a power failure rows may be missing that the journal tells of.
    for length in cuts(rows):
        partial.write_bytes(rows[:length])
        target.with_name(journal).write_bytes(lines)
        write(target, inputs)
        assert target.read_bytes() == expected
    assert beside(target) == ['']


def test_only_what_changed_is_done_again(inputs, tmp_path, caplog):
    target = tmp_path / 'out.csv'
    first, second, *_ = inputs

    def kept_after(change, done=5):
        stop(target, inputs, done, drawn=inputs)
        change()
        caplog.clear()
        kept = write(target, inputs, drawn=inputs)
        assert target.read_bytes() == whole(inputs, tmp_path)
        return kept

    assert kept_after(lambda: None) == 5
    assert caplog.text == ''
    assert kept_after(lambda: first.write_bytes(b'another length')) == 4
    assert f'of 1 files (first of {first}) the file, its rows or its drawing has changed; they' in (
        caplog.text
    )
    assert kept_after(lambda: os.utime(inputs[2], (1, 1))) == 4
    assert kept_after(lambda: second.with_suffix('.png').unlink()) == 4
    assert kept_after(lambda: inputs.remove(first)) == 4
    assert kept_after(lambda: inputs.insert(0, first), 4) == 4
    assert kept_after(lambda: inputs.reverse()) == 5
    assert kept_after(inputs.clear) == 0

    def edit():
        path = target.with_name('out.csv.partial')
        path.write_bytes(path.read_bytes().replace(b'10.', b'11.'))

    inputs[:] = sorted(tmp_path.glob('?.jpg'))
    assert kept_after(edit) == 4
    # A drawing that has another name now, since another file has taken it.
    stop(target, inputs, 3, drawn=inputs)
    assert write(target, inputs, drawn=inputs[1:]) == 2
    assert beside(target) == ['']


def test_a_file_that_may_be_read_now_is_done_again(inputs, tmp_path, monkeypatch):
    closed, access = inputs[2], os.access
    with monkeypatch.context() as patch:  # Root may read anything.
        patch.setattr(
            'os.access', lambda path, mode: str(path) != str(closed) and access(path, mode)
        )
        stop(tmp_path / 'out.csv', inputs, 5)
        stop(tmp_path / 'out.csv', inputs, 0)
    assert write(tmp_path / 'out.csv', inputs) == 4


def test_a_drawing_that_another_file_had_meanwhile_is_drawn_again(inputs, tmp_path):
    target, drawing = tmp_path / 'out.csv', tmp_path / 'drawing.png'

    def write(paths, drawn, count):
        with PartialRows(target, IDENTITY, COLUMNS, paths, {str(drawn): drawing}) as rows:
            for number, path in enumerate(rows.remaining()):
                if number == count:
                    raise KeyboardInterrupt
                rows.write(rows_of(path))
                drawing.write_text(str(path))
                rows.end_file(str(path), (number, number), {})
        return len(rows.done)

    first, second, third, *_ = inputs
    for paths, drawn in (([first, third], first), ([second, first, third], second)):
        with pytest.raises(KeyboardInterrupt):
            write(paths, drawn, 1)
    assert write([first, third], first, 9) == 0
    # One that was left when the program ended while it was written.
    left = target.with_name('out.csv.partial.ordered')
    left.touch()
    assert write([first], first, 9) == 0
    assert not left.exists()


def test_stopped_and_changed_again_and_again(inputs, tmp_path):
    target = tmp_path / 'out.jsonl'
    stop(target, inputs, 5)
    inputs[0].write_bytes(b'another length')
    removed = inputs.pop(1)
    stop(target, inputs, 1)  # The one that has changed.
    inputs[2].write_bytes(b'another length')
    inputs.insert(1, removed)  # Its rows are still there.
    stop(target, inputs, 0)
    stop(target, inputs, 1)
    written = target.with_name('out.jsonl.partial').read_text().splitlines()
    numbers = [int(pathlib.Path(json.loads(line)['path']).stem) for line in written]
    assert numbers == [*(0, 1, 2, 3, 3, 3, 4), 0, *(3, 3, 3), 5]
    ordered = target.with_name('out.jsonl.partial.ordered')
    ordered.mkdir()
    with pytest.raises(OSError, match=ordered.name):  # As on a full disk.
        write(target, inputs)
    ordered.rmdir()
    assert target.with_name('out.jsonl.partial').exists()
    assert write(target, inputs) == 6
    assert target.read_bytes() == whole(inputs, tmp_path, '.jsonl')
    assert beside(target) == ['']


def test_rows_of_another_prediction_are_not_lost(inputs, tmp_path, caplog):
    target, partial = tmp_path / 'out.csv', tmp_path / 'out.csv.partial'
    stop(target, inputs, 2)
    first = partial.read_bytes()
    other = IDENTITY | {'model': ['step 2 def']}
    stop(target, inputs, 1, identity=other)
    assert caplog.messages == [
        f"{partial} held rows of another prediction (model ['step 1 abc'] there, ['step 2 def'] "
        'now): renamed to out.csv.partial.1, beginning with the first file'
    ]
    second = partial.read_bytes()
    assert write(target, inputs) == 0
    assert beside(target) == ['', '.partial.1', '.partial.2']
    assert tmp_path.joinpath('out.csv.partial.1').read_bytes() == first
    assert tmp_path.joinpath('out.csv.partial.2').read_bytes() == second
    # Of an earlier version of the program, which kept no journal.
    partial.write_bytes(first)
    assert write(target, inputs) == 0
    assert 'something else, of which no journal tells' in caplog.text
    assert tmp_path.joinpath('out.csv.partial.3').read_bytes() == first
    # Where no row was written nothing can be lost.
    with pytest.raises(KeyboardInterrupt), PartialRows(target, IDENTITY, COLUMNS, inputs):
        raise KeyboardInterrupt
    stop(target, inputs, 0, identity=other)
    assert beside(target) == ['', *(f'.partial{end}' for end in ('', '.1', '.2', '.3', '.journal'))]


@pytest.mark.parametrize(
    ('suffix', 'with_journal'), [('.csv', False), ('.csv', True), ('.jsonl', False)]
)
@pytest.mark.parametrize('theirs', ['mine', 'path,face', 'path,face,age,weather\nmine\n' * 9])
def test_what_is_of_anybody_else_is_not_lost(inputs, tmp_path, suffix, theirs, with_journal):
    target = tmp_path / f'out{suffix}'
    partial = target.with_name(f'out{suffix}.partial')
    if with_journal:
        stop(target, inputs, 3)
    partial.write_text(theirs)
    write(target, inputs)
    assert target.read_bytes() == whole(inputs, tmp_path, suffix)
    # What may be the beginning of our own header is nobody's.
    kept = suffix == '.jsonl' or theirs != 'path,face'
    assert beside(target) == ['', '.partial.1'][: 1 + kept]
    if kept:
        assert target.with_name(f'out{suffix}.partial.1').read_text() == theirs


def test_two_at_once(inputs, tmp_path):
    target = tmp_path / 'out.csv'
    refused = pytest.raises(ValueError, match=r'out\.csv\.partial: another process is writing it')
    with PartialRows(target, IDENTITY, COLUMNS, inputs), refused:
        write(target, inputs)
    assert target.read_text() == 'path,face,age,error\n'


def test_without_locks(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(partial_rows, 'fcntl', None)
    stop(tmp_path / 'out.csv', inputs, 2)
    assert write(tmp_path / 'out.csv', inputs) == 2


def test_names_that_are_no_text_and_lines_that_need_quotes():
    row = {'path': 'a,"\udcff\n', 'face': 0, 'age': 31.25, 'error': None}
    line = faces.format_row(row, '.csv', COLUMNS)
    assert next(csv.reader(io.StringIO(line)))[:2] == ['a,"\udcff\n', '0']
    parsed = json.loads(faces.format_row(row, '.jsonl', COLUMNS))
    assert parsed == dict.fromkeys(COLUMNS) | row
