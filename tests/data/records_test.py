import hashlib

import numpy as np
import tensorflow_datasets as tfds

from hybrid.data import records


def test_columns_are_what_the_dataset_holds_in_its_order(tiny_builder):
    columns = records.read_columns(tiny_builder, 'validation')
    raw = {'image': tfds.decode.SkipDecoding()}
    examples = [*tiny_builder.as_data_source('validation', decoders=raw)]
    assert len(examples) == 23
    names = columns.keys() - {'age_min', 'age_max', 'image_digest'}
    assert names == examples[0].keys() - {'image'}
    assert names >= {'id', 'age', 'gender', 'group'}
    assert columns['id'].tolist() == [one['id'].decode() for one in examples]
    for name in ('age', 'gender'):
        np.testing.assert_array_equal(columns[name], [one[name] for one in examples])
    np.testing.assert_array_equal(columns['age_min'], columns['age'])
    np.testing.assert_array_equal(columns['age_max'], columns['age'])
    digests = [hashlib.sha256(one['image']).digest()[:8] for one in examples]
    assert columns['image_digest'].tolist() == [int.from_bytes(one, 'big') for one in digests]
