import numpy as np
import pytest

from hybrid.scores import comparison
from hybrid.scores.rows import create
from tests.finished_run import rows


def test_a_comparison_is_paired_by_id():
    a = rows([20, 30, 40], [21, 31, 41], [0, 1, -1], [0.1, 0.9, 0.9])
    b = rows([20, 30, 40], [23, 35, 40], [0, 1, -1], [0.9, 0.9, 0.9])
    turned = b.take(np.array([2, 1, 0]))
    scores = comparison.compare([a], [turned])
    assert scores['age/mae'] == pytest.approx(1 - 8 / 3)
    assert (scores['gender/accuracy'], scores['gender/accuracy_num_examples']) == (0.5, 2)
    assert scores['age/mae_ci95_low'] <= scores['age/mae'] <= scores['age/mae_ci95_high']
    other = create({**b, 'age': b['age'] + 1})
    with pytest.raises(ValueError, match='age differs'):
        comparison.compare([a], [other])


def test_of_several_runs_each_example_counts_with_the_mean_error():
    ages, genders = [20, 30], [0, 1]
    a, b, c = (
        rows(ages, predicted, genders, female)
        for predicted, female in (
            ([21, 31], [0.1, 0.9]),
            ([17, 30], [0.9, 0.9]),
            ([24, 32], [0.9, 0.1]),
        )
    )
    # Errors 1, 1 and 3, 0, in the mean 2 and 0.5, less 4 and 2; right are 2 and 1 of 2, less none.
    scores = comparison.compare([a, b], [c])
    assert (scores['age/mae'], scores['gender/accuracy']) == (-1.75, 0.75)
    assert (scores['age/mae_ci95_low'], scores['age/mae_ci95_high']) == (-2.0, -1.5)


def test_what_one_run_does_not_predict_is_left_out():
    a = rows([20, 30], [21, 31], [0, 1], [0.1, 0.9])
    b = rows([20, 30], [np.nan, np.nan], [0, 1], [0.9, 0.9])
    scores = comparison.compare([a], [b])
    assert scores['gender/accuracy'] == 0.5
    assert 'age/mae' not in scores


def test_ages_that_are_ranges_are_compared_by_their_own_error():
    columns = rows([np.nan, 30], [25, 31], [0, 1], [0.1, 0.9])
    ranges = {'age_min': np.array([20, 30], np.float32), 'age_max': np.array([22, 30], np.float32)}
    a, b = (
        create({**columns, **ranges, 'predicted_age': np.array(p, np.float32)})
        for p in ([25, 31], [24, 30])
    )
    scores = comparison.compare([a], [b])
    assert (scores['age/interval_error'], scores['age/mae']) == (1.0, 1.0)
    assert scores['age/interval_error_num_examples'] == scores['age/mae_num_examples'] == 1
