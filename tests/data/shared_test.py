from pathlib import Path

import numpy as np
import pytest

from hybrid import default_config
from hybrid.data import fingerprints, parts, shared
from tests import two_datasets


@pytest.fixture(scope='module')
def both(two_datasets_dir):
    config = default_config.get_config()
    config.data.dataset, config.data.data_dir = 'face_csv/a,face_csv/b', str(two_datasets_dir)
    return parts.open_all(config)


@pytest.fixture(scope='module')
def findings(both):
    return shared.find(both)


def test_what_is_in_a_test_or_validation_split_of_the_other_dataset_is_found(findings):
    assert [finding[:7] for finding in findings] == two_datasets.LEFT_OUT
    measures = {finding.reason: finding.measure for finding in findings}
    assert 0 <= measures['near_duplicate'] <= shared.MAX_DISTANCE
    assert 0.93 <= measures['photograph'] <= 1
    assert measures['bytes'] is measures['group'] is None


def test_the_order_of_the_datasets_does_not_matter(both, findings):
    assert shared.find(both[::-1]) == findings


def test_nothing_is_left_out_of_a_test_split_and_the_rest_is_joined(both, findings):
    kept = [part.leave_out(shared.masks(part, findings)) for part in both]
    gone = {
        (part.name, split): sorted(part.columns[split]['id'][mask].tolist())
        for part in kept
        for split, mask in part.left_out.items()
    }
    assert gone == {
        ('face_csv/a', 'train'): ['a40.jpg', 'a41.jpg'],
        ('face_csv/a', 'validation'): ['a42.jpg'],
        ('face_csv/a', 'test'): [],
        ('face_csv/b', 'train'): ['b0.jpg', 'b40.jpg'],
        ('face_csv/b', 'validation'): ['b42.jpg'],
        ('face_csv/b', 'test'): [],
    }
    columns = parts.join(kept)
    assert {split: len(c['id']) for split, c in columns.items()} == {
        'train': 21 + 15,
        'validation': 6 + 5,
        'test': 7 + 6,
    }
    train = columns['train']
    is_b = np.char.startswith(train['id'], 'b')
    assert (train['gender'][is_b] == -1).all()
    assert np.isnan(train['age'][is_b]).all()
    assert (train['age_max'] - train['age_min'])[is_b].tolist() == [9] * 15
    assert (train['age_max'] == train['age_min'])[~is_b].all()


def test_it_is_said_how_many_are_left_out_and_why(both, findings):
    assert shared.summarize(both, findings) == [
        'face_csv/a train: 2 of 23 examples are left out for what is in face_csv/b test, '
        'face_csv/b validation (1 the same file, 1 the same photograph, cut in another way)',
        'face_csv/a validation: 1 of 7 examples are left out for what is in face_csv/b test (1 a '
        'near-duplicate)',
        'face_csv/b train: 2 of 17 examples are left out for what is in face_csv/a test (1 the '
        'same photograph, cut in another way, 1 the group of one that is left out)',
        'face_csv/b validation: 1 of 6 examples are left out for what is in face_csv/a test (1 '
        'the same photograph, cut in another way)',
    ]
    assert shared.summarize(both, []) == [
        'the datasets have nothing in common that would have to be left out'
    ]


def test_a_split_of_which_nothing_is_left_is_an_error(both):
    everything = {split: np.ones(len(c['id']), bool) for split, c in both[0].columns.items()}
    with pytest.raises(ValueError, match="face_csv/a: nothing is left of split 'train': other"):
        both[0].leave_out(everything)


def test_no_photograph_is_looked_for_among_drawn_faces(both, monkeypatch):
    one, other = map(shared.rows_of, both)
    assert list(shared.same_photographs(one, other))
    monkeypatch.setattr(type(both[0].builder), 'DRAWN', True, raising=False)
    assert not list(shared.same_photographs(one, other))


def test_persons_are_compared_where_groups_mean_the_same():
    mine, role = np.array(['x', 'y', 'z', 'x', 'u']), np.array([0, 0, 1, 2, 0])
    theirs, other_role = np.array(['x', 'z', 'u', 'y']), np.array([0, 0, 0, 2])
    # The row of the one, that of the other; the lower role of the two has to go.
    pairs = sorted(shared.equal(mine, theirs, role, other_role))
    assert pairs == [(1, 3), (2, 1), (3, 0)]


def test_fingerprints_are_made_once_and_kept_beside_the_dataset(both, monkeypatch):
    builder = both[0].builder
    first = fingerprints.of(builder)
    assert len(first.id) == 37
    monkeypatch.setattr(fingerprints, '_make', lambda _: pytest.fail('made again'))
    for before, now in zip(first, fingerprints.of(builder), strict=True):
        np.testing.assert_array_equal(before, now)
    some = first.take(np.array(['a44.jpg', 'a3.jpg']))
    assert some.id.tolist() == ['a44.jpg', 'a3.jpg']
    for unknown in ('a00.jpg', 'z.jpg'):
        with pytest.raises(ValueError, match=f'{unknown} is not in fingerprints.npz, which is of '):
            first.take(np.array(['a3.jpg', unknown]))
    twice = fingerprints.Fingerprints(*(np.concatenate([one, one[:1]]) for one in first))
    assert twice.take(first.id).id.tolist() == first.id.tolist()
    twice.bytes[-1] += 1
    with pytest.raises(ValueError, match=f"has several images with the id '{first.id[0]}'"):
        twice.take(first.id)


def test_damaged_fingerprints_are_made_anew_and_need_not_be_kept(both, monkeypatch, caplog):
    builder = both[1].builder
    first, path = fingerprints.of(builder), Path(builder.data_path, fingerprints.FILE)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])

    def refuse(*_, **__):
        raise PermissionError('read-only')

    with monkeypatch.context() as patch:
        patch.setattr(fingerprints.np, 'savez', refuse)
        np.testing.assert_array_equal(fingerprints.of(builder).hash, first.hash)
        patch.setattr(fingerprints, '_make', lambda _: pytest.fail('made again'))
        np.testing.assert_array_equal(fingerprints.of(builder).hash, first.hash)
    assert path.read_bytes() == whole[:1000]
    np.testing.assert_array_equal(fingerprints.of(builder).bytes, first.bytes)
    assert path.stat().st_size == len(whole)
