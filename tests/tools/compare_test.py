import numpy as np
import pytest

from hybrid.scores.rows import create
from tests.finished_run import rows
from tools import compare, kept, record


def test_a_comparison_is_paired_by_id():
    a = rows([20, 30, 40], [21, 31, 41], [0, 1, -1], [0.1, 0.9, 0.9])
    b = rows([20, 30, 40], [23, 35, 40], [0, 1, -1], [0.9, 0.9, 0.9])
    turned = b.take(np.array([2, 1, 0]))
    scores = compare.compare([a], [turned])
    assert scores['age/mae'] == pytest.approx(1 - 8 / 3)
    assert (scores['gender/accuracy'], scores['gender/accuracy_num_examples']) == (0.5, 2)
    assert scores['age/mae_ci95_low'] <= scores['age/mae'] <= scores['age/mae_ci95_high']
    other = create({**b, 'age': b['age'] + 1})
    with pytest.raises(ValueError, match='age differs'):
        compare.compare([a], [other])


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
    scores = compare.compare([a, b], [c])
    assert (scores['age/mae'], scores['gender/accuracy']) == (-1.75, 0.75)
    assert (scores['age/mae_ci95_low'], scores['age/mae_ci95_high']) == (-2.0, -1.5)


def test_runs_are_compared_by_workdir_or_by_the_name_of_kept_predictions(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(kept, 'RESULTS', tmp_path)
    made = folder / 'evaluation/test/predictions.csv'
    assert compare.find_predictions(str(folder), 'test') == made
    record.copy_predictions(folder, ['test'], 'a')
    copied = tmp_path / 'predictions/a.test.csv'
    assert compare.find_predictions('a', 'test') == copied
    assert copied.read_bytes() == made.read_bytes()
    with pytest.raises(ValueError, match=r'neither a/evaluation/train/predictions.csv nor .*/a\.t'):
        compare.find_predictions('a', 'train')
