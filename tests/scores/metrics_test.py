import math
import time

import numpy as np
import pytest

from hybrid.scores import metrics, rows

NAN = float('nan')


def table():
    """Ten rows with six known ages and eight known genders.

    Age errors 1, 1.5, -3, -10, -0.5, 10.5. Male: 3 as male, 2 as female; female: 1 as male, 2 as
    female. Every metric has another value.
    """
    return {
        'id': list('abcdefghij'),
        'age': [2, 12, 25, 40, 60, 70, NAN, NAN, NAN, NAN],
        'gender': [0, 1, 1, 1, 0, -1, 0, 0, -1, 0],
        'predicted_age': [3, 13.5, 22, 30, 59.5, 80.5, 50, 20, 20, 20],
        'female_probability': [0.2, 0.9, 0.5, 0.51, 0.7, 0.9, 0.1, 0.8, 0.1, 0.3],
        'constant_age': [30] * 10,
        'constant_gender': [1] * 10,
        'ethnicity': ['white', 'white', 'black', 'black', 'black', '', 'white', '', '', ''],
    }


def random_table(size, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 100, size).astype(np.float32)
    return {
        'id': [f'{i:06d}' for i in range(size)],
        'age': np.where(rng.random(size) < 0.1, np.nan, age),
        'gender': rng.integers(-1, 2, size),
        'predicted_age': (age + rng.normal(0, 7, size)).astype(np.float32),
        'female_probability': rng.random(size).astype(np.float32),
        'constant_age': np.full(size, 35.0),
        'constant_gender': np.zeros(size, np.int64),
        'ethnicity': rng.choice(['white', 'black'], size),
    }


def compute(columns):
    """The metrics of columns, of which these name subgroups."""
    subgroups = [name for name in ('ethnicity', 'camera') if name in columns]
    return metrics.compute_metrics(rows.create(columns, subgroups))


def assert_scores(scores, expected, rel=1e-12):
    actual = {name: scores[name] for name in expected}
    assert actual == pytest.approx(expected, rel=rel, abs=rel, nan_ok=True)


def test_age_metrics_have_hand_computed_values():
    expected = {
        'num_examples': 10,
        'age/num_examples': 6,
        'age/mae': 26.5 / 6,
        'age/mse': 222.75 / 6,
        'age/rmse': math.sqrt(222.75 / 6),
        'age/bias': -0.5 / 6,
        'age/cs3': 4 / 6,  # -3 counts.
        'age/cs5': 4 / 6,
        'age/cs10': 5 / 6,  # -10 counts, 10.5 does not.
        'age/group_accuracy_five_bin': 5 / 6,  # All but 13.5 for 12.
        'age/group_accuracy_fairface9': 3 / 6,  # All but 3 for 2, 30 for 40 and 59.5 for 60.
    }
    assert_scores(compute(table()), expected)


def test_gender_metrics_have_hand_computed_values():
    expected = {
        'gender/num_examples': 8,
        'gender/confusion/male_as_male': 3,
        'gender/confusion/male_as_female': 2,
        'gender/confusion/female_as_male': 1,  # A probability of 0.5 is male.
        'gender/confusion/female_as_female': 2,
        'gender/accuracy': 5 / 8,
        'gender/balanced_accuracy': (3 / 5 + 2 / 3) / 2,
        'gender/precision_female': 2 / 4,
        'gender/recall_female': 2 / 3,
        'gender/f1_female': 4 / 7,
        'gender/precision_male': 3 / 4,
        'gender/recall_male': 3 / 5,
        'gender/f1_male': 6 / 9,
    }
    scores = compute(table())
    assert_scores(scores, expected)
    assert isinstance(scores['gender/confusion/male_as_male'], int)


def test_constant_predictor_has_hand_computed_values():
    # Errors 28, 18, 5, -10, -30, -40; everybody is female.
    expected = {
        'constant/age/mae': 131 / 6,
        'constant/age/mse': 3733 / 6,
        'constant/age/rmse': math.sqrt(3733 / 6),
        'constant/age/bias': -29 / 6,
        'constant/age/cs3': 0,
        'constant/age/cs5': 1 / 6,
        'constant/age/cs10': 2 / 6,
        'constant/age/group_accuracy_five_bin': 1 / 6,
        'constant/age/group_accuracy_fairface9': 0,
        'constant/gender/accuracy': 3 / 8,
        'constant/gender/balanced_accuracy': 1 / 2,
        'constant/gender/precision_female': 3 / 8,
        'constant/gender/recall_female': 1,
        'constant/gender/f1_female': 6 / 11,
        'constant/gender/precision_male': NAN,
        'constant/gender/recall_male': 0,
        'constant/gender/f1_male': 0,
    }
    assert_scores(compute(table()), expected)


def test_subgroups_have_hand_computed_values():
    expected = {
        'by_gender/female/num_examples': 3,
        'by_gender/female/age/mae': 14.5 / 3,
        'by_gender/female/age/bias': -11.5 / 3,
        'by_gender/female/gender/accuracy': 2 / 3,
        'by_gender/male/num_examples': 5,
        'by_gender/male/age/num_examples': 2,
        'by_gender/male/age/mae': 0.75,
        'by_age/0-12/age/mae': 1.25,
        'by_age/13-25/age/bias': -3,
        'by_age/26-40/age/mae': 10,
        'by_age/41-60/gender/accuracy': 0,
        'by_age/61+/age/mae': 10.5,
        'by_age/61+/num_examples': 1,
        'by_age/61+/gender/num_examples': 0,
        'by_age/61+/gender/accuracy': NAN,
        'by_ethnicity/white/num_examples': 3,
        'by_ethnicity/white/age/num_examples': 2,
        'by_ethnicity/white/age/mae': 1.25,
        'by_ethnicity/white/gender/accuracy': 1,
        'by_ethnicity/black/age/bias': -4.5,
        'by_ethnicity/black/gender/accuracy': 1 / 3,
    }
    scores = compute(table() | {'camera': ['x'] * 9 + ['y']})
    assert_scores(scores, expected)
    assert scores['by_camera/x/num_examples'] == 9
    assert not [name for name in scores if name.startswith('by_ethnicity//')]


def test_leaks_are_left_out_beside_the_whole_table():
    leak = np.isin(table()['id'], ['a', 'c'])
    scores = compute(table() | {'leak': leak})
    # Left: age errors 1.5, -10, -0.5, 10.5, constant 18, -10, -30, -40; 4 of 6 genders.
    expected = {
        'age/mae': 26.5 / 6,
        'without_leaks/num_examples': 8,
        'without_leaks/age/num_examples': 4,
        'without_leaks/age/mae': 22.5 / 4,
        'without_leaks/constant/age/mae': 98 / 4,
        'without_leaks/gender/accuracy': 4 / 6,
    }
    assert_scores(scores, expected)
    assert 'by_leak/True/num_examples' not in scores
    without = compute(table() | {'leak': np.zeros(10, bool)})
    assert without.keys() == compute(table()).keys()


def test_age_groups_are_half_open():
    ages = np.array([-3, 12.99, 13, 25.99, 26, 40.99, 41, 60.99, 61, 116])
    assert metrics.age_group(ages, 'five_bin').tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    ages = np.array([0, 2.9, 3, 9.9, 10, 20, 30, 40, 50, 60, 69.9, 70])
    assert metrics.age_group(ages, 'fairface9').tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 7, 8]
    assert metrics.age_group_names('five_bin') == ['0-12', '13-25', '26-40', '41-60', '61+']
    assert metrics.age_group_names('fairface9')[:3] == ['0-2', '3-9', '10-19']


def test_nothing_known_gives_nan_without_a_warning():
    columns = table() | {'age': [NAN] * 10, 'gender': [-1] * 10}
    scores = compute(columns)
    assert scores['num_examples'] == 10
    assert scores['age/num_examples'] == scores['gender/num_examples'] == 0
    names = ('age/mae', 'age/rmse', 'age/mae_ci95_low', 'gender/accuracy', 'gender/f1_female')
    assert all(math.isnan(scores[name]) for name in names)
    empty = compute({name: [] for name in table()})
    assert empty['num_examples'] == 0


def test_unknown_constant_predictor_is_nan():
    columns = table() | {'constant_age': [NAN] * 10, 'constant_gender': [-1] * 10}
    scores = compute(columns)
    assert math.isnan(scores['constant/age/mae'])
    assert math.isnan(scores['constant/gender/accuracy'])
    assert scores['age/mae'] == pytest.approx(26.5 / 6)


def test_order_of_rows_has_no_effect():
    columns = {name: np.array(column) for name, column in random_table(200).items()}
    order = np.random.default_rng(1).permutation(200)
    shuffled = {name: column[order] for name, column in columns.items()}
    assert_scores(compute(shuffled), compute(columns), rel=0)


def test_bootstrap_interval_has_the_width_of_the_normal_one():
    columns = random_table(2000)
    scores = compute(columns)
    assert_scores(compute(columns), scores, rel=0)
    known = ~np.isnan(columns['age'])
    error = np.abs(columns['predicted_age'][known] - columns['age'][known])
    accuracy = scores['gender/accuracy']
    deviation = {
        'age/mae': error.std() / math.sqrt(known.sum()),
        'age/cs5': (error <= 5).std() / math.sqrt(known.sum()),
        'gender/accuracy': math.sqrt(
            accuracy * (1 - accuracy) / scores['gender/num_examples'],
        ),
    }
    for name, sigma in deviation.items():
        low, high = scores[f'{name}_ci95_low'], scores[f'{name}_ci95_high']
        assert (high - low) / 2 == pytest.approx(1.96 * sigma, rel=0.1)
        assert (high + low) / 2 == pytest.approx(scores[name], abs=0.3 * float(sigma))
    for name in ('age/rmse', 'age/bias', 'gender/balanced_accuracy', 'gender/f1_female'):
        assert scores[f'{name}_ci95_low'] < scores[name] < scores[f'{name}_ci95_high']


def test_bootstrap_of_5000_rows_takes_less_than_two_seconds():
    columns = random_table(5000)
    start = time.perf_counter()
    compute(columns)
    assert time.perf_counter() - start < 2
