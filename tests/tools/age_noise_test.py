import numpy as np
import pytest

from hybrid.scores import intervals, rows
from tools import age_noise


def made(age, predicted, width):
    count = len(age)
    return rows.create(
        {
            'id': [f'{k:04}' for k in range(count)],
            'age': age,
            'gender': np.zeros(count),
            'predicted_age': predicted,
            'female_probability': np.full(count, 0.5),
            'constant_age': np.full(count, 40),
            'constant_gender': np.zeros(count),
            'age_width': width,
        }
    )


def test_widths_are_compared_with_noise_and_error_together():
    predicted = np.full(3 * intervals.SMALLEST, 50.0)
    # Two thirds of the labels are 2 years off, the others 9: 68.27 % reach into these.
    off = np.where(np.arange(len(predicted)) % 3 < 2, 2.0, 9.0)
    validation = made(predicted + off, predicted, np.full(len(predicted), 4.0))
    # Of the test, 90 years lie outside of what counts. Errors of 4 against the true ages.
    test = made([54, 46, 20], [50, 50, 50], [3, 4, 9])
    true = made([46, 54, 90], [50, 50, 50], [3, 4, 9])
    found = age_noise.check(3.0, validation, test, true)
    assert found['faces'] == 2
    assert found['right'] == pytest.approx(5)
    assert found['learned'] == pytest.approx(np.sqrt(12.5))
    assert found['absolute'] == 9
    assert found['scaled'] == pytest.approx(9 / 4 * 3.5)
    with pytest.raises(ValueError, match='not of the same faces'):
        age_noise.check(3.0, validation, test.take(np.array([0, 1])), true)
    assert '| `dex` | 4.00 | 5.00 | 3.54 (-29.3 %) | 9.00 (+80.0 %) |' in '\n'.join(
        age_noise.age_noise_table({'dex': found})
    )
