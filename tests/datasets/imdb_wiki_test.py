import datetime
import hashlib
import io
import math
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from hybrid import datasets
from hybrid.data import fingerprints, parts, records, shared
from hybrid.datasets import photographs, shards
from tests.imdb_wiki_archive import (
    INF,
    NAN,
    datenum,
    many_rows,
    mat_bytes,
    row,
    write_database,
    write_tar,
)
from tests.utkface_archive import jpeg, prepare, quarantined, read, read_all, report


def age_of(dob: float, taken: int) -> int:
    """The age rule, as it is published, with Python's own dates."""
    birth = datetime.date.fromordinal(max(int(dob) - 366, 1))
    return taken - birth.year - (1 if birth.month >= 7 else 0)


def split_of_groups(builder) -> dict[bytes, set[str]]:
    found: dict[bytes, set[str]] = {}
    for split in builder.info.splits:
        for example in read(builder, split):
            found.setdefault(example['group'], set()).add(split)
    return found


def test_labels_filter_and_report(tmp_path):
    rows = many_rows()
    july = datenum(datetime.date(1950, 7, 1))
    labelled = [
        row('90/2000_a_b.jpg', dob=july, photo_taken=1990, gender=1.0, name='A'),
        row('90/2001_a_b.jpg', dob=july - 1, photo_taken=1990, name='B', second_face_score=-0.5),
        row('90/2002_a_b.jpg', dob=july, photo_taken=1951, name='C', face_score=1.0),
    ]
    out = {
        'no_face': row('91/1_a.jpg', face_score=-INF, second_face_score=1.0),
        'second_face': row('91/2_a.jpg', second_face_score=0.1),
        'low_score': row('91/3_a.jpg', face_score=0.99),
        'gender_unknown': row('91/4_a.jpg', gender=NAN),
        'age_out_of_range': row('91/5_a.jpg', photo_taken=2051),
        'missing_file': row('91/6_a.jpg'),
        'unreadable_image': row('91/7_a.jpg'),
        'empty_file': row('91/8_a.jpg'),
        'too_small': row('91/9_a.jpg'),
        'one_colour': row('91/10_a.jpg'),
        'not_a_regular_file': row('91/11_a.jpg'),
        'unsafe_path': row('../91/12_a.jpg'),
        'repeated_path': dict(labelled[0]),
    }
    everything = [*rows, *labelled, *out.values()]
    grey = io.BytesIO()
    Image.new('L', (40, 40), 7).save(grey, 'JPEG')
    tiny = io.BytesIO()
    Image.open(io.BytesIO(jpeg(0))).crop((0, 0, 31, 48)).save(tiny, 'JPEG')
    files = {r['full_path']: jpeg(k) for k, r in enumerate([*rows, *labelled])}
    write_tar(
        tmp_path,
        'wiki',
        {
            'wiki.mat': mat_bytes('wiki', everything),
            **files,
            **{out[reason]['full_path']: jpeg(0) for reason in list(out)[:5]},
            '91/7_a.jpg': jpeg(0)[:-100],
            '91/8_a.jpg': b'',
            '91/9_a.jpg': tiny.getvalue(),
            '91/10_a.jpg': grey.getvalue(),
            '91/11_a.jpg': (tarfile.SYMTYPE, rows[0]['full_path'].rpartition('/')[2]),
        },
    )
    builder = prepare(tmp_path, tmp_path / 'data', 'imdb_wiki/wiki')
    counts = report(builder)
    assert counts == {'files': 76, 'kept': 63, 'dropped': dict.fromkeys(sorted(out), 1)}
    assert quarantined(builder) == {f'wiki/{r["full_path"]}': reason for reason, r in out.items()}
    examples = read_all(builder)
    assert set(examples) == {f'wiki/{r["full_path"]}' for r in (*rows, *labelled)}
    for r in (*rows, *labelled):
        example = examples[f'wiki/{r["full_path"]}']
        assert example['image'] == files[r['full_path']]
        assert example['age'] == age_of(r['dob'], r['photo_taken'])
        assert example['gender'] == 1 - r['gender']
    assert [examples[f'wiki/{r["full_path"]}']['age'] for r in labelled] == [39, 40, 0]
    assert 'tensorflow' not in sys.modules


def test_thresholds_are_parameters_and_part_of_the_name(tmp_path):
    odd = [
        row('90/1_a.jpg', face_score=0.5),
        row('90/2_a.jpg', second_face_score=2.0),
        row('90/3_a.jpg', photo_taken=2051),
        row('90/4_a.jpg', photo_taken=1980),
        row('90/5_a.jpg'),
    ]
    images = write_database(tmp_path, 'wiki', [*many_rows(), *odd])
    small = io.BytesIO()
    Image.open(io.BytesIO(jpeg(0))).crop((0, 0, 51, 20)).save(small, 'JPEG')
    images['90/5_a.jpg'] = small.getvalue()
    write_tar(tmp_path, 'wiki', {'wiki.mat': mat_bytes('wiki', [*many_rows(), *odd]), **images})
    builder = prepare(
        tmp_path,
        tmp_path / 'data',
        'imdb_wiki/wiki',
        min_face_score=0.25,
        max_second_face_score=2,
        min_side=20,
        min_age=31,
        max_age=101,
    )
    values = b'{"max_age":101.0,"max_second_face_score":2.0,"min_age":31.0,'
    values += b'"min_face_score":0.25,"min_side":20}'
    digest = hashlib.sha256(values).hexdigest()[:8]
    assert builder.info.full_name == f'imdb_wiki/wiki_{digest}/1.0.0'
    young = [r for r in [*many_rows(), *odd] if r['photo_taken'] < 1981]
    assert quarantined(builder) == {f'wiki/{r["full_path"]}': 'age_out_of_range' for r in young}
    assert quarantined(prepare(tmp_path, tmp_path / 'data', 'imdb_wiki/wiki')) == {
        'wiki/90/1_a.jpg': 'low_score',
        'wiki/90/2_a.jpg': 'second_face',
        'wiki/90/3_a.jpg': 'age_out_of_range',
        'wiki/90/5_a.jpg': 'too_small',
    }


def test_folder_and_archive_give_the_same_examples_in_the_same_order(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, 'SHARD_BYTES', 20_000)
    rows = many_rows(120)
    images = write_database(tmp_path / 'archive', 'wiki', rows)
    for name, content in images.items():
        path = tmp_path / 'folder/wiki_crop' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / 'folder/wiki.mat').write_bytes(mat_bytes('wiki', rows))
    builders = [
        prepare(tmp_path / kind, tmp_path / f'data_{kind}', 'imdb_wiki/wiki')
        for kind in ('archive', 'folder')
    ]
    for split in ('train', 'validation', 'test'):
        assert read(builders[0], split) == read(builders[1], split)
    lengths = builders[0].info.splits['train'].shard_lengths
    assert len(lengths) > 3
    assert sum(lengths) + len(read(builders[0], 'validation') + read(builders[0], 'test')) == 120
    ids = [example['id'] for example in read(builders[0], 'train')]
    assert ids != sorted(ids)


def people() -> dict[str, list[dict]]:
    """Two databases of 200 persons each, of whom 50 are in both; two photos a person."""
    born = datetime.date(1950, 1, 1)

    def photos(database: str, k: int, number: int) -> list[dict]:
        fields = {
            'name': f'Person {k}' if database == 'imdb' else f' person  {k}',
            'dob': datenum(born + datetime.timedelta(days=k)),
        }
        if database == 'imdb':
            fields['celeb_id'] = number
        stem = f'nm{number:07d}_rm' if database == 'imdb' else f'{number}_'
        return [row(f'{number % 100:02d}/{stem}{photo}_1990.jpg', **fields) for photo in 'ab']

    imdb = [r for k in range(200) for r in photos('imdb', k, 1 + k)]
    wiki = [r for k in range(150, 350) for r in photos('wiki', k, 90_000 + k)]
    # The same name, but born on another day: somebody else.
    wiki += [dict(row('99/5_1990.jpg'), name='Person 3')]
    return {'imdb': imdb, 'wiki': wiki}


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """The three configs prepared from the same two archives."""
    folder = tmp_path_factory.mktemp('both')
    for database, rows in people().items():
        write_database(folder, database, rows)
    return {
        name: prepare(folder, folder / 'data', f'imdb_wiki/{name}')
        for name in ('imdb', 'wiki', 'imdb_wiki')
    }


def test_people_of_both_databases_are_one_group_and_in_one_split(both):
    assert {name: len(read_all(builder)) for name, builder in both.items()} == {
        'imdb': 400,
        'wiki': 401,
        'imdb_wiki': 801,
    }
    groups = {name: split_of_groups(builder) for name, builder in both.items()}
    assert [len(groups[name]) for name in both] == [200, 201, 351]
    for found in groups.values():
        assert all(len(splits) == 1 for splits in found.values())
        assert {split for splits in found.values() for split in splits} == {
            'train',
            'validation',
            'test',
        }
    # So trained on one database a model may be tested on the other.
    assert groups['imdb'] | groups['wiki'] == groups['imdb_wiki']
    joined = read_all(both['imdb_wiki'])
    for k in (150, 199):
        of_person = [
            joined[name]
            for name in (
                f'imdb/{(k + 1) % 100:02d}/nm{k + 1:07d}_rma_1990.jpg',
                f'wiki/{k % 100:02d}/{90_000 + k}_b_1990.jpg',
            )
        ]
        assert of_person[0]['group'] == of_person[1]['group']
        assert [example['database'] for example in of_person] == [0, 1]


def part_of(builder):
    splits = ('train', 'validation', 'test')
    columns = {split: records.read_columns(builder, split) for split in splits}
    return parts.Part(builder.builder_config.name, builder, columns, {})


def different_images(builder):
    """Fingerprints as of images that have nothing in common."""
    ids = [np.array([e['id'].decode() for e in read(builder, s)]) for s in builder.info.splits]
    names = np.concatenate(ids)
    rng = np.random.default_rng(len(names))
    random = rng.integers(0, 2**63, (len(names), 5)).astype(np.uint64)
    described = rng.normal(size=(len(names), photographs.LENGTH)).astype(np.float16)
    return fingerprints.Fingerprints(names, random[:, 0], random[:, 1:], described)


def test_persons_of_two_configs_that_are_split_otherwise_are_found(both, monkeypatch):
    monkeypatch.setattr(fingerprints, 'of', different_images)
    folder = Path(both['wiki'].data_path).parents[3]
    fractions = {'train_fraction': 0.4, 'validation_fraction': 0.3}
    otherwise = prepare(folder, folder / 'data', 'imdb_wiki/wiki', **fractions)
    found = [part_of(both['imdb']), part_of(otherwise)]
    findings = shared.find(found)
    assert {finding.reason for finding in findings} == {'person'}
    groups = [{split: set(c['group']) for split, c in part.columns.items()} for part in found]
    for k, part in enumerate(found):
        gone = shared.masks(part, findings)
        other = groups[1 - k]
        later = {'train': other['validation'] | other['test'], 'validation': other['test']}
        for split, in_later in {**later, 'test': set()}.items():
            persons = groups[k][split] & in_later
            expected = np.isin(part.columns[split]['group'], list(persons))
            np.testing.assert_array_equal(gone[split], expected)
    assert sum(finding.dataset == 'imdb' for finding in findings) > 20
    # As they are split by default nobody is on both sides.
    assert shared.find([found[0], part_of(both['wiki'])]) == []


def test_nothing_outside_is_read(tmp_path, capsys):
    secret = jpeg(999)
    (tmp_path / 'secret.jpg').write_bytes(secret)
    rows = many_rows()
    evil = [
        row(str(tmp_path / 'secret.jpg'), name='a'),
        row('../secret.jpg', name='b'),
        row('00/../../secret.jpg', name='c'),
        row('00/link.jpg', name='d'),
        row('00/hard.jpg', name='e'),
        row('', name='f'),
    ]
    images = {r['full_path']: jpeg(k) for k, r in enumerate(rows)}
    content = mat_bytes('wiki', [*rows, *evil])
    write_tar(
        tmp_path / 'archive',
        'wiki',
        {
            'wiki.mat': content,
            **images,
            '../secret.jpg': secret,
            '/secret.jpg': secret,
            '00/link.jpg': (tarfile.SYMTYPE, '../../secret.jpg'),
            '00/hard.jpg': (tarfile.LNKTYPE, '../secret.jpg'),
        },
    )
    folder = tmp_path / 'folder/wiki_crop'
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)
    (folder / 'wiki.mat').write_bytes(content)
    (folder / '00/link.jpg').symlink_to('../../../secret.jpg')
    (folder / '00/hard.jpg').mkdir()
    for kind, of_link in (('archive', 'not_a_regular_file'), ('folder', 'unsafe_path')):
        builder = prepare(tmp_path / kind, tmp_path / f'data_{kind}', 'imdb_wiki/wiki')
        assert secret not in [example['image'] for example in read_all(builder).values()]
        assert quarantined(builder) == {
            **{f'wiki/{r["full_path"]}': 'unsafe_path' for r in (*evil[:3], evil[5])},
            'wiki/00/link.jpg': of_link,
            'wiki/00/hard.jpg': 'not_a_regular_file',
        }
    said = capsys.readouterr().out
    for member in ('../secret.jpg', '/secret.jpg', 'wiki_crop/00/link.jpg'):
        assert f'{member!r} is not read' in said
    assert 'nor are 1 others like these' in said


def test_what_is_missing_or_damaged_is_one_clear_error(tmp_path):
    def refuses(error: type[Exception], message: str) -> None:
        builder = datasets.create_builder('imdb_wiki/wiki', str(tmp_path / 'data'))
        with pytest.raises(error, match=message):
            datasets.prepare(builder, str(tmp_path))

    refuses(FileNotFoundError, r'is empty\. Get the faces .* docs/data\.md lists the files')
    (tmp_path / 'data').mkdir()
    refuses(FileNotFoundError, r'lacks wiki_crop\.tar and wiki_crop/; it holds data')
    images = {r['full_path']: jpeg(k) for k, r in enumerate(many_rows())}
    path = write_tar(tmp_path, 'wiki', images)
    refuses(FileNotFoundError, r'holds wiki\.mat \(missing_file\)')
    (tmp_path / 'wiki.mat').write_bytes(mat_bytes('wiki', many_rows())[:900])
    refuses(ValueError, r'wiki\.mat is not the metadata of wiki as published')
    (tmp_path / 'wiki.mat').write_bytes(mat_bytes('imdb', many_rows()))
    refuses(ValueError, r"wiki\.mat is not the metadata of wiki .*KeyError: 'wiki'")
    (tmp_path / 'wiki.mat').write_bytes(mat_bytes('wiki', [row('0/1_a.jpg', face_score=0.0)]))
    refuses(
        ValueError,
        r'none of its images can be used: low_score 1; the first low_score is wiki/0/1_a\.jpg$',
    )
    path.write_bytes(path.read_bytes()[:10_000])
    refuses(ValueError, r'wiki_crop\.tar \(10000 bytes\) is truncated, damaged or compressed')
    assert not list((tmp_path / 'data').rglob('*.array_record*'))


@pytest.fixture(scope='module')
def real_rows(shared_data):
    """The real metadata, read by the test itself: a dict of columns."""
    path = shared_data / 'imdb_wiki/wiki.mat'
    if not path.exists():
        pytest.skip(f'no real metadata: {path} does not exist')
    struct = scipy.io.loadmat(str(path))['wiki'][0, 0]
    columns = {name: struct[name][0] for name in struct.dtype.names}
    columns['full_path'] = [cell[0] for cell in columns['full_path']]
    return path, columns


def test_labels_of_a_sample_of_the_real_rows(real_rows, tmp_path):
    path, columns = real_rows
    ages = [
        age_of(dob, int(taken))
        for dob, taken in zip(columns['dob'], columns['photo_taken'], strict=True)
    ]
    passing = [
        k
        for k, age in enumerate(ages)
        if 0 <= age <= 100
        and columns['face_score'][k] >= 1
        and not columns['second_face_score'][k] > 0
        and not math.isnan(columns['gender'][k])
    ]
    assert len(passing) == 38_138
    sample = np.random.default_rng(0).choice(passing, 150, replace=False).tolist()
    damaged, good = sample[:10], sample[10:]
    files = {columns['full_path'][k]: jpeg(k) for k in sample}
    files |= {columns['full_path'][k]: jpeg(k)[:500] for k in damaged}
    # One that the filter leaves out.
    left_out = ages.index(next(age for age in ages if age > 100))
    files[columns['full_path'][left_out]] = jpeg(0)
    write_tar(tmp_path, 'wiki', {'wiki.mat': path.read_bytes(), **files})
    builder = prepare(tmp_path, tmp_path / 'data', 'imdb_wiki/wiki')
    examples = read_all(builder)
    assert examples.keys() == {f'wiki/{columns["full_path"][k]}' for k in good}
    for k in good:
        example = examples[f'wiki/{columns["full_path"][k]}']
        assert example['age'] == ages[k]
        assert example['gender'] == {0: 1, 1: 0}[int(columns['gender'][k])]
        assert example['image'] == jpeg(k)
    counts = report(builder)
    assert counts['files'] == 62_328
    assert counts['kept'] == 140
    assert counts['dropped']['unreadable_image'] == 10
    assert counts['dropped']['missing_file'] == 38_138 - 150
    assert sum(counts['dropped'].values()) == 62_328 - 140
