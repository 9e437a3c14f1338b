import numpy as np
import pytest

from hybrid.scores import rows
from tools import heads


def made(predicted, **columns):
    return rows.create(
        {
            'id': ['b', 'a'],
            'age': [30, 20],
            'gender': [1, 0],
            'predicted_age': predicted,
            'female_probability': [0.9, 0.8],
            'constant_age': [25, 25],
            'constant_gender': [0, 0],
            **columns,
        }
    )


def test_scores_of_a_head_are_compared_example_by_example():
    single = heads.example_scores(made([31, 26]).by_id())
    # In the order of the ids: a, b.
    np.testing.assert_array_equal(single['age/mae'], [6, 1])
    np.testing.assert_array_equal(single['age/cs5'], [0, 1])
    np.testing.assert_array_equal(single['gender/accuracy'], [0, 1])
    for name in ('median_age/mae', 'age/crps'):
        np.testing.assert_array_equal(single[name], single['age/mae'])
    spread = heads.example_scores(made([33, 24], age_crps=[2, 3]).by_id(), made([30, 22]).by_id())
    np.testing.assert_array_equal(spread['age/mae'], [4, 3])
    np.testing.assert_array_equal(spread['median_age/mae'], [2, 0])
    np.testing.assert_array_equal(spread['age/crps'], [3, 2])
    first = [single, single]
    found = {
        'mse': heads.compare(first, first),
        'dex': heads.compare([spread, single], first),
    }
    assert found['dex']['scores']['age/crps'] == [2.5, 3.5]
    # a: from 6 to (4 + 6) / 2, b: from 1 to (3 + 1) / 2.
    assert found['dex']['difference']['age/mae'] == pytest.approx((0, -1, 1))
    table = heads.heads_table({'64 px': {k: v | {'runs': ['x', 'y']} for k, v in found.items()}})
    assert table[2].startswith('| **64 px** |')
    assert table[3].startswith('| `mse` | 3.50 | 3.50 | 50.0 | 3.50 | 50.0 | 2 |')
    assert table[4].startswith('| `dex` | 3.50; +0.00 (-1.00 to +1.00) | 2.25; ')
