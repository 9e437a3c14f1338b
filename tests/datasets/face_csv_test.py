import io
import math
import os
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from hybrid import datasets
from hybrid.data import input_pipeline, records
from hybrid.datasets.face_csv import checking, face_csv_dataset_builder
from hybrid.runs import dataset_record
from tests.utkface_archive import jpeg, prepare, quarantined, read, read_all, report


def write_faces(folder, rows, header='path,age,gender', name='faces.csv'):
    """Writes a table and the images of its rows: (content, cells ...), path first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header]
    for content, path, *cells in rows:
        lines.append(','.join([path, *map(str, cells)]))
        if content is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    (folder / name).write_text('\n'.join(lines) + '\n')
    return folder


def many(count=60):
    return [(jpeg(k), f'faces/{k}.jpg', 20 + k % 40, 'mf'[k % 2]) for k in range(count)]


def groups_and_splits(builder) -> dict[bytes, set[str]]:
    found: dict[bytes, set[str]] = {}
    for split in builder.info.splits:
        for row in read(builder, split):
            found.setdefault(row['group'], set()).add(split)
    return found


def test_labels_reasons_and_formats(tmp_path):
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(io.BytesIO(jpeg(500))).save(turned, 'JPEG', exif=exif)
    webp = io.BytesIO()
    Image.open(io.BytesIO(jpeg(501))).save(webp, 'WEBP')
    rows = [
        *many(),
        (turned.getvalue(), 'turned.jpg', '', 'female'),
        (webp.getvalue(), 'a.webp', 31.5, ''),
        (None, 'missing.jpg', 1, 'm'),
        (jpeg(0)[:300], 'damaged.jpg', 1, 'm'),
        (None, '../secret.jpg', 1, 'm'),
        (None, str(tmp_path / 'secret.jpg'), 1, 'm'),
    ]
    (tmp_path / 'secret.jpg').write_bytes(jpeg(999))
    manual_dir = write_faces(tmp_path / 'mine', rows)
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv')
    assert builder.info.full_name == 'face_csv/default/1.0.0'
    examples = read_all(builder)
    assert examples.keys() == {path for _, path, *_ in rows[:62]}
    for content, path, age, gender in rows[:60]:
        example = examples[path]
        assert example['image'] == content
        assert (example['age'], example['gender']) == (age, 'mf'.index(gender))
        assert example['group'].decode() == path
    assert math.isnan(examples['turned.jpg']['age'])
    assert (examples['turned.jpg']['gender'], examples['a.webp']['gender']) == (1, -1)
    assert examples['a.webp']['age'] == 31.5
    size = Image.open(io.BytesIO(examples['turned.jpg']['image'])).size
    assert size == (48, 51)
    assert report(builder) == {
        'files': 66,
        'kept': 62,
        'dropped': {'missing_file': 1, 'unreadable_image': 1, 'unsafe_path': 2},
    }
    with open(builder.data_path / 'quarantine.csv') as file:
        assert 'missing.jpg,missing_file,"faces.csv, line 64"' in file.read().splitlines()


def test_groups_near_duplicates_and_both_joined_stay_together(tmp_path):
    near = [jpeg(1000 + k, quality=q) for k in range(30) for q in (95, 60)]
    rows = [
        *((*row, f'person {k // 3}') for k, row in enumerate(many())),
        # Each photo twice, under two persons: they are one group with all their photos.
        *((content, f'near/{k}.jpg', 30, 'm', f'p{k}') for k, content in enumerate(near)),
        *((jpeg(2000 + k), f'more/{k}.jpg', 30, 'm', f'p{k}') for k in range(60)),
        *((jpeg(3000 + k), f'alone/{k}.jpg', 30, 'm', '') for k in range(20)),
    ]
    manual_dir = write_faces(tmp_path / 'mine', rows, 'path,age,gender,group')
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv')
    found = groups_and_splits(builder)
    assert len(found) == 20 + 30 + 20
    assert all(len(splits) == 1 for splits in found.values())
    assert {split for splits in found.values() for split in splits} == {
        *('train', 'validation', 'test')
    }
    examples = read_all(builder)
    assert len(examples) == 200
    for k in range(0, 60, 2):
        expected = min(f'p{k}', f'p{k + 1}').encode()
        for path in (f'near/{k}.jpg', f'near/{k + 1}.jpg', f'more/{k}.jpg', f'more/{k + 1}.jpg'):
            assert examples[path]['group'] == expected
    # As the table says, if near-duplicates are not looked for.
    other = prepare(manual_dir, tmp_path / 'data', 'face_csv', max_hamming_distance=-1)
    assert len(groups_and_splits(other)) == 20 + 60 + 20
    assert other.info.full_name != builder.info.full_name


def test_copies_in_two_splits_of_the_table_are_leaks_and_a_path_has_one_spelling(tmp_path):
    rows = [
        *((jpeg(k), f'{k}.jpg', 20, 'm', 'train') for k in range(3)),
        *((jpeg(k), f'test/{k}.jpg', 20, 'm', 'test') for k in (2, 3)),
    ]
    manual_dir = write_faces(tmp_path / 'mine', rows, 'path,age,gender,split')
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv', max_hamming_distance=-1)
    leaks = {path for path, example in read_all(builder).items() if example['leak']}
    assert leaks == {'2.jpg', 'test/2.jpg'}
    table = manual_dir / 'faces.csv'
    table.write_text(table.read_text() + './/0.jpg,30,f,test\n')
    with pytest.raises(ValueError, match=r"line 7: '0\.jpg' is on line 2 too"):
        prepare(manual_dir, tmp_path / 'again', 'face_csv')


def test_copies_are_dropped_and_those_whose_labels_differ_go_altogether(tmp_path):
    rows = [
        *many(),
        *((jpeg(500), f'same/{k}.jpg', age, g) for k, (age, g) in enumerate([('', 'm'), (9, '')])),
        (jpeg(500), 'same/2.jpg', 9, 'm'),
        *((jpeg(501), f'ages/{k}.jpg', 9 + k, 'm') for k in range(2)),
        *((jpeg(502), f'genders/{k}.jpg', '', g) for k, g in enumerate('mf')),
        *((jpeg(503), f'some/{k}.jpg', age, '') for k, age in enumerate(['', 30, ''])),
        *((jpeg(504), f'half/{k}.jpg', *half) for k, half in enumerate([('', 'f'), (31, '')])),
    ]
    manual_dir = write_faces(tmp_path / 'mine', rows)
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv')
    assert quarantined(builder) == {
        'half/1.jpg': 'duplicate',
        'same/0.jpg': 'duplicate',
        'same/1.jpg': 'duplicate',
        'some/0.jpg': 'duplicate',
        'some/2.jpg': 'duplicate',
        **dict.fromkeys(
            ['ages/0.jpg', 'ages/1.jpg', 'genders/0.jpg', 'genders/1.jpg'], 'conflicting_duplicate'
        ),
    }
    examples = read_all(builder)
    assert {'same/2.jpg', 'some/1.jpg'} < examples.keys()
    # What stays knows what its copies knew.
    assert (examples['half/0.jpg']['age'], examples['half/0.jpg']['gender']) == (31, 1)
    assert examples['half/0.jpg']['age_min'] == 31


def ages_of(builder):
    """Path to the bounds of the age, from all splits, as training reads them."""
    found: dict[str, tuple[float, float]] = {}
    for split in builder.info.splits:
        columns = records.read_columns(builder, split)
        exact = columns['age_min'] == columns['age_max']
        np.testing.assert_array_equal(columns['age'], np.where(exact, columns['age_min'], np.nan))
        bounds = zip(columns['age_min'].tolist(), columns['age_max'].tolist(), strict=True)
        found |= dict(zip(columns['id'].tolist(), bounds, strict=True))
    return found


def test_ages_may_be_ranges_and_copies_must_have_the_same(tmp_path):
    rows = [
        *many(),
        *((jpeg(500), f'same/{k}.jpg', '20-29', 'm') for k in range(2)),
        *((jpeg(501), f'wider/{k}.jpg', age, 'm') for k, age in enumerate(['20-29', '20-30'])),
        *((jpeg(502), f'exact/{k}.jpg', age, 'm') for k, age in enumerate(['20-29', '25'])),
        *((jpeg(503), f'known/{k}.jpg', age, 'm') for k, age in enumerate(['', '70+'])),
        (jpeg(504), 'adience.jpg', '"(25, 32)"', 'f'),
        (jpeg(505), 'none.jpg', 'None', 'f'),
    ]
    manual_dir = write_faces(tmp_path / 'mine', rows)
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv')
    assert builder.info.full_name == 'face_csv/default/1.0.0'
    conflicts = ['wider/0.jpg', 'wider/1.jpg', 'exact/0.jpg', 'exact/1.jpg']
    assert quarantined(builder) == {
        **{'same/1.jpg': 'duplicate', 'known/0.jpg': 'duplicate'},
        **dict.fromkeys(conflicts, 'conflicting_duplicate'),
    }
    ages = ages_of(builder)
    assert len(ages) == 64
    assert (ages['same/0.jpg'], ages['adience.jpg']) == ((20, 29), (25, 32))
    assert ages['known/1.jpg'] == (70, math.inf)
    assert ages['faces/3.jpg'] == (23, 23)
    assert math.isnan(ages['none.jpg'][0])
    # Batches hold the same.
    batches = input_pipeline.evaluation_batches(builder, 'train', batch_size=64, resize_size=8)
    batch, columns = next(batches), records.read_columns(builder, 'train')
    count = len(columns['id'])
    for name in ('age', 'age_min', 'age_max'):
        np.testing.assert_array_equal(batch[name][:count], columns[name])
        assert np.isnan(batch[name][count:]).all()  # padding
    np.testing.assert_array_equal(batch['gender'][:count], columns['gender'])


def test_what_was_prepared_before_ages_could_be_ranges_is_read_as_it_is(tmp_path, monkeypatch):
    manual_dir = write_faces(tmp_path / 'mine', many())
    new = prepare(manual_dir, tmp_path / 'new', 'face_csv')
    with monkeypatch.context() as patch:
        patch.setattr(face_csv_dataset_builder, '_AGE_FEATURES', ())
        old = prepare(manual_dir, tmp_path / 'data', 'face_csv')
    assert 'age_min' not in (old.data_path / 'features.json').read_text()
    again = prepare(manual_dir, tmp_path / 'data', 'face_csv')
    assert ages_of(again) == ages_of(new)
    assert again.info.full_name == new.info.full_name
    for split in new.info.splits:
        hashes = {
            dataset_record.examples_hash(records.read_columns(one, split)) for one in (again, new)
        }
        assert len(hashes) == 1


def test_a_given_split_is_kept_and_its_leaks_are_marked(tmp_path):
    rows = [(*row, ('train', 'val')[k % 2], f'g{k}') for k, row in enumerate(many(20))]
    rows += [
        (jpeg(500), 'a.jpg', 5, 'm', 'train', 'x'),
        (jpeg(500), 'b.jpg', 6, 'm', 'val', 'y'),  # the same bytes
        (jpeg(501), 'c.jpg', 5, 'm', 'train', 'z'),
        (jpeg(502), 'd.jpg', 6, 'm', 'val', 'z'),  # the same person
    ]
    manual_dir = write_faces(tmp_path / 'mine', rows, 'path,age,gender,split,group')
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv/published')
    assert builder.info.full_name == 'face_csv/published/1.0.0'
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {
        'train': 12,
        'val': 12,
    }
    examples = read_all(builder)
    assert {path for path, example in examples.items() if example['leak']} == {
        *('a.jpg', 'b.jpg', 'c.jpg', 'd.jpg')
    }


def test_another_table_is_not_taken_for_the_one_that_was_prepared(tmp_path):
    first = write_faces(tmp_path / 'first', many())
    second = write_faces(tmp_path / 'second', many(61))
    prepare(first, tmp_path / 'data', 'face_csv')
    prepare(first, tmp_path / 'data', 'face_csv')
    prepare(tmp_path / 'elsewhere', tmp_path / 'data', 'face_csv')  # the data are enough
    with pytest.raises(ValueError, match=r'was made from other files .*face_csv/NAME'):
        prepare(second, tmp_path / 'data', 'face_csv')
    # A table that says the same.
    text = (first / 'faces.csv').read_text()
    (first / 'faces.csv').write_text(text.replace(',', ';'))
    prepare(first, tmp_path / 'data', 'face_csv')
    named = prepare(second, tmp_path / 'data', 'face_csv/second')
    assert len(read_all(named)) == 61


def test_images_replaced_under_their_names_are_not_passed_over(tmp_path):
    manual_dir = write_faces(tmp_path / 'mine', many())
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv')
    before = {path: path.read_bytes() for path in builder.data_path.iterdir()}
    write_faces(manual_dir, [(jpeg(1000 + k), *row[1:]) for k, row in enumerate(many())])
    with pytest.raises(ValueError, match=r'faces/\d+\.jpg had another .*, and 59 more differ'):
        prepare(manual_dir, tmp_path / 'data', 'face_csv')
    assert {path: path.read_bytes() for path in builder.data_path.iterdir()} == before
    datasets.prepare(builder, '')


def test_folds_are_of_equal_shares_and_keep_groups_together(tmp_path):
    rows = [(*row, f'p{k // 2}') for k, row in enumerate(many(80))]
    manual_dir = write_faces(tmp_path / 'mine', rows, 'path,age,gender,group')
    builder = prepare(manual_dir, tmp_path / 'data', 'face_csv/mine', folds=4)
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes.keys() == {'fold0', 'fold1', 'fold2', 'fold3'}
    assert sum(sizes.values()) == 80
    found = groups_and_splits(builder)
    assert len(found) == 40
    assert all(len(splits) == 1 for splits in found.values())
    with pytest.raises(ValueError, match='folds=1 must be 0, or lie between 2 and 1000'):
        datasets.create_builder('face_csv/mine', str(tmp_path), {'folds': 1})
    # Said before any image is read: there is none.
    write_faces(tmp_path / 'split', [(None, 'a.jpg', 1, 'm', 'train')], 'path,age,gender,split')
    with pytest.raises(ValueError, match='has a column split; leave out the parameter folds'):
        prepare(tmp_path / 'split', tmp_path / 'data', 'face_csv/split', folds=4)


def test_table_and_folder_may_have_other_names(tmp_path):
    write_faces(tmp_path / 'mine/images', many(), name='x.csv')
    (tmp_path / 'mine/images/x.csv').rename(tmp_path / 'mine/list.csv')
    builder = prepare(
        tmp_path / 'mine', tmp_path / 'data', 'face_csv', csv='list.csv', folder='images'
    )
    assert len(read_all(builder)) == 60


def test_what_is_missing_is_said(tmp_path):
    builder = datasets.create_builder('face_csv', str(tmp_path / 'data'))
    with pytest.raises(FileNotFoundError, match=r'Put faces\.csv with the columns'):
        datasets.prepare(builder, str(tmp_path / 'nothing'))
    write_faces(tmp_path / 'mine', [(None, 'a.jpg', 1, 'm')])
    with pytest.raises(ValueError, match=rf'is a file; name its folder, {tmp_path}/mine$'):
        datasets.prepare(builder, str(tmp_path / 'mine/faces.csv'))
    said = r'be used: missing_file 1; the first missing_file is a\.jpg \(faces\.csv, line 2\)'
    with pytest.raises(ValueError, match=said):
        datasets.prepare(builder, str(tmp_path / 'mine'))
    write_faces(tmp_path / 'mine', [(jpeg(0), 'a.jpg', 1, 'm')])
    with pytest.raises(ValueError, match=r'by chance none of its 1 groups is in .* column split'):
        datasets.prepare(builder, str(tmp_path / 'mine'))
    assert not builder.data_path.exists()
    with pytest.raises(ValueError, match='max_hamming_distance=300'):
        datasets.create_builder('face_csv', str(tmp_path), {'max_hamming_distance': 300})


def test_a_png_with_more_pixels_than_pillow_opens_is_kept(monkeypatch):
    picture = io.BytesIO()
    Image.effect_noise((40, 40), 50).convert('RGB').save(picture, 'PNG')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    assert checking.check_image(picture.getvalue(), 10).jpeg == picture.getvalue()


def test_a_preparation_that_goes_on_looks_alive_to_others(tmp_path, monkeypatch):
    touched: list[Any] = []
    monkeypatch.setattr(face_csv_dataset_builder, '_TOUCH_SECONDS', 0)
    monkeypatch.setattr(os, 'utime', touched.append)
    prepare(write_faces(tmp_path / 'mine', many()), tmp_path / 'data', 'face_csv')
    assert len(touched) == 60
    assert {path.name.partition('.')[0] for path in touched} == {'incomplete'}


def test_a_png_of_16_bits_a_channel_is_read_as_its_8_upper_bits(tmp_path):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 2**16, (6, 40, 40, 3)).astype(np.uint16)
    rows = [
        (cv2.imencode('.png', image)[1].tobytes(), f'{k}.png', 30, 'mf'[k % 2], 'train')
        for k, image in enumerate(deep)
    ]
    folder = write_faces(tmp_path / 'mine', rows, 'path,age,gender,split')
    builder = prepare(folder, tmp_path / 'data', 'face_csv')
    examples = input_pipeline.Examples(builder, 'train', 40)
    columns = records.read_columns(builder, 'train')
    ids = columns['id'].tolist()
    found = records.read_images(builder, 'train', columns, [*ids[::-1], 'none'])
    assert list(found) == ids[::-1]
    for name, image in zip(ids, examples.load(np.arange(6))['image'], strict=True):
        shallow = (deep[int(name.removesuffix('.png')), ..., ::-1] / 257).astype(float)
        np.testing.assert_allclose(image, shallow, atol=1)
        np.testing.assert_array_equal(image, found[name])
