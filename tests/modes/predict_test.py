import csv
import dataclasses
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from hybrid.modes import crop, predict
from hybrid.photos import detection, drawings, image_files, videos
from hybrid.photos.faces import NO_FACE
from hybrid.runs import dataset_record, partial_rows, predictions, trained
from hybrid.runs.predictor import Predictor
from tests import photographs, random_workdir
from tests.launching import launch
from tests.random_workdir import face

# In one process of pytest, which makes the workdir once.
pytestmark = pytest.mark.xdist_group('predict')

COLUMNS = (
    *('path', 'face', 'x', 'y', 'width', 'height', 'detection_score', 'turn'),
    *('age', 'gender', 'female_probability', 'unusual', 'error'),
)


@pytest.fixture(scope='module')
def config(create_tiny_config):
    return create_tiny_config()


@pytest.fixture(scope='module')
def run(config, tmp_path_factory):
    """A workdir whose model is random, and says something else of every face."""
    return random_workdir.create(config, tmp_path_factory.mktemp('run'))


def read_csv(path):
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def bad_files(folder):
    """One file of each kind that cannot be predicted; returns their names and errors."""
    whole = io.BytesIO()
    face().resize((400, 400)).save(whole, 'JPEG')
    (folder / 'empty.jpg').touch()
    (folder / 'text.jpg').write_text('this is no image')
    (folder / 'truncated.jpg').write_bytes(whole.getvalue()[:2000])
    (folder / 'truncated.png').write_bytes(b'\x89PNG\r\n\x1a\n')
    (folder / 'x.jpg').mkdir()
    (folder / 'broken.jpg').symlink_to(folder / 'nothing')
    Image.new('1', (16_000, 16_001)).save(folder / 'huge.png')
    (folder / 'archive.jpg').write_bytes(b'PK\3\4' + bytes(200))
    (folder / 'phone.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(100))
    os.mkfifo(folder / 'pipe.jpg')
    return {
        'empty.jpg': 'the file is empty',
        'text.jpg': 'not an image',
        'truncated.jpg': 'truncated',
        'truncated.png': '',
        'x.jpg': 'a folder, not a file',
        'broken.jpg': 'no such file',
        'huge.png': '16000 x 16001 pixels, more than the 256,000,000',
        'archive.jpg': 'not an image',
        'phone.heic': 'HEI',
        'pipe.jpg': 'not a regular file',
    }


def test_crops_get_the_predictions_of_evaluation(config, run, tiny_builder, tmp_path):
    """As evaluation of the split predicts them from the prepared dataset."""
    source = tiny_builder.as_data_source('test', decoders={'image': tfds.decode.SkipDecoding()})
    faces = tmp_path / 'faces'
    faces.mkdir()
    for k, example in enumerate(source):
        (faces / f'{k:03}.jpg').write_bytes(example['image'])
    predict.predict([config], [run], 'best', str(faces), str(tmp_path / 'out.csv'))
    rows = read_csv(tmp_path / 'out.csv')

    model, _ = trained.restore(config, run, 'best')
    expected, _ = predictions.predict_members([model], tiny_builder, 'test')
    assert np.std(expected['predicted_age']) > 0.1
    assert len(rows) == 41
    for name, column in (('age', 'predicted_age'), ('female_probability', 'female_probability')):
        predicted = np.array([row[name] for row in rows], np.float32)
        np.testing.assert_array_equal(predicted, expected[column])
    assert [row['path'] for row in rows] == [str(faces / f'{k:03}.jpg') for k in range(41)]
    for row, probability in zip(rows, expected['female_probability'], strict=True):
        assert row['gender'] == ('female' if probability > 0.5 else 'male')
        assert (row['face'], row['x'], row['y']) == ('0', '0', '0')
        assert row['width'] == row['height'] == '48'
        assert row['detection_score'] == row['error'] == ''


def test_bad_files_get_their_error_and_stop_nothing(config, run, tmp_path, capsys):
    folder = tmp_path / 'mixed'
    (folder / 'sub').mkdir(parents=True)
    kinds = [('jpg', 'RGB'), ('png', 'L'), ('gif', 'P'), ('tif', 'CMYK'), ('webp', 'RGBA')]
    for k in range(50):
        extension, mode = kinds[k % len(kinds)]
        face(k).convert(mode).save(folder / 'sub' / f'{k:02}.{extension}')
    errors = bad_files(folder)
    (folder / 'notes.txt').write_text('not looked at')
    (folder / '.hidden.jpg').write_text('not looked at')
    predict.predict([config], [run], 'last', str(folder), str(tmp_path / 'out.jsonl'))
    rows = [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text().splitlines()]
    assert len(rows) == 60
    assert [row['path'] for row in rows] == [str(x) for x in image_files.find_images(folder)[0]]
    failed = {Path(row['path']).name: row['error'] for row in rows if row['error']}
    assert failed.keys() == errors.keys()
    for name, reason in errors.items():
        assert reason in failed[name], name
    for row in rows:
        assert tuple(row) == COLUMNS
        assert (row['age'] is None) == (row['face'] is None) == (row['error'] is not None)
    output = capsys.readouterr().out
    assert '60 files, 50 faces, 10 errors; ' in output
    assert '1 files passed over' in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ['mixed', 'out.jsonl']


class FixedDetector:
    """Finds two faces on wide photographs, and none on others."""

    def detect(self, image):
        height, width = image.shape[:2]
        if width <= height:
            return []
        faces = []
        for left in (-3.4, width / 2):
            side = height / 2
            landmarks = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]])
            box = np.array([left, 10.6, side, side])
            faces.append(detection.Face(box, landmarks * side + box[:2], 0.87654321))
        return faces


def test_detected_faces_get_a_row_each(config, run, tmp_path, monkeypatch):
    monkeypatch.setattr(detection, 'create_detector', lambda config: FixedDetector())
    folder, drawn = tmp_path / 'photos', tmp_path / 'new' / 'drawn'
    (folder / 'sub').mkdir(parents=True)
    face(1, (600, 500)).save(folder / 'a.png')
    face(2, (300, 500)).save(folder / 'b.jpg')
    # Held upright by its EXIF orientation it is 700 wide.
    exif = Image.Exif()
    exif[0x0112] = 6
    face(3, (500, 700)).save(folder / 'sub' / 'a.png', exif=exif)
    face(4, (640, 480)).save(folder / 'c.gif')
    face(4, (640, 480)).save(folder / 'c.gif.jpg')
    bad_files(folder)
    out = tmp_path / 'out.csv'
    predict.predict(
        [config], [run], 'best', str(folder), str(out), detect=True, drawings=str(drawn)
    )
    rows = [row for row in read_csv(out) if row['error'] in ('', NO_FACE)]
    found = [(str(Path(row['path']).relative_to(folder)), row['face']) for row in rows]
    assert found == [
        *(('a.png', '0'), ('a.png', '1'), ('b.jpg', '')),
        *(('c.gif', '0'), ('c.gif', '1'), ('c.gif.jpg', '0'), ('c.gif.jpg', '1')),
        *(('sub/a.png', '0'), ('sub/a.png', '1')),
    ]
    box = [tuple(int(row[name]) for name in ('x', 'y', 'width', 'height')) for row in rows[:2]]
    # 0 rather than -3, to 246.6; from 300 to 550; down from 10.6 to 260.6.
    assert box == [(0, 11, 247, 250), (300, 11, 250, 250)]
    assert rows[0]['detection_score'] == '0.8765'
    assert [row['turn'] for row in rows[:3]] == ['0', '0', '']
    assert rows[0]['age'] != rows[1]['age']
    assert rows[2]['error'] == NO_FACE
    assert rows[2]['age'] == rows[2]['x'] == ''
    assert rows[-1]['x'] == '350'

    pictures = sorted(str(x.relative_to(drawn)) for x in drawn.rglob('[!.]*') if x.is_file())
    assert pictures == ['a.png', 'b.jpg', 'c.gif.jpg', 'c.gif.jpg.jpg', 'sub/a.png']
    sizes = [image_files.read_file(drawn / name).pixels.shape[1::-1] for name in pictures]
    assert sizes == [(600, 500), (300, 500), (640, 480), (640, 480), (700, 500)]
    marked = image_files.read_file(drawn / 'a.png').pixels
    changed = (marked != np.asarray(face(1, (600, 500)))).any(-1)
    assert changed[260, 300:550].all()
    assert not changed[262:].any()


def test_photographs(config, run, shared_data, tmp_path):
    config = config.copy_and_resolve_references()
    config.detect.model = str(shared_data / 'face_detector' / detection.MODEL_FILE)
    out = tmp_path / 'out.csv'
    predict.predict([config], [run], 'best', str(shared_data / 'photos'), str(out), detect=True)
    rows = read_csv(out)
    assert [row['face'] for row in rows] == ['0', '1', '2', '0']
    assert [row['error'] for row in rows] == [''] * 4
    assert all(float(row['detection_score']) > 0.85 for row in rows)
    # Faces are cut out and predicted one by one: alone they get the same.
    predict.predict([config], [run], 'best', rows[3]['path'], str(out), detect=True)
    assert float(read_csv(out)[0]['age']) == pytest.approx(float(rows[3]['age']), rel=1e-5)


def test_a_file_name_that_is_no_text(config, run, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    (folder / os.fsdecode(b'\xff.jpg')).write_bytes(b'')
    predict.predict([config], [run], 'best', str(folder), str(tmp_path / 'out.csv'))
    (row,) = read_csv(tmp_path / 'out.csv')
    assert row['path'].endswith('\\udcff.jpg')


def test_what_was_done_is_kept_when_something_fails(config, run, tmp_path, monkeypatch):
    folder, out = tmp_path / 'in', tmp_path / 'out.csv'
    folder.mkdir()
    for k in range(40):
        face(k).save(folder / f'{k:02}.png')
    older = 'path,unusual,error\nolder results'
    out.write_text(older)
    call, calls = Predictor.__call__, []

    def fail(predictor, faces):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, 'No space left on device')
        return call(predictor, faces)

    monkeypatch.setattr(Predictor, '__call__', fail)
    with pytest.raises(RuntimeError, match=r'No space left.*so far are in .*out\.csv\.partial'):
        predict.predict([config], [run], 'best', str(folder), str(out))
    assert len(read_csv(tmp_path / 'out.csv.partial')) == 31  # The 32nd may have had more faces.
    assert out.read_text() == older


def test_stopped_and_continued_is_as_if_never_stopped(config, run, tmp_path, monkeypatch, capsys):
    folder, out, drawn = tmp_path / 'in', tmp_path / 'out.csv', tmp_path / 'drawn'
    folder.mkdir()
    for k in range(24):
        face(k).save(folder / f'{k:02}.jpg')
    (folder / '07.jpg').write_text('no picture')
    options: dict[str, Any] = {'drawings': str(drawn)}
    predict.predict([config], [run], 'best', str(folder), str(out), **options)
    whole, picture = out.read_bytes(), (drawn / '02.jpg').read_bytes()
    call, read, calls = Predictor.__call__, [], []

    def stop(predictor, faces):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return call(predictor, faces)

    def count(path, *arguments):
        read.append(path.name)
        return image_files.read_file(path)

    monkeypatch.setattr(Predictor, '__call__', stop)
    with pytest.raises(RuntimeError, match=r'stopped by SIGTERM; .*partial, .*goes on after them'):
        predict.predict([config], [run], 'best', str(folder), str(out), **options)
    kept = len(read_csv(tmp_path / 'out.csv.partial'))
    assert kept == 17  # The first batch of 16 faces, and what is no picture.
    out.unlink()
    (drawn / f'{kept - 1:02}.jpg').write_text('not drawn again')
    (drawn / f'{kept:02}.jpg').write_text('half a pict')
    monkeypatch.setattr(image_files, 'read', count)
    capsys.readouterr()
    predict.predict([config], [run], 'best', str(folder), str(out), **options)
    assert sorted(read) == [f'{k:02}.jpg' for k in range(kept, 24)]
    assert out.read_bytes() == whole
    assert (drawn / '02.jpg').read_bytes() == picture
    assert (drawn / f'{kept - 1:02}.jpg').read_text() == 'not drawn again'
    assert image_files.read_file(drawn / f'{kept:02}.jpg').pixels.shape == (480, 480, 3)
    assert '24 files, 23 faces, 1 errors; ' in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ['drawn', 'in', 'out.csv']

    # Of a folder that has changed meanwhile, only what is new is read.
    calls.clear()
    with pytest.raises(RuntimeError, match='stopped by SIGTERM'):
        predict.predict([config], [run], 'best', str(folder), str(out), **options)
    (folder / '02.jpg').unlink()
    for k in (3, 7):
        face(100 + k).save(folder / f'{k:02}.jpg')
    face(90).save(folder / '00 new.jpg')
    read.clear()
    predict.predict([config], [run], 'best', str(folder), str(out), **options)
    new = ['00 new.jpg', '03.jpg', '07.jpg', *(f'{k:02}.jpg' for k in range(kept, 24))]
    assert sorted(read) == new
    assert '24 files, 24 faces, 0 errors; ' in capsys.readouterr().out
    continued, expected = out.read_bytes(), tmp_path / 'expected.csv'
    predict.predict([config], [run], 'best', str(folder), str(expected), **options)
    assert continued == expected.read_bytes()


def test_what_decides_the_rows_is_told_apart(config, run, tmp_path):
    (model,) = trained.restore_all([config], [run], 'best')
    for name in ('one', 'copy', 'other'):
        (tmp_path / name).write_text('weights' if name != 'other' else 'others')

    def identity(changes, model=model, detect=True):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict({'detect.model': str(tmp_path / 'one')} | changes)
        return partial_rows.identify(
            [dataclasses.replace(model, config=changed)], None, None, detect
        )

    first = identity({})
    fast = {'evaluate.batch_size': 8, 'data.num_threads': 3, 'data.data_dir': 'elsewhere'}
    assert identity(fast) == identity({'detect.model': str(tmp_path / 'copy')}) == first
    assert identity({'detect.model': str(tmp_path / 'other')}) != first
    found = {'evaluate.flip_average': True, 'detect.threshold': 0.5, 'video.every': 2}
    for key, value in found.items():
        assert identity({key: value}) == first | {f'config.{key}': value}
    # Of several models, each predicts with its own settings.
    changed = config.copy_and_resolve_references()
    changed.evaluate.flip_average = not changed.evaluate.flip_average
    same, mixed = (
        partial_rows.identify([model, dataclasses.replace(model, config=c)], None, None, False)
        for c in (model.config, changed)
    )
    assert mixed == same | {'config 1.evaluate.flip_average': changed.evaluate.flip_average}
    assert mixed != same
    crops = identity({}, detect=False)
    assert identity({'video.every': 2, 'detect.threshold': 0.5}, detect=False) == crops
    assert crops != first
    leaves, structure = jax.tree.flatten(model.variables)
    leaves[-1] = leaves[-1] + 1e-6
    moved = dataclasses.replace(model, variables=jax.tree.unflatten(structure, leaves))
    assert identity({}, moved)['model'] != first['model']
    assert identity({}, moved) | {'model': first['model']} == first


def write_video(path, count, size=(96, 64)):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*'mp4v'), 5, size)
    for k in range(count):
        writer.write(np.asarray(face(k, size)))
    writer.release()


def test_videos_get_a_row_for_each_face_and_frame(config, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(detection, 'create_detector', lambda config: FixedDetector())
    folder, drawn, out = tmp_path / 'in', tmp_path / 'drawn', tmp_path / 'out.jsonl'
    folder.mkdir()
    write_video(folder / 'b.mov', 14)
    write_video(folder / 'narrow.mp4', 3, (48, 64))
    write_video(folder / 'whole.mkv', 14)
    content = (folder / 'whole.mkv').read_bytes()
    (folder / 'whole.mkv').rename(tmp_path / 'whole.mkv')
    (folder / 'cut.mkv').write_bytes(content[: len(content) // 2])
    face(1, (100, 80)).save(folder / 'a.png')
    config = config.copy_and_resolve_references()
    config.video.every, config.video.max_frames = 3, 4
    options: dict[str, Any] = {'detect': True, 'drawings': str(drawn)}
    predict.predict([config], [run], 'best', str(folder), str(out), **options)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert tuple(rows[0]) == ('path', 'frame', 'time', *COLUMNS[1:])
    told = [(Path(row['path']).name, row['frame'], row['time'], row['face']) for row in rows]
    assert told[:2] == [('a.png', None, None, 0), ('a.png', None, None, 1)]
    expected = [('b.mov', 3 * k, 3 * k / 5, n) for k in range(4) for n in (0, 1)]
    assert told[2:11] == [*expected, ('b.mov', None, None, None)]
    assert rows[10]['error'] == 'cut: config.video.max_frames=4'
    assert len({row['age'] for row in rows[:10]}) == 10
    assert told[11:14] == [
        *(('cut.mkv', 0, 0, 0), ('cut.mkv', 0, 0, 1), ('cut.mkv', 3, 0.6, 0)),
    ]
    assert rows[-2]['error'].startswith('damaged or cut off: it should last 2.8 s')
    assert told[-1] == ('narrow.mp4', 0, 0, None)
    assert rows[-1]['error'] == NO_FACE
    output = capsys.readouterr().out
    assert '4 files, ' in output
    assert '1 videos were cut by a limit of config.video: see their last rows' in output

    names = sorted(path.name for path in drawn.glob('[!.]*'))
    assert names == ['a.png', 'b.mov.mp4', 'cut.mkv.mp4', 'narrow.mp4']
    config.video.every = 1
    video = list(videos.read_frames(drawn / 'b.mov.mp4', config.video))[:4]
    assert [frame.seconds for frame in video] == [0, 0.6, 1.2, 1.8]
    assert {frame.pixels.shape for frame in video} == {(64, 96, 3)}
    before = next(videos.read_frames(folder / 'b.mov', config.video)).pixels.astype(int)
    # The left side of the second box, which begins in the middle.
    changed = np.abs(video[0].pixels - before).mean(axis=(0, 2))
    assert changed[48:50].min() > 3 * changed[50:].mean()

    # Frame by frame, in one stream of batches: continued after the first video it is the same.
    whole = out.read_bytes()
    end_file = partial_rows.PartialRows.end_file

    def stop(partial, path, *arguments):
        end_file(partial, path, *arguments)
        if path.endswith('b.mov'):
            raise OSError(28, 'No space left on device')

    config.video.every = 3
    monkeypatch.setattr(partial_rows.PartialRows, 'end_file', stop)
    with pytest.raises(RuntimeError, match='No space left'):
        predict.predict([config], [run], 'best', str(folder), str(out), **options)
    monkeypatch.setattr(partial_rows.PartialRows, 'end_file', end_file)
    predict.predict([config], [run], 'best', str(folder), str(out), **options)
    assert out.read_bytes() == whole
    assert '1 videos were cut by a limit' in capsys.readouterr().out

    predict.predict([config], [run], 'best', str(folder / 'b.mov'), str(out))
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert tuple(row) == COLUMNS
    assert row['error'] == 'a video, whose frames --mode=predict reads with --detect'


def test_a_picture_that_cannot_be_drawn_stops_nothing(config, run, tmp_path, capsys):
    folder, drawn = tmp_path / 'in', tmp_path / 'drawn'
    folder.mkdir()
    (drawn / '0.png').mkdir(parents=True)
    (drawn / drawings.MARK).touch()
    for k in range(2):
        face(k).save(folder / f'{k}.png')
    out = tmp_path / 'out.csv'
    predict.predict([config], [run], 'best', str(folder), str(out), drawings=str(drawn))
    assert [row['error'] for row in read_csv(out)] == ['', '']
    assert image_files.read_file(drawn / '1.png').pixels.shape == (480, 480, 3)
    assert '0.png: not drawn: ' in capsys.readouterr().err


def test_pictures_of_others_are_not_drawn_over(config, run, tmp_path):
    folder, drawn, out = tmp_path / 'in', tmp_path / 'drawn', tmp_path / 'out.csv'
    for place in (folder, drawn):
        place.mkdir()
        face(1).save(place / 'a.png')
    content = (drawn / 'a.png').read_bytes()
    with pytest.raises(ValueError, match=r'drawn holds files, such as a\.png, and no \.drawings'):
        predict.predict([config], [run], 'best', str(folder), str(out), drawings=str(drawn))
    assert (drawn / 'a.png').read_bytes() == content
    (drawn / 'a.png').unlink()
    (drawn / '.DS_Store').touch()  # Which a file manager leaves.
    (drawn / 'a.png').symlink_to(tmp_path / 'mine.png')
    (drawn / drawings.MARK).touch()
    with pytest.raises(ValueError, match=r'a\.png is a link that leads out of it'):
        predict.predict([config], [run], 'best', str(folder), str(out), drawings=str(drawn))
    (drawn / 'a.png').unlink()
    (drawn / drawings.MARK).unlink()
    for _ in range(2):  # It knows its own drawings.
        predict.predict([config], [run], 'best', str(folder), str(out), drawings=str(drawn))
        assert image_files.read_file(drawn / 'a.png').pixels.shape == (480, 480, 3)


def test_wrong_paths_are_told_before_anything_is_loaded(config, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, 'restore_all', lambda *args: pytest.fail('loaded'))
    (tmp_path / 'in').mkdir()
    face().save(tmp_path / 'in' / 'a.png')
    (tmp_path / 'none').mkdir()
    (tmp_path / 'none' / 'notes.txt').touch()
    (tmp_path / 'folder.csv').mkdir()
    # A drawing would be written through a link to the file that it is of.
    (tmp_path / 'drawn').mkdir()
    (tmp_path / 'drawn' / drawings.MARK).touch()
    (tmp_path / 'drawn' / 'linked.png').symlink_to(tmp_path / 'in' / 'a.png')
    (tmp_path / 'linked.png').symlink_to('in/a.png')
    (tmp_path / 'rows.csv.partial').touch()
    source, out = str(tmp_path / 'in'), str(tmp_path / 'out.csv')
    (tmp_path / 'labels.csv').write_text('path,age,gender\na.png,30,female\n')
    (tmp_path / 'rows.jsonl').write_text('{"path": "a.png", "age": 30}\n')
    cases: list[tuple[str, str, dict[str, Any], str]] = [
        (source, '', {}, 'needs --input=FILE_OR_FOLDER and --output'),
        ('', out, {}, 'needs --input=FILE_OR_FOLDER and --output'),
        (f'{tmp_path}/missing', out, {}, r'--input=.*/missing: no such file'),
        (f'{tmp_path}/none', out, {}, r'--input=.*/none: no image in it, 1 other files'),
        (source, f'{tmp_path}/out.txt', {}, r'out\.txt: the name must end in \.csv or \.jsonl'),
        (source, f'{tmp_path}/x/out.csv', {}, r'--output=.*: there is no folder .*/x'),
        (source, f'{tmp_path}/folder.csv', {}, r'folder\.csv is a folder'),
        (source, out, {'drawings': source}, r'--draw=.*would draw over'),
        (source, out, {'drawings': str(tmp_path)}, r'--draw=.*would draw over'),
        (source, out, {'drawings': f'{source}/a.png'}, r'a\.png is a file; name a folder'),
        (
            f'{tmp_path}/linked.png',
            out,
            {'drawings': f'{tmp_path}/drawn'},
            r'drawn: .*/linked\.png',
        ),
        (source, f'{tmp_path}/labels.csv', {}, r'labels\.csv exists and is no table'),
        (source, f'{tmp_path}/rows.jsonl', {}, r'rows\.jsonl exists and is no table'),
        (f'{tmp_path}/rows.csv.partial', f'{tmp_path}/rows.csv', {}, 'would overwrite --input'),
        (source, out, {'detect': True}, r'config\.detect\.model=.*no such file'),
    ]
    config = config.copy_and_resolve_references()
    config.detect.model = str(tmp_path / 'missing.onnx')
    for source, output, options, reason in cases:
        with pytest.raises((ValueError, OSError), match=reason) as caught:
            predict.predict([config], [tmp_path], 'best', source, output, **options)
        assert '\n' not in str(caught.value)
    assert not Path(out).exists()


@pytest.mark.end_to_end
def test_from_the_command_line(run, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    for k in range(3):
        face(k).save(folder / f'{k}.png')
    errors = bad_files(folder)
    flags = ['--mode=predict', f'--workdir={run}']
    status, out, err = launch(*flags, f'--input={folder}', f'--output={tmp_path}/out.csv')
    assert status == 0, err
    assert '13 files, 3 faces, 10 errors; ' in out
    assert len(read_csv(tmp_path / 'out.csv')) == 3 + len(errors)

    status, _, err = launch(
        *flags,
        f'--input={folder}',
        f'--output={tmp_path}/out.csv',
        '--detect',
        f'--config.detect.model={tmp_path}/missing.onnx',
    )
    assert status == 1
    assert err.startswith('error: config.detect.model=')
    assert err.count('\n') == 1


def of_framing(caplog):
    return [message for message in caplog.messages if 'was trained on faces' in message]


def test_crops_are_predicted_as_the_faces_of_their_photographs(
    config, run, tmp_path, monkeypatch, caplog
):
    config = config.copy_and_resolve_references()
    photographs.use(monkeypatch, config, tmp_path)
    config.crop.size = config.data.resize_size
    photographs.photograph(1).save(tmp_path / 'photo.png')
    predict.predict(
        [config], [run], 'best', *(str(tmp_path / n) for n in ('photo.png', 'a.csv')), detect=True
    )
    assert not of_framing(caplog)
    crop.crop(config, str(tmp_path / 'photo.png'), str(tmp_path / 'FACES'))
    names = ('FACES/faces', 'b.csv')
    predict.predict([config], [run], 'best', *(str(tmp_path / name) for name in names))
    found, cropped = (read_csv(tmp_path / name) for name in ('a.csv', 'b.csv'))
    assert len(found) == 3
    for one, other in zip(found, cropped, strict=True):
        # Only batches of another size were compiled.
        for name in ('age', 'female_probability'):
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-6)


def test_a_model_of_faces_that_boxes_cut_is_warned_of_when_it_is_to_detect(
    config, run, tmp_path, monkeypatch, caplog
):
    config = config.copy_and_resolve_references()
    photographs.use(monkeypatch, config, tmp_path)
    photographs.photograph(1).save(tmp_path / 'photo.png')
    record = dataset_record.load(run)
    monkeypatch.setattr(
        dataset_record,
        'load',
        lambda folder: record | {'geometry': {'geometry': 'box', 'margin': 0.4}},
    )
    predict.predict(
        [config], [run], 'best', *(str(tmp_path / n) for n in ('photo.png', 'a.csv')), detect=True
    )
    (message,) = of_framing(caplog)
    assert (
        'was trained on faces cut by boxes with a margin of 0.4; those of photographs ' in message
    )
