import math

import numpy as np

from hybrid.scores import outcomes

NAN = float('nan')


def test_half_is_male():
    assert outcomes.is_female(np.array([0.5, 0.51, 0, 1])).tolist() == [False, True, False, True]
    assert outcomes.is_female(np.nextafter(np.float32(0.5), np.float32(1)))
    right = outcomes.is_right(np.array([0.5, 0.5, 0.7, 0.7, 0.7]), np.array([0, 1, 1, 0, -1]))
    assert right.tolist() == [True, False, True, False, False]


def test_errors_are_in_float64_and_nan_where_the_age_is_unknown():
    predicted, age = np.array([20.1, 30, 5], np.float32), np.array([21, 30.5, NAN], np.float32)
    error = outcomes.age_error(predicted, age)
    assert error.dtype == np.float64
    np.testing.assert_array_equal(error[:2], [float(np.float32(20.1)) - 21, -0.5])
    assert math.isnan(error[2])
    np.testing.assert_array_equal(outcomes.absolute_age_error(predicted, age), np.abs(error))


def test_an_age_or_a_range_as_text():
    said = [outcomes.age_text(*ends) for ends in ((25, 25), (0.5, 2), (70, np.inf))]
    assert said == ['25', '0.5-2', '70+']


def test_the_mean_of_nothing_is_undefined():
    assert outcomes.mean(np.array([True, False, False, True])) == 0.5
    assert math.isnan(outcomes.mean(np.array([])))
