import dataclasses

import numpy as np
import pytest

from hybrid.scores import rows
from tools import combine


def create(ages, probabilities, leak=None):
    columns = {
        'id': np.array(['b', 'a', 'c']),
        'age': np.array([30, np.nan, 50], np.float32),
        'gender': np.array([1, 0, -1]),
        'predicted_age': np.array(ages, np.float32),
        'female_probability': np.array(probabilities, np.float32),
        'constant_age': np.full(3, 29, np.float32),
        'constant_gender': np.zeros(3, np.int64),
    }
    if leak is not None:
        columns['leak'] = np.array(leak)
    return rows.create(columns)


def test_ages_and_probabilities_are_averaged_example_by_example():
    one = create([20, 30, 40], [0.5, 0.25, 0.75], [True, False, False])
    other = create([30, 50, 40], [1, 0.25, 0.5], [False, False, True]).take(np.array([2, 0, 1]))
    found = combine.combine([one, other, create([10, 10, 10], [0, 1, 1])])
    assert found['id'].tolist() == ['a', 'b', 'c']
    assert found['predicted_age'].tolist() == [30, 20, 30]
    assert found['female_probability'].tolist() == [0.5, 0.5, 0.75]
    assert found['leak'].tolist() == [False, True, True]
    assert 'leak' not in combine.combine([create([1, 2, 3], [0, 0, 0])])


def test_other_examples_and_other_labels_are_refused():
    one = create([20, 30, 40], [0.5, 0.25, 0.75])
    for name in ('age', 'constant_age'):
        changed = dict(one) | {name: one[name] + 1}
        other = dataclasses.replace(one, columns=changed)
        with pytest.raises(ValueError, match='evaluated on different examples, or trained on oth'):
            combine.combine([one, other])
