import csv
import json
import logging
import os

import numpy as np
import pytest
from PIL import Image

from hybrid import default_config
from hybrid.data import prepared
from hybrid.datasets import geometry
from hybrid.modes import crop
from hybrid.photos import detection, faces, image_files
from hybrid.runs import workdir
from hybrid.runs.interruption import Interruption
from tests import photographs
from tests.photographs import PLACES, Detector, encode, photograph
from tests.utkface_archive import read_all


@pytest.fixture
def config(monkeypatch, tmp_path):
    config = default_config.get_config()
    photographs.use(monkeypatch, config, tmp_path)
    config.crop.size = 48
    return config


@pytest.fixture
def photos(tmp_path):
    """Five photographs, one in a folder, one without a face, and one that is damaged."""
    folder = tmp_path / 'PHOTOS'
    (folder / 'a b').mkdir(parents=True)
    for k in range(3):
        (folder / f'{k}.png').write_bytes(encode(photograph(k)))
    (folder / 'a b/0,"1.jpg').write_bytes(encode(photograph(3), 'JPEG', quality=90))
    (folder / 'a b/small.png').write_bytes(encode(photograph(4, size=(200, 100), places=())))
    (folder / 'damaged.jpg').write_bytes(b'x')
    (folder / 'notes.txt').touch()
    return folder


def read(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def seen_faces(path, detector, size=48):
    """What prediction sees of the faces of a photograph, uint8 [size, size, 3] each."""
    return [face[0] for _, face in faces.read_faces(path, detector, [size]) if face is not None]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def test_the_faces_are_what_detection_sees_to_the_pixel(config, photos, tmp_path, capsys):
    folder = tmp_path / 'faces'
    crop.crop(config, str(photos), str(folder))
    said = capsys.readouterr().out
    assert '6 photographs, 12 faces in faces.csv, 2 errors in errors.csv' in said
    assert '1 files passed over' in said
    rows = read(folder / 'faces.csv')
    assert tuple(rows[0]) == crop.COLUMNS
    assert len({row['path'] for row in rows}) == len(rows) == 12
    for row in rows:
        seen = seen_faces(photos / row['photo'], Detector())[int(row['face'])]
        np.testing.assert_array_equal(np.asarray(Image.open(folder / row['path'])), seen)
        assert (row['age'], row['gender'], row['group']) == ('', '', row['photo'])
        place = sorted(PLACES)[int(row['face'])]
        assert [int(row[name]) for name in ('x', 'y', 'width', 'height')] == [*place, place[2]]
        assert float(row['detection_score']) == 0.9
    assert {row['photo'] for row in rows} == {'0.png', '1.png', '2.png', 'a b/0,"1.jpg'}
    assert read(folder / 'errors.csv') == [
        {'photo': 'a b/small.png', 'error': faces.NO_FACE},
        {'photo': 'damaged.jpg', 'error': read(folder / 'errors.csv')[1]['error']},
    ]
    assert json.loads((folder / geometry.FILE).read_text())['size'] == 48
    assert not (folder / crop.UNFINISHED).exists()


def test_once_labels_are_filled_in_the_faces_are_prepared_as_they_are(config, tmp_path):
    photos, folder = tmp_path / 'PHOTOS', tmp_path / 'faces'
    photos.mkdir()
    for k in range(30):
        (photos / f'{k}.png').write_bytes(encode(photograph(k)))
    crop.crop(config, str(photos), str(folder))
    rows = read(folder / 'faces.csv')
    with (folder / 'faces.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, crop.COLUMNS)
        writer.writeheader()
        # Persons in place of photographs: these are kept together all the same.
        writer.writerows(
            row | {'age': 30 + k % 9, 'gender': 'mf'[k % 2], 'group': f'person {k}'}
            for k, row in enumerate(rows)
        )
    config.data.dataset, config.data.data_dir = 'face_csv/cropped', str(tmp_path / 'data')
    config.data.manual_dir = str(folder)
    builder = prepared.create_prepared_builder(config)
    examples = read_all(builder)
    assert len(examples) == 90
    for row in rows:
        # A PNG loses nothing on its way into the dataset.
        assert examples[row['path']]['image'] == (folder / row['path']).read_bytes()
    groups: dict[str, set[bytes]] = {row['photo']: set() for row in rows}
    for row in rows:
        groups[row['photo']].add(examples[row['path']]['group'])
    assert len(groups) == 30
    assert {len(found) for found in groups.values()} == {1}
    assert geometry.of(builder) == geometry.read(folder)
    assert geometry.of(builder)['geometry'] == 'aligned'


def stop(config, photos, folder, monkeypatch, after):
    """Lets a crop be stopped by a signal after some photographs."""
    config.data.num_threads = 1
    asked = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, 'requested', property(lambda self: next(asked) == after))
        with pytest.raises(RuntimeError, match='the same command goes on from there'):
            crop.crop(config, str(photos), str(folder))


@pytest.mark.parametrize('after', [0, 1, 3, 5])
def test_what_was_stopped_goes_on_and_ends_the_same(config, photos, tmp_path, monkeypatch, after):
    whole, folder = tmp_path / 'whole', tmp_path / 'stopped'
    crop.crop(config, str(photos), str(whole))
    stop(config, photos, folder, monkeypatch, after)
    # A kill in the middle of a row.
    partial = folder / 'faces.csv.partial'
    partial.write_bytes(partial.read_bytes() + b'faces/half,"a\nb')
    assert not (folder / 'faces.csv').exists()
    config.crop.size = 50
    with pytest.raises(ValueError, match=r'another size \(48, now 50\); name a new'):
        crop.crop(config, str(photos), str(folder))
    config.crop.size = 48
    crop.crop(config, str(photos), str(folder))
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize('seconds', [1e9, 2e9])
def test_a_photograph_that_changed_meanwhile_is_done_again(
    config, photos, tmp_path, monkeypatch, seconds
):
    folder = tmp_path / 'faces'
    stop(config, photos, folder, monkeypatch, after=3)
    (photos / '0.png').write_bytes(encode(photograph(7)))
    os.utime(photos / '0.png', (seconds, seconds))
    stop(config, photos, folder, monkeypatch, after=0)
    crop.crop(config, str(photos), str(folder))
    rows = read(folder / 'faces.csv')
    assert len({row['path'] for row in rows}) == len(rows) == 12
    (path,) = [row['path'] for row in rows if (row['photo'], row['face']) == ('0.png', '0')]
    seen = seen_faces(photos / '0.png', Detector())[0]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / path)), seen)


def test_a_photograph_that_may_be_read_now_is_no_error_any_more(
    config, photos, tmp_path, monkeypatch
):
    folder, closed, access = tmp_path / 'faces', photos / '0.png', os.access
    read_faces = faces.read_faces

    def refuse(path, *rest):
        if path == closed:
            raise PermissionError(f'{path} may not be read')
        return read_faces(path, *rest)

    with monkeypatch.context() as patch:  # Root may read anything.
        patch.setattr('os.access', lambda path, mode: path != closed and access(path, mode))
        patch.setattr(faces, 'read_faces', refuse)
        stop(config, photos, folder, monkeypatch, after=5)
        assert 'may not be read' in (folder / 'errors.csv.partial').read_text()
    crop.crop(config, str(photos), str(folder))
    whole = tmp_path / 'whole'
    crop.crop(config, str(photos), str(whole))
    for table in ('faces.csv', 'errors.csv'):
        rows, expected = (sorted(map(str, read(one / table))) for one in (folder, whole))
        assert rows == expected


def test_what_older_code_left_goes_on_and_what_is_damaged_is_said(
    config, photos, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / 'faces'
    stop(config, photos, folder, monkeypatch, after=3)
    path = folder / 'unfinished.json'
    record = json.loads(path.read_text())
    for damaged in (None, 3):
        path.write_text(json.dumps(record | {'photos': damaged}))
        with pytest.raises(ValueError, match=r'unfinished\.json is damaged; name a new --output'):
            crop.crop(config, str(photos), str(folder))
    del record['photos']
    path.write_text(json.dumps(record))
    crop.crop(config, str(photos), str(folder))
    assert 'going on after' in capsys.readouterr().out
    assert len(read(folder / 'faces.csv')) == 12


def test_two_at_once_are_kept_apart(config, photos, tmp_path):
    folder = tmp_path / 'faces'
    refused = f'{folder}: another process is writing faces there; wait until it ends, or name a new'
    with workdir.lock(folder), pytest.raises(ValueError, match=refused):
        crop.crop(config, str(photos), str(folder))
    assert [*contents(folder)] == [workdir.LOCK]
    (folder / '.DS_Store').touch()  # As Finder makes in a folder that was looked at.
    crop.crop(config, str(photos), str(folder))
    assert len(read(folder / 'faces.csv')) == 12
    assert workdir.LOCK not in contents(folder)


def test_a_photograph_that_is_renamed_meanwhile_is_in_the_table_once(
    config, photos, tmp_path, monkeypatch
):
    folder = tmp_path / 'faces'
    stop(config, photos, folder, monkeypatch, after=3)
    names = {row['photo'] for row in read(folder / 'faces.csv.partial')}
    assert '0.png' in names
    (photos / '0.png').rename(photos / 'z.png')
    crop.crop(config, str(photos), str(folder))
    rows = read(folder / 'faces.csv')
    assert len(rows) == 12
    assert '0.png' not in {row['photo'] for row in rows}


def test_paths_that_cannot_be_used_are_said_before_anything_is_written(config, photos, tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/mine.txt').touch()
    (tmp_path / 'empty').mkdir()
    for source, output, message in (
        ('', 'x', 'needs --input=FILE_OR_FOLDER and --output=FOLDER'),
        ('PHOTOS', 'full', 'is not empty; name a new folder'),
        ('PHOTOS', 'PHOTOS', 'is not empty; name a new folder'),
        ('PHOTOS', 'full/mine.txt', 'is a file; name a folder'),
        ('nowhere', 'new', 'no such file or folder'),
        ('empty', 'new', 'no image in it'),
    ):
        paths = [str(tmp_path / name) if name else '' for name in (source, output)]
        with pytest.raises((ValueError, OSError), match=message):
            crop.crop(config, *paths)
    assert not (tmp_path / 'new').exists()
    crop.crop(config, str(photos / '1.png'), str(tmp_path / 'empty'))
    assert len(read(tmp_path / 'empty/faces.csv')) == 3
    with pytest.raises(ValueError, match='is not empty'):
        crop.crop(config, str(photos / '1.png'), str(tmp_path / 'empty'))


def test_the_output_may_lie_in_the_input_and_jpegs_are_nearly_the_same(config, photos, caplog):
    caplog.set_level(logging.WARNING)
    config.crop.format = 'jpg'
    folder = photos / 'faces'
    crop.crop(config, str(photos), str(folder))
    rows = read(folder / 'faces.csv')
    assert len(rows) == 12
    assert all(row['path'].endswith('.jpg') for row in rows)
    seen = seen_faces(photos / '0.png', Detector())[0]
    (path,) = [row['path'] for row in rows if (row['photo'], row['face']) == ('0.png', '0')]
    shown = np.asarray(Image.open(folder / path), np.int64)
    assert np.abs(shown - seen).mean() < 2


def test_names_that_no_table_or_file_system_takes_get_others(tmp_path):
    assert crop.face_name('a/b.jpg', 2) == 'a/b.jpg_2'
    long = crop.face_name('ü/' + 'x' * 250, 0)
    assert long.startswith('ü/')
    assert len(long) == 2 + 64 + 2
    name = os.fsdecode(b'caf\xe9.jpg')
    assert crop.as_text(tmp_path.relative_to(tmp_path) / name) == 'caf%E9.jpg'


def test_a_real_photograph_is_cropped_as_it_is_predicted(shared_data, tmp_path):
    config = default_config.get_config()
    config.detect.model = str(shared_data / 'face_detector' / detection.MODEL_FILE)
    config.crop.size = 112
    path = shared_data / 'photos/ageitgey_obama_and_biden.jpg'
    crop.crop(config, str(path), str(tmp_path / 'faces'))
    rows = read(tmp_path / 'faces/faces.csv')
    found = seen_faces(path, detection.create_detector(config.detect), 112)
    assert len(rows) == len(found) == 3
    for row, face in zip(rows, found, strict=True):
        cut = image_files.read_file(tmp_path / 'faces' / row['path']).pixels
        np.testing.assert_array_equal(cut, face)
    assert json.loads((tmp_path / 'faces/geometry.json').read_text())['size'] == 112
