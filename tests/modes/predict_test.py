import csv
import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from hybrid import devices
from hybrid.data import input_pipeline
from hybrid.models.network import create_model
from hybrid.modes import predict
from hybrid.photos import detection, image_files
from hybrid.runs import checkpoints, predictions, trained, workdir
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer
from hybrid.training.train_state import create_train_state
from tests.launching import launch

# In one process of pytest, which makes the workdir once.
pytestmark = pytest.mark.xdist_group('predict')


@pytest.fixture(scope='module')
def config(create_tiny_config):
    return create_tiny_config()


@pytest.fixture(scope='module')
def run(config, tmp_path_factory):
    """A workdir whose model is random, and says something else of every face."""
    folder = tmp_path_factory.mktemp('run')
    workdir.save_config(folder, config)
    model = create_model(config.model, axis_name=devices.AXIS)
    tx = create_optimizer(config.optimizer, create_learning_rate_fn(config.optimizer, 1))
    state = create_train_state(model, tx, config)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), state.params)
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    saved = checkpoints.Checkpoints(folder)
    saved.save(
        1,
        devices.replicate(dataclasses.replace(state, params=params)),
        {},
        config.to_dict(),
        {None: 1.0},
    )
    saved.close()
    return folder


def face(seed=0, size=(40, 40)):
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


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
        assert tuple(row) == predict.COLUMNS
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
    rows = [row for row in read_csv(out) if row['error'] in ('', predict.NO_FACE)]
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
    assert rows[2]['error'] == predict.NO_FACE
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


@pytest.mark.parametrize('count', [0, 1, 3, 4, 5, 12])
def test_batches_are_whole_and_the_order_stays(count):
    batches = []

    def predictor(images):
        ages, genders = images
        batches.append(len(ages))
        return {
            'predicted_age': ages[:, 0, 0, 0] + np.float32(0.1),
            'female_probability': genders[:, 2, 2, 1] / np.float32(100),
        }

    faces: list[tuple[predict.Row, predict.Face | None]] = []
    for k in range(count):
        images = tuple(np.full((size, size, 3), 5 * k, np.uint8) for size in (2, 3))
        faces.append(({'path': f'{k}', 'face': 0}, images))
        faces.append(({'path': f'{k} bad', 'error': 'bad'}, None))
    rows = list(predict.predict_rows(iter(faces), predictor, 4))
    assert [row['path'] for row in rows] == [x for k in range(count) for x in (f'{k}', f'{k} bad')]
    assert [row.get('age') for row in rows[::2]] == [round(5 * k + 0.1, 1) for k in range(count)]
    assert [row.get('female_probability') for row in rows[::2]] == [k / 20 for k in range(count)]
    genders = ['female' if k > 10 else 'male' for k in range(count)]
    assert [row['gender'] for row in rows[::2]] == genders
    assert batches == [4] * (count // 4) + [count % 4] * (count % 4 > 0)


def test_sizes_of_batches(monkeypatch):
    # Tests run on four devices.
    assert predict.batch_sizes(256) == [4, 32, 128]
    assert predict.batch_sizes(16) == [4, 16]
    monkeypatch.setattr(devices, 'on_cpu', lambda: False)
    assert predict.batch_sizes(256) == [4, 32, 128, 256]
    with pytest.raises(ValueError, match=r'config\.evaluate\.batch_size=6 cannot be divided'):
        predict.batch_sizes(6)


def test_a_face_is_predicted_alike_in_batches_of_any_size(config, run):
    model, _ = trained.restore(config, run, 'best', to_evaluate=True)
    predictor = predict.create_predictor([model], first=1)
    images = np.stack([np.asarray(face(k).resize((36, 36))) for k in range(13)])
    together = predictor([images])
    for count in (1, 3, 4, 5):
        few = predictor([images[:count]])
        assert {len(column) for column in few.values()} == {count}
        for name, column in few.items():
            np.testing.assert_allclose(column, together[name][:count], rtol=1e-5, atol=1e-5)


def test_rows_without_a_face_are_not_held_back():
    faces = iter([({'path': 'bad', 'error': 'bad'}, None)] * 3)
    rows = predict.predict_rows(faces, lambda images: pytest.fail('predicted'), 4)
    assert next(rows)['path'] == 'bad'
    assert len(list(faces)) == 2


def test_a_prediction_that_is_not_finite_is_an_error():
    columns = {
        'predicted_age': np.array([np.nan, 30]),
        'female_probability': np.array([0.5, 0.7]),
    }
    faces = [({'path': str(k)}, (np.zeros((2, 2, 3), np.uint8),)) for k in range(2)]
    first, second = predict.predict_rows(faces, lambda images: columns, 2)
    assert first == {'path': '0', 'error': 'the model predicts no finite number'}
    assert second == {'path': '1', 'age': 30, 'female_probability': 0.7, 'gender': 'female'}


def test_few_files_are_read_ahead():
    read = []

    def note(path):
        read.append(path)
        return [({'path': int(path.name)}, None)]

    rows = predict.read_ahead((Path(f'{k:02}') for k in range(100)), note, 3)
    assert [next(rows)[0]['path'] for _ in range(10)] == list(range(10))
    assert len(read) <= 10 + 2 * 3 + 1
    rows.close()
    assert len(read) <= 10 + 2 * 3 + 1


def test_names_that_are_no_text_and_lines_that_need_quotes():
    row = {'path': 'a,"\udcff\n', 'face': 0, 'age': 31.25, 'error': None}
    line = predict.format_row(row, '.csv')
    assert next(csv.reader(io.StringIO(line)))[:2] == ['a,"\udcff\n', '0']
    parsed = json.loads(predict.format_row(row, '.jsonl'))
    assert parsed == dict.fromkeys(predict.COLUMNS) | row


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
    create = predict.create_predictor

    def create_failing(*args):
        predictor, calls = create(*args), []

        def fail(images):
            calls.append(1)
            if len(calls) == 3:
                raise OSError(28, 'No space left on device')
            return predictor(images)

        return fail

    monkeypatch.setattr(predict, 'create_predictor', create_failing)
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


def test_of_a_crop_that_is_not_square_the_middle_is_seen(config, tmp_path):
    image = face(5, (64, 48))
    image.save(tmp_path / 'x.png')
    ((row, cuts),) = predict.read_faces(tmp_path / 'x.png', None, [config.data.resize_size, 20])
    assert (row['width'], row['height']) == (64, 48)
    assert cuts is not None
    cut, small = cuts
    np.testing.assert_array_equal(small, input_pipeline.resize(np.asarray(image), 20))
    np.testing.assert_array_equal(cut, input_pipeline.resize(np.asarray(image), 36))


def test_a_frozen_member_does_not_count(config, tmp_path):
    class Fixed:
        """Says the same of every face; member 1 was frozen."""

        members = (0, 1, 2)
        is_ensemble = True

        def eval_step(self, variables, batch):
            index = np.asarray(batch['index'])
            of_members = {
                'predicted_age': [10.0, np.nan, 30.0],
                'female_probability': [0.9, np.nan, 0.4],
            }
            rows = {k: np.broadcast_to(v, (*index.shape, 3)) for k, v in of_members.items()}
            return {**rows, 'index': index}

    fixed: Any = Fixed()
    model = trained.Trained(tmp_path, config, fixed, {}, 'best', 1, frozen=(1,))
    columns = predict.create_predictor([model])([np.zeros((16, 36, 36, 3), np.uint8)])
    first = {name: column[0] for name, column in columns.items()}
    assert first == {
        'predicted_age': 20,
        'female_probability': np.float32(0.65),
        'age_std': 10,
        'gender_agreement': 0.5,
    }
