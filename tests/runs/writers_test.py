import io
import itertools
import json
import math
import os
import struct

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from hybrid.runs import writers
from hybrid.runs.writers import METRICS, Progress, Writers


def rows(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def read_events(path):
    """TFRecord: length, its masked crc32c, the event, its masked crc32c."""

    def masked(content):
        crc = crc32c(content)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    stream, events = io.BytesIO(path.read_bytes()), []
    while header := stream.read(8):
        assert struct.unpack('<I', stream.read(4)) == (masked(header),)
        content = stream.read(struct.unpack('<Q', header)[0])
        assert struct.unpack('<I', stream.read(4)) == (masked(content),)
        events.append(Event.FromString(content))
    return events


def scalars(events):
    return [
        (event.step, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    ]


def starts(events):
    return [event.step for event in events if event.session_log.status == SessionLog.START]


def test_rows_go_to_metrics_jsonl_and_tensorboard(tmp_path):
    written = Writers(tmp_path, 0)
    written.write(10, {'train/loss': 1.5, 'train/age_loss': 0.1})
    assert rows(tmp_path) == [{'step': 10, 'train/loss': 1.5, 'train/age_loss': 0.1}]
    written.write(20, {'validation/age/mae': 7.25})
    written.__exit__()
    assert rows(tmp_path)[1:] == [{'step': 20, 'validation/age/mae': 7.25}]
    (path,) = (tmp_path / 'tensorboard').glob('events.out.tfevents.*')
    events = read_events(path)
    assert events[0].file_version == 'brain.Event:2'
    assert scalars(events) == [
        (10, 'train/loss', 1.5),
        (10, 'train/age_loss', pytest.approx(0.1)),
        (20, 'validation/age/mae', 7.25),
    ]


def test_what_is_not_finite_is_null_and_not_in_tensorboard(tmp_path, caplog):
    written = Writers(tmp_path, 0)
    written.write(1, {'a': math.nan, 'b': math.inf, 'c': 2.0})
    written.__exit__()
    assert (tmp_path / METRICS).read_text() == '{"step": 1, "a": null, "b": null, "c": 2.0}\n'
    (path,) = (tmp_path / 'tensorboard').glob('*')
    assert scalars(read_events(path)) == [(1, 'c', 2.0)]
    assert caplog.text == ''


@pytest.mark.parametrize('restored', [0, 4])
def test_a_continued_run_takes_back_what_lay_beyond_its_checkpoint(tmp_path, monkeypatch, restored):
    seconds = itertools.count(1_000_000_000)
    monkeypatch.setattr('time.time', lambda: float(next(seconds)))  # event files are named by it
    first = Writers(tmp_path, 0)
    for step in (2, 4, 6):
        first.write(step, {'loss': float(step)})
    first.__exit__()
    second = Writers(tmp_path, restored)
    second.write(restored + 2, {'loss': 0.5})
    second.__exit__()
    kept = [{'step': step, 'loss': float(step)} for step in (2, 4) if step <= restored]
    assert rows(tmp_path) == [*kept, {'step': restored + 2, 'loss': 0.5}]
    # TensorBoard drops the first file's events from the step of the second file's START on.
    before, after = sorted((tmp_path / 'tensorboard').glob('*'))
    assert scalars(read_events(before)) == [(step, 'loss', float(step)) for step in (2, 4, 6)]
    assert starts(read_events(after)) == [restored + 1]
    assert scalars(read_events(after)) == [(restored + 2, 'loss', 0.5)]


def test_metrics_are_truncated_after_the_step_and_at_a_torn_line(tmp_path):
    path = tmp_path / METRICS
    writers.truncate_metrics(path, 0)
    assert not path.exists()
    lines = [f'{{"step": {step}, "loss": 0.5}}\n' for step in (2, 4, 4, 6)]
    path.write_text(''.join(lines) + '{"step": 8, "lo')
    writers.truncate_metrics(path, 100)
    assert path.read_text() == ''.join(lines)
    writers.truncate_metrics(path, 4)
    assert path.read_text() == ''.join(lines[:3])
    path.write_bytes(''.join(lines[:3]).encode() + b'\xff{"step": 4, "lo')  # torn, would be kept
    writers.truncate_metrics(path, 4)
    assert path.read_text() == ''.join(lines[:3])
    writers.truncate_metrics(path, 1)
    assert path.read_text() == ''
    assert [file.name for file in tmp_path.iterdir()] == [METRICS]


def test_a_row_follows_a_torn_line_on_a_line_of_its_own(tmp_path):
    (tmp_path / METRICS).write_text('{"step": 2, "loss": 1.0}\n{"step": 4, "lo')
    written = Writers(tmp_path, 2)
    written.write(4, {'loss': 2.0})
    written.__exit__()
    assert rows(tmp_path) == [{'step': 2, 'loss': 1.0}, {'step': 4, 'loss': 2.0}]


def test_an_inactive_process_writes_nothing(tmp_path):
    written = Writers(tmp_path, 0, active=False)
    written.write(1, {'loss': 1.0})
    written.__exit__()
    assert list(tmp_path.iterdir()) == []
    stream = io.StringIO()
    progress = Progress(10, 0, stream, active=False)
    progress.show(1, TRAIN)
    progress.__exit__()
    assert stream.getvalue() == ''


TRAIN = {
    'train/loss': 1.2345,
    'train/age_loss': 0.5,
    'train/gender_loss': 0.25,
    'train/images_per_second': 99.6,
}
LOSSES = 'loss 1.234 age 0.500 gender 0.250'


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return 2


@pytest.fixture
def columns(monkeypatch):
    """Set `columns[0]`: the width of every terminal."""
    width = [200]
    monkeypatch.setattr(writers.os, 'get_terminal_size', lambda _: os.terminal_size((*width, 24)))
    return width


@pytest.fixture
def clock(monkeypatch):
    """Set `clock[0]`; in seconds."""
    now = [100.0]
    monkeypatch.setattr(writers.time, 'monotonic', lambda: now[0])
    return now


def test_progress_off_a_terminal_is_one_line_a_call(clock):
    stream = io.StringIO()
    with Progress(100, 20, stream) as progress:
        clock[0] += 100  # 10 steps, of which the first compiled
        progress.show(30, TRAIN)
        clock[0] += 30  # 20 steps more, 50 to go
        progress.show(50, TRAIN)
        progress.show(50, {'validation/age/mae': 6.543, 'validation/gender/accuracy': 0.9512})
        clock[0] += 30
        progress.show(100, TRAIN)
    assert stream.getvalue() == (
        f'step 30/100, 11:40 left | {LOSSES} | 100 images/s\n'
        f'step 50/100, 1:15 left | {LOSSES} | 100 images/s\n'
        f'step 50/100, 1:15 left | {LOSSES} | validation MAE 6.54 gender 95.1 % | 100 images/s\n'
        f'step 100/100, 0 s left | {LOSSES} | validation MAE 6.54 gender 95.1 % | 100 images/s\n'
    )


def test_progress_does_not_guess_from_the_step_that_compiled(clock):
    stream = io.StringIO()
    with Progress(100, 0, stream) as progress:
        clock[0] += 100
        progress.show(1, TRAIN)
        clock[0] += 2
        progress.show(3, TRAIN)
    assert stream.getvalue() == (
        f'step 1/100 | {LOSSES} | 100 images/s\nstep 3/100, 1:37 left | {LOSSES} | 100 images/s\n'
    )


def test_progress_on_ranges_of_age_shows_their_error(clock):
    stream = io.StringIO()
    scores = {'validation/age/interval_error': 3.456, 'validation/gender/accuracy': 0.5}
    for mae in (float('nan'), 7.0):
        Progress(100, 20, stream).show(30, scores | {'validation/age/mae': mae})
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith('| validation interval error 3.46 gender 50.0 %')
    assert lines[1].endswith('| validation MAE 7.00 interval error 3.46 gender 50.0 %')


def test_progress_leaves_out_what_has_no_score(clock):
    stream = io.StringIO()
    for mae, accuracy in ((float('nan'), 0.5), (7.0, float('nan'))):
        scores = {'validation/age/mae': mae, 'validation/gender/accuracy': accuracy}
        Progress(100, 20, stream).show(30, scores)
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith('| validation gender 50.0 %')
    assert lines[1].endswith('| validation MAE 7.00')
    Progress(100, 20, stream).show(30, TRAIN | {'train/gender_loss': float('nan')})
    assert 'gender' not in stream.getvalue().splitlines()[-1]


def test_progress_on_a_terminal_stays_in_its_line(clock, columns):
    stream = Terminal()
    with Progress(100, 0, stream) as progress:
        clock[0] += 600
        progress.show(50, TRAIN)
        first = f'step 50/100, 10:00 left | {LOSSES} | 100 images/s'
        assert stream.getvalue() == f'\r{first}'
        progress.show(100, TRAIN)
        second = f'step 100/100, 0 s left | {LOSSES} | 100 images/s'
        assert len(second) < len(first)  # so what is left of the first is blanked
        assert stream.getvalue() == f'\r{first}\r{second.ljust(len(first))}'
    assert stream.getvalue().endswith('\n')


def test_progress_does_not_wrap_on_a_narrow_terminal(clock, columns):
    stream = Terminal()
    progress = Progress(100, 0, stream)
    columns[0] = 20
    progress.show(50, TRAIN)
    assert stream.getvalue() == '\rstep 50/100, 0 s le'


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0, '0 s'),
        (0.4, '0 s'),
        (59, '59 s'),
        (59.6, '1:00'),
        (754, '12:34'),
        (3599.7, '1:00:00'),
        (3723, '1:02:03'),
        (100 * 3600, '100:00:00'),
    ],
)
def test_durations(seconds, text):
    assert writers.format_duration(seconds) == text
