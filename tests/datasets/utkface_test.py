import hashlib
import io
import itertools
import sys
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybrid import datasets
from hybrid.datasets.utkface import file_names
from tests.utkface_archive import (
    hash_of,
    jpeg,
    many_faces,
    name_of,
    prepare,
    quarantined,
    read,
    read_all,
    report,
    write_archive,
)


@pytest.mark.parametrize(
    ('name', 'labels'),
    [
        ('100_1_4_20170112213500903.jpg.chip.jpg', (100, 1, 4)),
        ('24_0_1_20170116220224657 .jpg.chip.jpg', (24, 0, 1)),
        ('55_0_0_20170116232725357jpg.chip.jpg', (55, 0, 0)),
        ('1_0_0_2016121914060791.jpg.chip.jpg', (1, 0, 0)),
        ('1_1_3_201612191406079121.jpg.chip.jpg', (1, 1, 3)),
        ('1_1_3_20161219140607912.jpg', (1, 1, 3)),
        ('1_1_3_20161219140607912.JPG', (1, 1, 3)),
        ('1_1_3_20161219140607912.jpg.chip.png', (1, 1, 3)),
        ('39_1_20170116174525125.jpg.chip.jpg', None),
        ('61_3_20170109150557335.jpg.chip.jpg', None),
        ('61_1_5_20170109150557335.jpg.chip.jpg', None),
        ('61_2_0_20170109150557335.jpg.chip.jpg', None),
        ('1000_1_0_20170109150557335.jpg.chip.jpg', None),
        ('61_1_0_201701091505573.jpg.chip.jpg', None),
        ('x61_1_0_20170109150557335.jpg.chip.jpg', None),
        ('61_1_0_20170109150557335.jpg.chip.jpg.txt', None),
    ],
)
def test_file_names(name, labels):
    assert file_names.parse(name) == labels


def test_what_is_dropped_and_what_is_kept(tmp_path):
    faces = many_faces()
    agreeing = [name_of(70, 100 + i) for i in range(3)]
    conflicting = [name_of(71, 200), name_of(72, 201), name_of(71, 202)]
    other_gender = [name_of(73, 300, gender=0), name_of(73, 301, gender=1)]
    pairs = [(name_of(5, 400 + i), name_of(90, 420 + i)) for i in range(20)]
    group_of = {name: first for first, second in pairs for name in (first, second)}
    dropped = {
        agreeing[1]: 'duplicate',
        agreeing[2]: 'duplicate',
        **dict.fromkeys(conflicting + other_gender, 'conflicting_duplicate'),
        '39_1_20170116174525125.jpg.chip.jpg': 'malformed_name',
        name_of(1, 500): 'empty_file',
        name_of(1, 501): 'unreadable_image',
    }
    files = {
        **faces,
        **dict.fromkeys(agreeing, jpeg(1000)),
        **dict.fromkeys(conflicting, jpeg(1001)),
        **dict.fromkeys(other_gender, jpeg(1002)),
        **{first: jpeg(2000 + i, quality=95) for i, (first, _) in enumerate(pairs)},
        **{second: jpeg(2000 + i, quality=60) for i, (_, second) in enumerate(pairs)},
        '39_1_20170116174525125.jpg.chip.jpg': jpeg(1004),
        name_of(1, 500): b'',
        name_of(1, 501): jpeg(1005)[:-100],
        name_of(80, 600, gender=1): jpeg(1006, 'L'),
    }
    write_archive(tmp_path / 'manual', files)
    builder = prepare(tmp_path / 'manual', tmp_path / 'data')
    rows = read_all(builder)
    assert set(rows) == set(files) - set(dropped)
    assert quarantined(builder) == dropped
    assert report(builder) == {
        'files': 112,
        'parsed': 111,
        'kept': 102,
        'dropped': {
            'conflicting_duplicate': 5,
            'duplicate': 2,
            'empty_file': 1,
            'malformed_name': 1,
            'unreadable_image': 1,
        },
    }
    for name, row in rows.items():
        age, gender, ethnicity, _ = name.split('_')
        labels = (row['age'], row['gender'], row['ethnicity'])
        assert labels == (float(age), int(gender), int(ethnicity))
        assert row['group'].decode() == group_of.get(name, name)
        assert not row['leak']
        assert row['image'] == files[name] or name == name_of(80, 600, gender=1)
    # A component's split is that of its smallest name, by a hash spelt out here.
    for split, low, high in (('train', 0, 0.8), ('validation', 0.8, 0.9), ('test', 0.9, 1)):
        for row in read(builder, split):
            digest = hashlib.sha256(row['group']).hexdigest()
            assert low <= int(digest[:8], 16) / 2**32 < high
    decoded = builder.as_data_source('train')[0]['image']
    assert (decoded.shape, decoded.dtype) == ((48, 51, 3), np.uint8)
    assert 'tensorflow' not in sys.modules


def test_components_are_formed_before_duplicates_are_dropped(tmp_path):
    # The chain's middle goes as a conflicting duplicate; what it linked stays together.
    blocks = np.random.default_rng(0).integers(100, 156, (16, 17), np.uint8)

    def brighter(rows: int) -> bytes:
        changed = blocks.copy()
        changed[:rows, 1::2] = 255
        changed[:rows, 0::2] = 0
        file = io.BytesIO()
        Image.fromarray(changed).convert('RGB').save(file, 'JPEG', quality=100, subsampling=0)
        return file.getvalue()

    hashes = [hash_of(brighter(rows)) for rows in (0, 1, 2)]
    bits = [int(np.bitwise_count(a ^ b).sum()) for a, b in itertools.pairwise(hashes)]
    far = int(np.bitwise_count(hashes[0] ^ hashes[2]).sum())
    assert max(bits) < far
    names = [name_of(70, 100), name_of(71, 101), name_of(72, 102), name_of(73, 103)]
    contents = [brighter(0), brighter(1), brighter(1), brighter(2)]
    write_archive(tmp_path, {**many_faces(), **dict(zip(names, contents, strict=True))})
    rows = read_all(prepare(tmp_path, tmp_path / 'data', max_hamming_distance=max(bits)))
    assert names[1] not in rows
    assert rows[names[3]]['group'] == rows[names[0]]['group'] == names[0].encode()


@pytest.mark.parametrize('exists', [False, True])
def test_missing_data_says_what_to_get_and_where_to_put_it(tmp_path, exists):
    manual_dir = tmp_path / 'manual'
    if exists:
        manual_dir.mkdir()
        (manual_dir / 'something_else').touch()
    builder = datasets.create_builder('utkface', str(tmp_path / 'data'))
    with pytest.raises(FileNotFoundError) as error:
        datasets.prepare(builder, str(manual_dir))
    for part in (
        str(manual_dir),
        'UTKFace, aligned and cropped',
        'Zhang, Song and Qi',
        'https://susanqq.github.io/UTKFace/',
        'non-commercial research',
        'UTKFace.tar.gz',
        '--config.data.manual_dir=',
    ):
        assert part in str(error.value)
    if not exists:
        assert str(error.value).endswith(' docs/data.md lists the files of all datasets')
        assert '\n' not in str(error.value)


def test_files_of_other_names_are_counted_and_the_first_is_named(tmp_path):
    write_archive(tmp_path, {'30_male.jpg': jpeg(0), '31_male.jpg': jpeg(1)})
    builder = datasets.create_builder('utkface', str(tmp_path / 'data'))
    with pytest.raises(ValueError, match='none of its 2 files can be used') as error:
        datasets.prepare(builder, str(tmp_path))
    assert str(error.value) == (
        f'{tmp_path}/UTKFace.tar.gz: none of its 2 files can be used: malformed_name 2; the first '
        'malformed_name is 30_male.jpg. They are called AGE_GENDER_RACE_TIMESTAMP.jpg.chip.jpg, '
        'such as 26_1_0_20170116184024662.jpg.chip.jpg'
    )


def write_coral_split(folder: Path, **names: list[str]) -> None:
    (folder / 'coral_split').mkdir(parents=True, exist_ok=True)
    for split, members in names.items():
        lines = [f'{name},{name.split("_")[0]}' for name in members]
        (folder / 'coral_split' / f'{split}.csv').write_text('\n'.join(['filename,age', *lines]))


def test_coral_split_is_as_published_and_marks_its_leaks(tmp_path):
    faces = many_faces(100)
    in_train, in_test, outside = list(faces)[:60], list(faces)[60:80], list(faces)[80:]
    malformed = '39_1_20170116174525125.jpg.chip.jpg'
    identical = [name_of(30, 200), name_of(31, 201)]  # disagree on age: kept, as published
    linked = [name_of(40, 300), name_of(41, 301), name_of(42, 302)]
    in_train += [malformed, identical[0], linked[0]]
    in_test += [identical[1], linked[1]]
    files = {
        **faces,
        malformed: jpeg(1000),
        **dict.fromkeys(identical, jpeg(1001)),
        linked[0]: jpeg(1002, quality=95),
        linked[1]: jpeg(1002, quality=60),
        linked[2]: jpeg(1002, quality=70),
    }
    outside.append(linked[2])
    write_archive(tmp_path, files)
    write_coral_split(tmp_path, train=in_train, test=in_test)
    builder = prepare(tmp_path, tmp_path / 'data', 'utkface/coral_21_60')
    rows = {
        split: {row['id'].decode(): row for row in read(builder, split)}
        for split in builder.info.splits
    }
    assert set(rows['train']) == set(in_train)
    assert set(rows['test']) == set(in_test)
    assert quarantined(builder) == dict.fromkeys(outside, 'not_in_published_split')
    assert report(builder)['kept'] == len(in_train) + len(in_test)
    leaks = {
        name for split in ('train', 'test') for name, row in rows[split].items() if row['leak']
    }
    assert leaks == {*identical, *linked[:2]}
    unknown = rows['train'][malformed]
    assert (unknown['age'], unknown['gender'], unknown['ethnicity']) == (39, -1, -1)
    assert set(rows['train_fit']) | set(rows['validation']) == set(in_train)
    assert not set(rows['train_fit']) & set(rows['validation'])
    for split, low, high in (('train_fit', 0, 0.9), ('validation', 0.9, 1)):
        for row in rows[split].values():
            digest = hashlib.sha256(row['group']).hexdigest()
            assert low <= int(digest[:8], 16) / 2**32 < high


def test_the_naive_split_takes_everything_at_random_and_marks_its_leaks(tmp_path):
    copies = {name_of(70 + k % 2, 500 + k): jpeg(1000 + k // 2) for k in range(60)}
    files = {**many_faces(), **copies, '39_1_20170116174525125.jpg.chip.jpg': jpeg(2000)}
    write_archive(tmp_path, files)
    builder = prepare(tmp_path, tmp_path / 'data', 'utkface/random_80_20')
    train, test = read(builder, 'train'), read(builder, 'test')
    assert (len(train), len(test)) == (96, 24)
    leaking = {row['group'] for row in train} & {row['group'] for row in test}
    assert len(leaking) > 3
    for row in train + test:
        assert row['leak'] == (row['group'] in leaking)
    assert {row['image'] for row in train} & {row['image'] for row in test}
    again = prepare(tmp_path, tmp_path / 'again', 'utkface/random_80_20')
    other = prepare(tmp_path, tmp_path / 'data', 'utkface/random_80_20', seed=1)
    assert read(again, 'test') == test
    assert {row['id'] for row in read(other, 'test')} != {row['id'] for row in test}


def test_a_published_split_that_does_not_fit_is_refused(tmp_path):
    faces = list(many_faces(40))
    write_archive(tmp_path, many_faces(40))

    def refuses(error: type[Exception], message: str) -> None:
        builder = datasets.create_builder('utkface/coral_21_60', str(tmp_path / 'data'))
        with pytest.raises(error, match=message):
            datasets.prepare(builder, str(tmp_path))

    refuses(FileNotFoundError, r'coral_split/train\.csv is missing')
    write_coral_split(tmp_path, train=faces[:30], test=faces[29:])
    refuses(ValueError, 'is in train.csv and test.csv')
    write_coral_split(tmp_path, train=faces[:30], test=[*faces[30:], name_of(1, 900)])
    refuses(ValueError, 'lacks 1 files of coral_split')
    (tmp_path / 'coral_split/train.csv').write_text('filename,age\na.jpg,x\n')
    refuses(ValueError, r"train\.csv, line 2: age 'x' is no number")
    (tmp_path / 'coral_split/train.csv').write_text('file,age\na.jpg,1\n')
    refuses(ValueError, r"train\.csv: columns \['file', 'age'\]")


def of_the_real_archive(test):
    """In one process of pytest, which prepares the archive once."""
    return pytest.mark.real_archive(pytest.mark.xdist_group('real_archive')(test))


@pytest.fixture(scope='session')
def real_builders(shared_data, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp('utkface')
    manual_dir = shared_data / 'utkface'
    return {
        name: prepare(manual_dir, data_dir, f'utkface/{name}')
        for name in ('default', 'coral_21_60')
    }


@of_the_real_archive
def test_real_default_split(real_builders):
    builder = real_builders['default']
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {'train': 18_507, 'validation': 2_261, 'test': 2_323}
    assert report(builder) == {
        'files': 23_708,
        'parsed': 23_705,
        'kept': 23_091,
        'dropped': {'conflicting_duplicate': 458, 'duplicate': 156, 'malformed_name': 3},
    }
    malformed = [n for n, reason in quarantined(builder).items() if reason == 'malformed_name']
    stems = ['39_1_20170116174525125', '61_1_20170109142408075', '61_1_20170109150557335']
    assert malformed == [f'{stem}.jpg.chip.jpg' for stem in stems]
    odd = ['24_0_1_20170116220224657 .jpg.chip.jpg', '55_0_0_20170116232725357jpg.chip.jpg']
    assert set(odd) <= read_all(builder).keys()


@of_the_real_archive
def test_real_splits_share_no_component_and_no_near_duplicate(real_builders):
    rows = {
        split: read(real_builders['default'], split) for split in ('train', 'validation', 'test')
    }
    everything = [row for members in rows.values() for row in members]
    assert len({row['image'] for row in everything}) == len(everything)
    split_of: dict[bytes, set[str]] = {}
    for split, members in rows.items():
        for row in members:
            split_of.setdefault(row['group'], set()).add(split)
    assert {len(found) for found in split_of.values()} == {1}

    # The guarantee itself, from the stored images, by brute force.
    with futures.ThreadPoolExecutor() as pool:
        hashes = np.stack(list(pool.map(lambda row: hash_of(row['image']), everything)))
    numbers = np.repeat(np.arange(3), [len(members) for members in rows.values()])
    for index in np.flatnonzero(numbers):
        distance = np.bitwise_count(hashes ^ hashes[index]).sum(axis=1, dtype=np.int16)
        assert set(numbers[distance <= 16]) == {numbers[index]}


@of_the_real_archive
def test_real_coral_split(real_builders):
    builder = real_builders['coral_21_60']
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {'train': 13_147, 'test': 3_287, 'train_fit': 11_811, 'validation': 1_336}
    assert report(builder)['dropped'] == {'malformed_name': 2, 'not_in_published_split': 7_272}
    train, test, fit, validation = (read(builder, split) for split in sizes)
    ages = [row['age'] for row in train + test]
    assert (min(ages), max(ages)) == (21, 60)
    assert [row['id'][:22] for row in train if row['gender'] == -1] == [b'39_1_20170116174525125']
    assert not {row['group'] for row in fit} & {row['group'] for row in validation}

    # The published split's leaks: byte-identical files, and components on both sides.
    train_images = {row['image'] for row in train}
    identical = [row for row in test if row['image'] in train_images]
    assert (len({row['image'] for row in identical}), len(identical)) == (83, 84)
    leaking = {row['group'] for row in train} & {row['group'] for row in test}
    assert len(leaking) == 179
    assert sum(row['leak'] for row in test) == 184
    assert sum(row['leak'] for row in train) == 191
    assert all(row['leak'] == (row['group'] in leaking) for row in train + test)
    assert all(row['leak'] for row in identical)
