import numpy as np

from hybrid.scores import suspects
from tests.finished_run import rows

NAN = np.nan


def test_errors_count_by_what_is_usual_at_the_predicted_age():
    # 120 children who are read to half a year, 120 adults who are read to four years.
    age = np.concatenate([np.full(120, 4.0), np.full(120, 50.0)])
    predicted = np.concatenate([np.full(120, 4.5), np.full(120, 54.0)])
    predicted[0] = 9.1  # 5.1 years off, where half a year is usual, which counts as one
    predicted[1] = 8.9
    predicted[120] = 71.0  # 21 years off, 5.25 times four
    predicted[121] = 30.1  # 19.9 years off
    age[122] = NAN
    gender = np.zeros(240, int)
    probability = np.full(240, 0.1)
    probability[[7, 8, 9]] = 0.96, 0.94, 0.99
    gender[10], probability[10] = 1, 0.01
    gender[9] = -1
    found = suspects.find([rows(age, predicted, gender, probability)])
    assert [(s.id, s.what, s.label, s.predicted) for s in found] == [
        ('face 120', 'age', '50', '71.0'),
        ('face 0', 'age', '4', '9.1'),
        ('face 10', 'gender', 'female', 'male'),
        ('face 7', 'gender', 'male', 'female'),
    ]
    np.testing.assert_allclose([s.suspicion for s in found], (5.25, 5.1, 0.99, 0.96), rtol=1e-6)
    assert suspects.to_csv(found[:1]) == (
        'id,what,label,predicted,suspicion\nface 120,age,50,71.0,5.250\n'
    )


def test_an_age_outside_of_its_range_is_suspected():
    # Errors of 11, 0, 10, 2, 2, 2 and 1 years, one that is unknown, and six more of 0. The usual
    # one is 2: that most ranges are met makes nobody suspicious.
    predicted = [40.0, 75.0, 60.0, 31.0, 68.0, 18.0, 30.0, 30.0, *[25.0] * 6]
    low = [20, 70, 70, 20, 70, 20, 20, NAN, *[20] * 6]
    high = [29, np.inf, np.inf, 29, np.inf, 29, 29, NAN, *[29] * 6]
    table = rows([NAN] * 14, predicted, [-1] * 14, [0.5] * 14)
    found = suspects.find([table.replace({'age_min': low, 'age_max': high})])
    assert [(s.id, s.label, s.suspicion) for s in found] == [
        ('face 0', '20-29', 5.5),
        ('face 2', '70+', 5.0),
    ]


def test_nothing_is_suspected_where_nothing_is_known():
    assert suspects.find([rows([NAN], [40.0], [-1], [0.5])]) == []
    assert suspects.to_csv([]) == 'id,what,label,predicted,suspicion\n'
