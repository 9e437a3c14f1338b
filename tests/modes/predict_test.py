import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from hybrid.modes import crop, predict
from hybrid.photos import detection, image_files
from hybrid.photos.faces import NO_FACE
from hybrid.runs import predictions, trained, workdir
from hybrid.runs.predictor import Predictor
from tests import photographs, random_workdir
from tests.launching import launch
from tests.random_workdir import face

# In one process of pytest, which makes the workdir once.
pytestmark = pytest.mark.xdist_group('predict')

COLUMNS = (
    *('path', 'face', 'x', 'y', 'width', 'height', 'detection_score'),
    *('age', 'gender', 'female_probability', 'error'),
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
    Image.new('1', (10_000, 6_000)).save(folder / 'huge.png')
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
        'huge.png': '10000 x 6000 pixels, more than the 50,000,000',
        'archive.jpg': 'not an image',
        'phone.heic': 'not an image',
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
    assert rows[0]['age'] != rows[1]['age']
    assert rows[2]['error'] == NO_FACE
    assert rows[2]['age'] == rows[2]['x'] == ''
    assert rows[-1]['x'] == '350'

    pictures = sorted(str(x.relative_to(drawn)) for x in drawn.rglob('*') if x.is_file())
    assert pictures == ['a.png', 'b.jpg', 'c.gif.jpg', 'c.gif.jpg.jpg', 'sub/a.png']
    sizes = [image_files.read_image(drawn / name).shape[1::-1] for name in pictures]
    assert sizes == [(600, 500), (300, 500), (640, 480), (640, 480), (700, 500)]
    marked = image_files.read_image(drawn / 'a.png')
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


def test_names_that_are_no_text_and_lines_that_need_quotes():
    row = {'path': 'a,"\udcff\n', 'face': 0, 'age': 31.25, 'error': None}
    line = predict.format_row(row, '.csv', COLUMNS)
    assert next(csv.reader(io.StringIO(line)))[:2] == ['a,"\udcff\n', '0']
    parsed = json.loads(predict.format_row(row, '.jsonl', COLUMNS))
    assert parsed == dict.fromkeys(COLUMNS) | row


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
    out.write_text('older results')
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
    assert out.read_text() == 'older results'


def test_a_picture_that_cannot_be_drawn_stops_nothing(config, run, tmp_path, capsys):
    folder, drawn = tmp_path / 'in', tmp_path / 'drawn'
    folder.mkdir()
    (drawn / '0.png').mkdir(parents=True)
    for k in range(2):
        face(k).save(folder / f'{k}.png')
    out = tmp_path / 'out.csv'
    predict.predict([config], [run], 'best', str(folder), str(out), drawings=str(drawn))
    assert [row['error'] for row in read_csv(out)] == ['', '']
    assert image_files.read_image(drawn / '1.png').shape == (480, 480, 3)
    assert '0.png: not drawn: ' in capsys.readouterr().err


def test_wrong_paths_are_told_before_anything_is_loaded(config, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, 'restore_all', lambda *args: pytest.fail('loaded'))
    (tmp_path / 'in').mkdir()
    face().save(tmp_path / 'in' / 'a.png')
    (tmp_path / 'none').mkdir()
    (tmp_path / 'none' / 'notes.txt').touch()
    (tmp_path / 'folder.csv').mkdir()
    source, out = str(tmp_path / 'in'), str(tmp_path / 'out.csv')
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
    record = workdir.load_dataset(run)
    monkeypatch.setattr(
        workdir,
        'load_dataset',
        lambda folder: record | {'geometry': {'geometry': 'box', 'margin': 0.4}},
    )
    predict.predict(
        [config], [run], 'best', *(str(tmp_path / n) for n in ('photo.png', 'a.csv')), detect=True
    )
    (message,) = of_framing(caplog)
    assert (
        'was trained on faces cut by boxes with a margin of 0.4; those of --detect are al'
        in message
    )
