import json

import numpy as np
import pytest

from hybrid import default_config
from hybrid.modes import audit, suspects
from hybrid.scores.predictions_csv import write_predictions
from tests import finished_run
from tests.datasets.face_csv_test import write_faces
from tests.utkface_archive import jpeg, prepare


def audit_of(name, data_dir, manual_dir, output, **parameters):
    config = default_config.get_config()
    config.data.dataset = name
    config.data.data_dir, config.data.manual_dir = str(data_dir), str(manual_dir)
    config.data.parameters = parameters
    return audit.audit(config, output)


def shared(report, pair, relation):
    entry = report['straddling'][pair][relation]
    return entry['shared'], *entry['examples'].values()


@pytest.fixture(scope='module')
def leaking(tmp_path_factory):
    """A table whose splits leak in every way."""
    folder = tmp_path_factory.mktemp('leaking')
    rows: list[tuple] = [
        (jpeg(k), f'{k}.jpg', 10 + k, 'mf'[k % 2], 'train', f'p{k}') for k in range(20)
    ]
    rows += [(jpeg(k), f'{k}.jpg', '', '', 'val', f'p{k}') for k in range(20, 26)]
    rows += [(jpeg(k), f'{k}.jpg', 70, 'm', 'test', f'p{k}') for k in range(26, 30)]
    rows += [
        (jpeg(0), 'copy.jpg', 99, 'm', 'test', 'q0'),  # of 0.jpg, whose age is another
        (jpeg(1), 'same.jpg', 11, '', 'test', 'q1'),  # of 1.jpg, with the same labels
        (jpeg(1), 'same2.jpg', '', 'f', 'test', 'q2'),
        (jpeg(21, quality=60), 'near.jpg', 50, 'm', 'val', 'q3'),  # within one split
        (jpeg(2, quality=60), 'near2.jpg', 12, 'm', 'val', 'q4'),
        (jpeg(500), 'person.jpg', 12, 'm', 'val', 'p3'),
    ]
    manual_dir = write_faces(folder / 'mine', rows, 'path,age,gender,split,group')
    report = audit_of('face_csv/leaking', folder / 'data', manual_dir, folder / 'out')
    return report, folder / 'out'


def test_everything_that_straddles_is_counted(leaking):
    report, _ = leaking
    assert report['parts'] == []
    assert list(report['straddling']) == ['train, val', 'train, test', 'val, test']
    # Groups are the builder's own: persons joined with near-duplicates.
    assert shared(report, 'train, test', 'group') == (2, 2, 3)
    assert shared(report, 'train, test', 'bytes') == (2, 2, 3)
    assert shared(report, 'train, test', 'near_duplicate') == (2, 2, 3)
    assert shared(report, 'train, val', 'group') == (2, 2, 2)
    assert shared(report, 'train, val', 'bytes') == (0, 0, 0)
    assert shared(report, 'train, val', 'near_duplicate') == (1, 1, 1)
    assert report['straddling']['train, val']['near_duplicate']['some'] == {
        'train': ['2.jpg'],
        'val': ['near2.jpg'],
    }
    for relation in report['straddling']['val, test']:
        assert shared(report, 'val, test', relation) == (0, 0, 0)
        assert report['straddling']['train, val']['id']['shared'] == 0
    assert report['conflicts'] == {'groups': 1, 'examples': 2, 'some': ['0.jpg', 'copy.jpg']}


def test_labels_are_counted_by_split(leaking):
    labels = leaking[0]['labels']
    assert labels['train'] == {
        'examples': 20,
        'age': dict.fromkeys(
            ('0-2', '3-9', '30-39', '40-49', '50-59', '60-69', '70+', 'unknown'), 0
        )
        | {'10-19': 10, '20-29': 10},
        'gender': {'male': 10, 'female': 10, 'unknown': 0},
    }
    assert labels['val']['age']['unknown'] == 6
    assert labels['test']['gender'] == {'male': 5, 'female': 1, 'unknown': 1}


def test_report_is_text_json_and_a_picture(leaking):
    report, folder = leaking
    assert json.loads((folder / 'audit.json').read_text()) == report
    text = (folder / 'audit.txt').read_text()
    for line in (
        'audit of face_csv/leaking/1.0.0',
        '  2 byte-identical images: 2 in train, 3 in test',
        'val, test: share nothing',
        'byte-identical images with different labels: 1 groups, 2 examples',
        'The splits LEAK.',
    ):
        assert line in text.splitlines()
    assert (folder / 'audit.png').read_bytes()[:4] == b'\x89PNG'


def test_labels_that_look_wrong_to_a_model_are_listed_and_drawn(tiny_data_dir, tmp_path):
    config = default_config.get_config()
    config.data.dataset, config.data.data_dir = 'synthetic_faces/tiny', str(tiny_data_dir)
    (part,) = audit.open_datasets(config)
    labels = part.columns['test']
    female = np.where(labels['gender'] == 1, 0.9, 0.1)
    predicted = np.nan_to_num(labels['age'])
    one, other = np.flatnonzero(labels['age'] > 0)[0], np.flatnonzero(labels['gender'] >= 0)[-1]
    predicted[one] += 6
    female[other] = 1 - labels['gender'][other]
    table = finished_run.rows(labels['age'], predicted, labels['gender'], female).replace(
        {'id': labels['id']}
    )
    path = tmp_path / 'predictions.csv'
    # What the table says of the labels may be outdated.
    outdated = np.where(labels['age'] > 0, 80, labels['age'])
    table = table.replace({'age': outdated})
    write_predictions(table, path)
    report = audit.audit(config, tmp_path / 'out', [str(path)])
    assert report['suspects'] == {'age': 1, 'gender': 1}
    text = (tmp_path / 'out/audit.txt').read_text()
    assert 'labels that look wrong to the model: 1 of age and 1 of gender, in suspects.csv' in text
    lines = (tmp_path / 'out/suspects.csv').read_text().splitlines()
    assert [line.split(',')[0] for line in lines[1:]] == [labels['id'][one], labels['id'][other]]
    assert (tmp_path / 'out/suspects.png').read_bytes()[:4] == b'\x89PNG'

    suspects.write([], part, tmp_path / 'out')
    assert not (tmp_path / 'out/suspects.png').exists()
    with pytest.raises(ValueError, match='is there or in another file, too'):
        suspects.find([str(path), str(path)], part)
    with pytest.raises(IsADirectoryError, match=r'is a folder; name a table'):
        suspects.find([str(tmp_path)], part)

    write_predictions(table.replace({'id': ['x', *labels['id'][1:]]}), path)
    with pytest.raises(ValueError, match="'x' is no example of synthetic_faces/tiny"):
        audit.audit(config, tmp_path / 'out', [str(path)])
    config.data.dataset = 'synthetic_faces/tiny,synthetic_faces/tiny'
    with pytest.raises(ValueError, match='of one dataset'):
        audit.audit(config, tmp_path / 'out', [str(path)])


def test_drawn_faces_leak_nothing(tiny_data_dir, tmp_path, capsys):
    report = audit_of('synthetic_faces/tiny', tiny_data_dir, '', tmp_path)
    for pair in report['straddling'].values():
        assert {entry['shared'] for entry in pair.values()} == {0}
    assert report['max_hamming_distance'] == 16
    assert 'The splits leak nothing that was looked for.' in capsys.readouterr().out


def test_a_split_that_is_a_part_of_another_is_said_to_be_one():
    split = ['all', 'all', 'all', 'some', 'some', 'other']
    ids = ['a', 'b', 'c', 'a', 'b', 'd']
    columns = {
        'split': np.array(split),
        'id': np.array(ids),
        'group': np.array(ids),
        **dict.fromkeys(('age_min', 'age_max'), np.full(6, np.nan, np.float32)),
        'gender': np.full(6, -1),
        'bytes': np.array([1, 2, 3, 1, 2, 3], np.uint64),
        'hash': np.array([[1], [2**60], [3], [1], [2**60], [3]], np.uint64).repeat(4, 1),
    }
    found = audit.find_leaks(columns, 0)
    assert found['parts'] == [['some', 'all']]
    assert shared(found, 'all, other', 'bytes') == (1, 1, 1)
    assert shared(found, 'all, other', 'near_duplicate') == (1, 1, 1)
    assert shared(found, 'some, other', 'bytes') == (0, 0, 0)
    assert found['conflicts']['groups'] == 0
    # What is for testing is no part of anything; ids that begin anew say nothing.
    tested = audit.find_leaks(columns, 0, test_split='some')
    assert tested['parts'] == []
    assert shared(tested, 'all, some', 'id') == shared(tested, 'all, some', 'bytes') == (2, 2, 2)
    renumbered = audit.find_leaks(columns | {'bytes': np.arange(6, dtype=np.uint64)}, 0)
    assert renumbered['parts'] == []
    assert shared(renumbered, 'all, some', 'bytes') == (0, 0, 0)


def test_ranges_count_in_their_band_and_conflict_with_other_labels():
    columns = {
        'split': np.array(['train'] * 4 + ['test'] * 2),
        'id': np.array(list('abcdef')),
        'group': np.array(list('abcdef')),
        'age_min': np.array([20, 20, 25, np.nan, 70, 30], np.float32),
        'age_max': np.array([29, 29, 32, np.nan, np.inf, 30], np.float32),
        'gender': np.full(6, 1),
        # The same labels, another range, none; and 70+ beside 30.
        'bytes': np.array([1, 1, 1, 1, 2, 2], np.uint64),
        'hash': np.arange(24, dtype=np.uint64).reshape(6, 4),
    }
    assert audit.find_leaks(columns, 0)['conflicts']['groups'] == 2
    same = {name: column[[0, 1, 3]] for name, column in columns.items()}
    assert audit.find_leaks(same, 0)['conflicts']['groups'] == 0
    counts = {split: entry['age'] for split, entry in audit.count_labels(columns).items()}
    assert {k: v for k, v in counts['train'].items() if v} == {
        '20-29': 2,
        'across': 1,
        'unknown': 1,
    }
    assert {k: v for k, v in counts['test'].items() if v} == {'30-39': 1, '70+': 1}


@pytest.mark.slow  # Prepares and hashes UTKFace three times.
def test_real_utkface(shared_data, tmp_path):
    """The default split leaks photographs that are cut anew alone; the others leak more."""
    manual_dir = shared_data / 'utkface'
    for name in ('utkface', 'utkface/coral_21_60', 'utkface/random_80_20'):
        prepare(manual_dir, tmp_path / 'data', name)
    own = audit_of('utkface', tmp_path / 'data', manual_dir, tmp_path / 'own')
    assert list(own['straddling']) == ['train, validation', 'train, test', 'validation, test']
    photographs = [pair.pop('photograph')['shared'] for pair in own['straddling'].values()]
    assert photographs == [23, 15, 5]
    for pair in own['straddling'].values():
        assert {entry['shared'] for entry in pair.values()} == {0}
    assert own['conflicts']['groups'] == 0

    coral = audit_of('utkface/coral_21_60', tmp_path / 'data', manual_dir, tmp_path / 'coral')
    assert coral['parts'] == [['train_fit', 'train'], ['validation', 'train']]
    assert shared(coral, 'train, test', 'bytes')[::2] == (83, 84)
    assert shared(coral, 'train, test', 'group') == (179, 191, 184)
    assert shared(coral, 'train, test', 'photograph') == (204, 220, 209)
    within = coral['straddling']['train_fit, validation']
    assert {name: entry['shared'] for name, entry in within.items() if entry['shared']} == {
        'photograph': 8
    }

    naive = audit_of('utkface/random_80_20', tmp_path / 'data', manual_dir, tmp_path / 'naive')
    assert {split: n['examples'] for split, n in naive['labels'].items()} == {
        'train': 18_964,
        'test': 4_741,
    }
    assert shared(naive, 'train, test', 'bytes') == (127, 131, 130)
    assert shared(naive, 'train, test', 'group') == (299, 334, 308)
    assert shared(naive, 'train, test', 'near_duplicate') == (299, 334, 308)
    assert shared(naive, 'train, test', 'photograph')[::2] == (332, 342)
    assert (naive['conflicts']['groups'], naive['conflicts']['examples']) == (224, 458)


def test_several_datasets_are_audited_together(two_datasets_dir, tmp_path):
    report = audit_of('face_csv/a,face_csv/b', two_datasets_dir, '', tmp_path)
    assert report['dataset'] == 'face_csv/a/1.0.0, face_csv/b/1.0.0'
    assert len(report['straddling']) == 15
    pairs = {pair: report['straddling'][pair] for pair in report['straddling']}
    both = 'face_csv/a train, face_csv/b test'
    assert [shared(report, both, name)[0] for name in pairs[both]] == [0, 0, 1, 1, 1]
    both = 'face_csv/a test, face_csv/b train'
    assert [shared(report, both, name)[0] for name in pairs[both]] == [0, 0, 0, 0, 1]
    assert pairs[both]['photograph']['some'] == {
        'face_csv/a test': ['face_csv/a a26.jpg'],
        'face_csv/b train': ['face_csv/b b40.jpg'],
    }
    # Groups of the same name are others in another table, and within one nothing leaks.
    assert shared(report, 'face_csv/a train, face_csv/b test', 'group') == (0, 0, 0)
    assert {e['shared'] for e in pairs['face_csv/a train, face_csv/a test'].values()} == {0}
    assert report['labels']['face_csv/b train']['examples'] == 17
    assert 'The splits LEAK.' in (tmp_path / 'audit.txt').read_text()
