import types
from typing import cast

import numpy as np
import pytest
import tensorflow_datasets as tfds

from hybrid.data import input_pipeline, records, split_names


@pytest.mark.parametrize(
    ('split', 'key', 'message'),
    [
        ('tset', '', "has no split 'tset'; it has test, train, validation$"),
        ('', '', "has no split ''; it has"),
        ('train+tset', '', r"has no split 'tset' \(of 'train\+tset'\)"),
        ('train+', '', r"has no split '' \(of 'train\+'\)"),
        ('tset', 'config.data.test_split', '^config.data.test_split=tset: .*; set --.*split=test$'),
        ('fold0', 'config.data.train_split', 'set --config.data.train_split to one of them, or to'),
        ('x', 'config.data.test_split', r'several joined by \+, or --config.data.test_split= for'),
        (
            'train[',
            '',
            r"split 'train\[' is no split, nor splits joined by \+, nor a slice such as",
        ),
        ('train[90:]', '', r"split 'train\[90:\]' is no split"),
        ('train[:0]', '', r"split 'train\[:0\]' holds no example"),
    ],
)
def test_wrong_names_say_what_there_is_and_which_key_asks(tiny_builder, split, key, message):
    with pytest.raises(ValueError, match=message) as error:
        split_names.check(tiny_builder, split, key)
    assert '\n' not in str(error.value)


def test_what_others_call_validation_is_proposed():
    splits = dict.fromkeys(('train', 'val', 'test'))
    info = types.SimpleNamespace(splits=splits, full_name='face_csv/v/1.0.0')
    builder = cast(tfds.core.DatasetBuilder, types.SimpleNamespace(info=info))
    key = 'config.data.validation_split'
    with pytest.raises(ValueError, match=f'has test, train, val; set --{key}=val$'):
        split_names.check(builder, 'validation', key)


def test_joined_splits_hold_the_examples_of_their_parts(tiny_builder):
    ids = {
        split: records.read_columns(tiny_builder, split)['id'].tolist()
        for split in ('train', 'test', 'test+validation', 'train[:10] + test')
    }
    assert len(ids['test+validation']) == 41 + 23
    assert sorted(ids['train[:10] + test']) == sorted(ids['train'][:10] + ids['test'])
    batches = input_pipeline.evaluation_batches(
        tiny_builder, 'test+validation', batch_size=16, resize_size=8
    )
    assert sum(batch['mask'].sum() for batch in batches) == 64
    for split in ('test+test', 'train[:50%]+train[25%:]'):
        with pytest.raises(ValueError, match=r'more than once, such as .*none in common'):
            records.read_columns(tiny_builder, split)


def test_names_mean_the_same_in_any_order():
    assert split_names.same('fold1+fold0', 'fold0 + fold1')
    assert not split_names.same('fold0', 'fold0+fold1')


def test_splits_that_share_examples_are_refused():
    columns = {
        'train': {'id': np.array(['a', 'b', 'c'])},
        'validation': {'id': np.array(['d', 'b', 'c'])},
        'test': {'id': np.array(['e'])},
    }
    with pytest.raises(ValueError, match="'train' and 'validation' share 2 examples, such as 'b'"):
        split_names.check_disjoint(columns)
    del columns['validation']
    split_names.check_disjoint(columns)
