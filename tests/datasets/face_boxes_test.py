"""`face_csv` of photographs with face boxes, and of faces that are aligned."""

import io

import numpy as np
import pytest
from PIL import Image

from hybrid import datasets, default_config
from hybrid.data import prepared
from hybrid.datasets import geometry
from tests import photographs
from tests.datasets.face_csv_test import groups_and_splits
from tests.imdb_wiki_archive import many_rows, mat_bytes, row, write_tar
from tests.photographs import PLACES, encode, head, photograph
from tests.utkface_archive import prepare, quarantined, read_all, report

HEADER = 'path,age,gender,x,y,width,height'


def write(folder, lines, photos, header=HEADER):
    folder.mkdir()
    for name, content in photos.items():
        (folder / name).write_bytes(content)
    (folder / 'faces.csv').write_text('\n'.join([header, *lines]) + '\n')
    return folder


def lines_of(name, number, places=PLACES):
    return [
        f'{name},{20 + (number + k) % 40},{"mf"[k % 2]},{x},{y},{side},{side}'
        for k, (x, y, side) in enumerate(places)
    ]


def pixels(example):
    return np.asarray(Image.open(io.BytesIO(example['image'])), np.int64)


@pytest.fixture(scope='module')
def manual_dir(tmp_path_factory):
    """40 photographs with three faces each, a copy of the first, and faces that cannot be used."""
    photos = {f'{k}.png': encode(photograph(k)) for k in range(40)}
    photos['copy.jpg'] = encode(photograph(0), 'JPEG', quality=60)
    lines = [line for k in range(40) for line in lines_of(f'{k}.png', k)]
    # Of the copy another face than of the first photograph: they must not straddle a split.
    lines = lines[1:] + lines_of('copy.jpg', 0)[:1]
    lines += [
        '1.png,9,m,2000,0,50,50',
        '1.png,9,m,10,10,9,30',
        '2.png,9,m,,,,',
        'none.png,1,f,1,1,9,9',
    ]
    return write(tmp_path_factory.mktemp('boxes') / 'mine', lines, photos)


def test_the_network_sees_the_faces_in_the_boxes(manual_dir, tmp_path):
    builder = prepare(manual_dir, tmp_path, 'face_csv/boxes', margin=0.0)
    examples = read_all(builder)
    assert len(examples) == 120
    assert quarantined(builder) == {
        '1.png#2000,0,50,50': 'box_outside_picture',
        '1.png#10,10,9,30': 'too_small',
        '2.png': 'no_box',
        'none.png#1,1,9,9': 'missing_file',
    }
    assert report(builder)['files'] == 124
    for k in range(1, 40):
        for n, (x, y, side) in enumerate(PLACES):
            example = examples[f'{k}.png#{x},{y},{side},{side}']
            assert np.abs(pixels(example) - np.asarray(head(10 * k + n, side))).mean() < 2
            assert (example['age'], example['gender']) == (20 + (k + n) % 40, n % 2)
    # One photograph is one group, and so are a photograph and its copy.
    found = groups_and_splits(builder)
    assert found.keys() == {*(f'{k}.png'.encode() for k in range(40))}
    assert all(len(splits) == 1 for splits in found.values())
    assert examples['copy.jpg#40,100,160,160']['group'] == b'0.png'
    assert geometry.of(builder) == {'geometry': 'box', 'margin': 0.0, 'size': 224}


def test_aligned_faces_are_what_a_detector_sees(manual_dir, tmp_path, monkeypatch, caplog):
    config = default_config.get_config()
    photographs.use(monkeypatch, config, tmp_path)
    config.data.dataset, config.data.data_dir = 'face_csv/boxes', str(tmp_path / 'data')
    config.data.manual_dir = str(manual_dir)
    config.data.parameters = {'align': True, 'size': 60}
    builder = prepared.create_prepared_builder(config)
    examples = read_all(builder)
    # The line without a box has the widest face of 2.png that no other line has: none is left.
    assert quarantined(builder)['2.png'] == 'no_face'
    assert len(examples) == 120
    x, y, side = PLACES[2]
    example = examples[f'7.png#{x},{y},{side},{side}']
    assert np.abs(pixels(example) - np.asarray(head(72, side))).mean() < 2
    assert {pixels(example).shape for example in examples.values()} == {(60, 60, 3)}
    record = geometry.of(builder)
    assert (record['geometry'], record['size'], record['template']) == ('aligned', 60, 1)
    assert not geometry.differ(record, geometry.UTKFACE_CHIPS)

    # Who changes how the detector works is told that the faces are still the former ones.
    def warnings():
        own = [record for record in caplog.records if record.name.startswith('hybrid')]
        return [record.getMessage() for record in own]

    prepared.create_prepared_builder(config)
    assert not warnings()
    config.detect.threshold = 0.9
    prepared.create_prepared_builder(config)
    config.detect.threshold = 0.7
    config.detect.model = __file__
    prepared.create_prepared_builder(config)
    threshold, model = warnings()
    assert 'was aligned with another config.detect.threshold (0.7 there, 0.9 now)' in threshold
    assert 'was aligned with another config.detect.model (' in model
    config.detect.model = str(tmp_path / 'not on this machine')
    prepared.create_prepared_builder(config)
    assert len(warnings()) == 2


def test_two_boxes_of_one_face_leave_one_of_it(tmp_path, monkeypatch):
    config = default_config.get_config()
    photographs.use(monkeypatch, config, tmp_path, PLACES[:1])
    photos = {f'{k}.png': encode(photograph(k)) for k in range(30)}
    lines = [line for k in range(30) for line in lines_of(f'{k}.png', k, PLACES[:1])]
    # The same photograph under another name, its box drawn otherwise, its labels others.
    photos['again.png'] = photos['0.png']
    lines.append('again.png,77,f,45,105,150,150')
    config.data.manual_dir = str(write(tmp_path / 'mine', lines, photos))
    config.data.dataset, config.data.data_dir = 'face_csv/twice', str(tmp_path / 'data')
    config.data.parameters = {'align': True}
    builder = prepared.create_prepared_builder(config)
    assert quarantined(builder) == {
        '0.png#40,100,160,160': 'conflicting_duplicate',
        'again.png#45,105,150,150': 'conflicting_duplicate',
    }


def test_a_split_that_parts_the_faces_of_a_photograph_leaks(tmp_path):
    lines = [
        f'{line},{split}'
        for name in ('0.png', '1.png')
        for line, split in zip(lines_of(name, 0)[:2], ('train', 'test'), strict=True)
    ]
    lines += [f'{line},train' for line in lines_of('2.png', 2)]
    photos = {f'{k}.png': encode(photograph(k)) for k in range(3)}
    manual_dir = write(tmp_path / 'mine', lines, photos, f'{HEADER},split')
    examples = read_all(prepare(manual_dir, tmp_path / 'data', 'face_csv/parted'))
    assert {name[:5]: example['leak'] for name, example in examples.items()} == {
        **{'0.png': True, '1.png': True, '2.png': False}
    }


def test_a_table_of_boxes_that_are_all_empty_shows_no_background(tmp_path):
    manual_dir = write(tmp_path / 'mine', ['0.png,1,f,,,,'], {'0.png': encode(photograph(0))})
    builder = datasets.create_builder('face_csv', str(tmp_path / 'data'))
    with pytest.raises(ValueError, match='none of its 1 images can be used'):
        datasets.prepare(builder, str(manual_dir))


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'size': 8}, 'size=8 must lie between 16 and 2048'),
        ({'margin': -0.1}, 'margin=-0.1 must lie between 0 and 2'),
        ({'align': 1}, 'align=1 must be of type bool'),
    ],
)
def test_parameters_that_make_no_sense_are_refused(tmp_path, parameters, message):
    with pytest.raises(ValueError, match=message):
        datasets.create_builder('face_csv', str(tmp_path), parameters)


def test_photographs_lie_as_exif_says_when_they_are_cut(tmp_path):
    """Boxes are of the upright picture, as --detect gives them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photograph(0).transpose(Image.Transpose.ROTATE_90)
    photos = {f'{k}.png': encode(photograph(k)) for k in range(1, 30)}
    photos['0.png'] = encode(turned, exif=exif)
    lines = [line for k in range(30) for line in lines_of(f'{k}.png', k, PLACES[:1])]
    manual_dir = write(tmp_path / 'mine', lines, photos)
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv/turned', margin=0.0)
    example = read_all(builder)['0.png#40,100,160,160']
    assert np.abs(pixels(example) - np.asarray(head(0, 160))).mean() < 2


def test_imdb_wiki_can_be_aligned(tmp_path, monkeypatch):
    config = default_config.get_config()
    place = (300, 100, 120)
    photographs.use(monkeypatch, config, tmp_path, [place, (20, 20, 100)])
    rows = [*many_rows(), row('99/1_small.jpg', name='S')]
    content = {
        r['full_path']: encode(photograph(k, [place], (700, 330)), 'JPEG', quality=95)
        for k, r in enumerate(rows)
    }
    content['99/1_small.jpg'] = encode(head(1, 80), 'JPEG')
    write_tar(tmp_path, 'wiki', {'wiki.mat': mat_bytes('wiki', rows), **content})
    config.data.dataset, config.data.data_dir = 'imdb_wiki/wiki', str(tmp_path / 'data')
    config.data.manual_dir = str(tmp_path)
    config.data.parameters = {'align': True, 'size': 120}
    builder = prepared.create_prepared_builder(config)
    assert quarantined(builder) == {'wiki/99/1_small.jpg': 'no_face'}
    examples = read_all(builder)
    assert len(examples) == len(rows) - 1
    example = examples[f'wiki/{rows[5]["full_path"]}']
    assert np.abs(pixels(example) - np.asarray(head(50, 120))).mean() < 4
    assert geometry.of(builder)['geometry'] == 'aligned'
    assert builder.info.full_name.startswith('imdb_wiki/wiki_')
