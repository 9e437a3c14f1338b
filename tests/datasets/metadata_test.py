import datetime

import numpy as np
import pytest

from hybrid.datasets import splits
from hybrid.datasets.imdb_wiki import metadata
from tests.imdb_wiki_archive import datenum, mat_bytes, row

DEFAULTS = (1.0, 0.0, 0.0, 100.0)
FRACTIONS = {'train': 0.8, 'validation': 0.1, 'test': 0.1}


def test_age_is_that_of_mid_year():
    rng = np.random.default_rng(0)
    births = [datetime.date(1, 1, 1), datetime.date(1900, 2, 28), datetime.date(2000, 2, 29)]
    births += [datetime.date(1960, 6, 30), datetime.date(1960, 7, 1), datetime.date(1960, 12, 31)]
    births += [datetime.date.fromordinal(int(n)) for n in rng.integers(1, 740_000, 500)]
    taken = rng.integers(1850, 2015, len(births))
    expected = [
        year - birth.year - (1 if birth.month >= 7 else 0)
        for birth, year in zip(births, taken, strict=True)
    ]
    ordinals = np.array([birth.toordinal() for birth in births])
    assert metadata.age_at(ordinals, taken).tolist() == expected


def test_fields_are_read_with_their_odd_values():
    rows = [
        row('05/77_a_b.jpg', gender=1.0, name=''),
        row('06/78_a_b.jpg', dob=100, photo_taken=2000, gender=float('nan')),
    ]
    found = metadata.read_metadata(mat_bytes('wiki', rows), 'wiki')
    assert found.path.tolist() == ['05/77_a_b.jpg', '06/78_a_b.jpg']
    assert found.gender.tolist() == [0, -1]
    assert found.person.tolist() == ['77', '78']
    assert found.name.tolist() == ['', 'Jane Roe']
    assert found.age.tolist() == [40, 1999]  # A birth date before the year 1 counts as its first.
    assert found.birth.tolist() == [datetime.date(1950, 3, 2).toordinal(), 1]
    one = metadata.read_metadata(mat_bytes('imdb', [row('a.jpg', celeb_id=12)]), 'imdb')
    assert (one.person.tolist(), one.gender.tolist(), len(one.path)) == (['12'], [1], 1)


def test_persons_are_joined_by_id_and_by_name_and_birth_date():
    day = datenum(datetime.date(1960, 5, 5))
    wiki = [
        row('1_a.jpg', name='Ann Lee', dob=day),
        row('1_b.jpg', name='Ann  LEE', dob=day),
        row('2_a.jpg', name='ann lee', dob=day),  # the same, with another id
        row('3_a.jpg', name='Ann Lee', dob=day + 1),  # somebody else
        row('4_a.jpg', name='', dob=day),
        row('5_a.jpg', name='', dob=day),  # nobody knows
    ]
    imdb = [
        row('nm1_a.jpg', name='Ann Lee', dob=day, celeb_id=4),
        row('nm1_b.jpg', name='A. Lee', dob=day, celeb_id=4),
        row('nm2_b.jpg', name='Bo', dob=day, celeb_id=1),
    ]
    databases = {
        name: metadata.read_metadata(mat_bytes(name, rows), name)
        for name, rows in (('wiki', wiki), ('imdb', imdb))
    }
    groups = metadata.group_persons(databases)
    numbers = np.unique(np.concatenate([groups['wiki'], groups['imdb']]), return_inverse=True)[1]
    assert [numbers.tolist().index(n) for n in numbers] == [0, 0, 0, 3, 4, 5, 0, 0, 8]


@pytest.fixture(scope='module')
def wiki(shared_data):
    path = shared_data / 'imdb_wiki/wiki.mat'
    if not path.exists():
        pytest.skip(f'no real metadata: {path} does not exist')
    return metadata.read_metadata(path, 'wiki')


def test_real_counts(wiki):
    assert len(wiki.path) == 62_328
    assert [(wiki.gender == k).sum() for k in (0, 1, -1)] == [47_063, 12_622, 2_643]
    assert np.isneginf(wiki.face_score).sum() == 18_016
    assert np.isnan(wiki.second_face_score).sum() == 58_232
    assert ((wiki.age < 0).sum(), (wiki.age > 100).sum()) == (1_288, 493)
    assert (wiki.age.min(), wiki.age.max()) == (-74, 1996)
    for score, count in ((1.0, 38_138), (-np.inf, 39_400), (3.0, 22_139)):
        reasons = metadata.refusals(wiki, score, *DEFAULTS[1:])
        assert (reasons == '').sum() == count
    reasons = metadata.refusals(wiki, *DEFAULTS)
    assert (reasons == 'no_face').sum() == 18_016
    assert set(np.unique(reasons)) == {
        *('', 'no_face', 'second_face', 'low_score', 'gender_unknown', 'age_out_of_range')
    }


def straddling(keys, split) -> int:
    pairs = set(zip(keys, split, strict=True))
    return len(pairs) - len(set(keys))


def assign(groups) -> np.ndarray:
    return np.array([splits.assign_split(group, FRACTIONS) for group in groups.tolist()])


def test_no_person_of_the_real_metadata_straddles_a_split(wiki):
    split = assign(metadata.group_persons({'wiki': wiki})['wiki'])
    persons = [path.rpartition('/')[2].split('_')[0] for path in wiki.path]
    assert straddling(persons, split) == 0
    named = wiki.name != ''
    names = list(zip(wiki.name[named].tolist(), wiki.birth[named].tolist(), strict=True))
    assert straddling(names, split[named]) == 0
    kept = metadata.refusals(wiki, *DEFAULTS) == ''
    assert [(split[kept] == name).sum() for name in FRACTIONS] == [30_349, 3_936, 3_853]

    # Half of these people in another database too, under ids of its own: still in one split, and
    # in the same as from that database alone.
    other = wiki._replace(
        database='imdb',
        path=np.char.add('nm', wiki.path),
        person=np.unique(wiki.person, return_inverse=True)[1].astype(str),
    )
    other = other._replace(
        **{name: column[::2] for name, column in other._asdict().items() if name != 'database'}
    )
    joined = metadata.group_persons({'imdb': other, 'wiki': wiki})
    for name, database in (('imdb', other), ('wiki', wiki)):
        named = database.name != ''
        alone = metadata.group_persons({name: database})[name]
        assert (alone[named] == joined[name][named]).mean() > 0.99
    split = np.concatenate([assign(joined['imdb']), assign(joined['wiki'])])
    named = np.concatenate([other.name, wiki.name]) != ''
    names = [
        *zip(other.name.tolist(), other.birth.tolist(), strict=True),
        *zip(wiki.name.tolist(), wiki.birth.tolist(), strict=True),
    ]
    names = [key for key, has_name in zip(names, named, strict=True) if has_name]
    assert straddling(names, split[named]) == 0
