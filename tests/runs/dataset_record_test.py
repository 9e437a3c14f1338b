import hashlib
import json

import numpy as np
import pytest

import hybrid
from hybrid import files
from hybrid.runs import dataset_record


def columns(ids, age, gender):
    return {'id': np.array(ids), 'age': np.array(age, np.float32), 'gender': np.array(gender)}


def test_dataset_record_holds_the_constant_predictor_of_the_training_split():
    nan = float('nan')
    record = dataset_record.describe(
        'faces/default/1.0.0',
        {
            'train': columns(list('dabc'), [20, nan, 50, 31], [1, 1, -1, 0]),
            'test': columns(list('xy'), [90, 90], [0, 0]),
        },
        'train',
    )
    assert record == {
        'name': 'faces/default/1.0.0',
        'geometry': {'geometry': 'as_given'},
        'constant_age': 31.0,
        'constant_gender': 1,
        'splits': {
            'train': {
                'num_examples': 4,
                'sha256': hashlib.sha256(b'a nan 1\nb 50.0 -1\nc 31.0 0\nd 20.0 1').hexdigest(),
            },
            'test': {
                'num_examples': 2,
                'sha256': hashlib.sha256(b'x 90.0 0\ny 90.0 0').hexdigest(),
            },
        },
    }
    assert json.loads(json.dumps(record)) == record


def test_dataset_record_without_known_labels():
    train = {'train': columns(['a', 'b'], [float('nan')] * 2, [-1, -1])}
    record = dataset_record.describe('faces', train, 'train')
    assert (record['constant_age'], record['constant_gender']) == (None, -1)


def test_examples_hash_depends_on_ids_and_labels_and_not_on_their_order():
    base = columns(['b', 'a', 'ä'], [1, 2, float('nan')], [0, 1, -1])
    turned = {name: values[::-1] for name, values in base.items()}
    assert dataset_record.examples_hash(base) == dataset_record.examples_hash(turned)
    others = [
        columns(['b', 'a', 'c'], [1, 2, float('nan')], [0, 1, -1]),
        columns(['b', 'a', 'ä'], [2, 1, float('nan')], [0, 1, -1]),
        columns(['b', 'a', 'ä'], [1, 2, float('nan')], [1, 0, -1]),
        columns(['b', 'a'], [1, 2], [0, 1]),
    ]
    hashes = {dataset_record.examples_hash(x) for x in [base, *others]}
    assert len(hashes) == 5
    # What it was before ages could be ranges.
    text = 'a 2.0 1\nb 1.0 0\nä nan -1'
    assert dataset_record.examples_hash(base) == hashlib.sha256(text.encode()).hexdigest()
    bounds = {'age_min': base['age'], 'age_max': base['age']}
    assert dataset_record.examples_hash(base | bounds) == dataset_record.examples_hash(base)
    ranges = [
        {'age_min': np.array([1, 2, low]), 'age_max': np.array([1, 2, high])}
        for low, high in ((20, 29), (20, np.inf), (3, 29))
    ]
    assert len({dataset_record.examples_hash(base | x) for x in ranges} | hashes) == 8


def begin(folder):
    (folder / 'checkpoints' / '3').mkdir(parents=True)


def test_other_examples_than_at_the_start_are_refused_once_there_is_a_checkpoint(tmp_path):
    def record(name='faces/default/1.0.0', **ids):
        splits = {
            split: columns(list(members), [1.0] * len(members), [0] * len(members))
            for split, members in ids.items()
        }
        return dataset_record.describe(name, splits, 'train')

    dataset_record.check_continues(tmp_path, record(train='abc', test='xy'))
    dataset_record.save(tmp_path, record(train='abc', test='xy'))
    dataset_record.check_continues(tmp_path, record(train='abd', test='xyz'))
    begin(tmp_path)
    dataset_record.check_continues(tmp_path, record(train='cba', test='yx'))
    dataset_record.check_continues(tmp_path, record(train='abc'))  # a run without the test split
    with pytest.raises(ValueError, match=r"split 'test' .* had 2 examples .* has 3"):
        dataset_record.check_continues(tmp_path, record(train='abc', test='xyz'))
    with pytest.raises(ValueError, match=r"'train' .* had 3 .* has 3, and they or their labels"):
        dataset_record.check_continues(tmp_path, record(train='abd', test='xy'))
    with pytest.raises(ValueError, match=r'began with faces/default/1\.0\.0, not other/1'):
        dataset_record.check_continues(tmp_path, record('other/1', train='abc', test='xy'))
    expected = {**record(train='abc', test='xy'), 'hybrid_version': hybrid.__version__}
    assert dataset_record.load(tmp_path) == expected


def test_other_images_under_the_same_ids_and_labels_are_refused(tmp_path, caplog):
    labels = columns(['b', 'a'], [1, 2], [0, 1])

    def record(digests, pictures='', order=1):
        split = labels | {'image_digest': np.array(digests, np.uint64)}
        split = {name: values[::order] for name, values in split.items()}
        return dataset_record.describe('faces', {'train': split}, 'train') | {'pictures': pictures}

    begin(tmp_path)
    expected = hashlib.sha256(f'a {2:016x}\nb {1:016x}'.encode()).hexdigest()
    assert record([1, 2])['splits']['train']['images'] == expected
    # A run that does not know its images goes on.
    dataset_record.save(tmp_path, dataset_record.describe('faces', {'train': labels}, 'train'))
    dataset_record.check_continues(tmp_path, record([1, 2]))
    dataset_record.save(tmp_path, record([1, 2], 'p'))
    for same in (record([1, 2], 'q'), record([1, 2], order=-1), record([3, 4], 'p')):
        dataset_record.check_continues(tmp_path, same)
    for other in (record([1, 3], 'q'), record([2, 1], 'q')):
        with pytest.raises(ValueError, match=r"dataset.json: split 'train' of faces had other ima"):
            dataset_record.check_continues(tmp_path, other)
    cut_otherwise = record([3, 4], 'p') | {'geometry': {'geometry': 'other'}}
    with pytest.raises(ValueError, match=r'had other image files .* Take another --workdir'):
        dataset_record.check_continues(tmp_path, cut_otherwise)
    # What they were made of is not known, as of drawn faces.
    assert not caplog.records
    dataset_record.save(tmp_path, record([1, 2]))
    dataset_record.check_continues(tmp_path, record([1, 3]))
    assert 'if they show other pictures, take another --workdir' in caplog.text


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'splits': ['test']}, r"'splits' is \['test'\]"),
        ({'splits': {'test': 5}}, "the split 'test' is 5"),
        ({'constant_age': '30'}, "'constant_age' is '30'"),
        ({'datasets': [{'name': 5}]}, "'name' is 5"),
        ({'datasets': [7]}, 'a dataset is 7'),
        ({'geometry': None}, "'geometry' is None"),
    ],
)
def test_a_record_of_a_dataset_with_other_types_is_damaged(tmp_path, change, message):
    record = {'name': 'a', 'constant_age': None, 'datasets': [{'name': 'b'}]}
    files.write_json(tmp_path / 'dataset.json', record)
    found = dataset_record.load(tmp_path)
    assert found == record
    for one in (found, found['datasets'][0]):
        with pytest.raises(ValueError, match=f"{tmp_path}/dataset.json .* it lacks 'splits'; put"):
            one['splits']
    files.write_json(tmp_path / 'dataset.json', record | change)
    with pytest.raises(ValueError, match=f'{tmp_path}/dataset.json is damaged: {message}; put'):
        dataset_record.load(tmp_path)
