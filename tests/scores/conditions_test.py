import csv
import io

import numpy as np
import pytest

from hybrid.scores import conditions, rows

AGES = [20.0, 30.0, 40.0, 50.0, np.nan]
GENDERS = [0, 1, 0, 1, -1]


def make(errors, female):
    ages = np.array(AGES)
    return rows.create(
        {
            'id': [str(k) for k in range(5)],
            'age': AGES,
            'gender': GENDERS,
            'predicted_age': np.where(np.isnan(ages), 33, ages) + errors,
            'female_probability': female,
            'constant_age': [30] * 5,
            'constant_gender': [0] * 5,
        }
    )


@pytest.fixture
def scores():
    clean = make([1, -1, 2, 0, 0], [0.1, 0.9, 0.2, 0.8, 0.5])
    blurred = make([3, -3, 2, 4, 0], [0.1, 0.2, 0.2, 0.8, 0.5])
    cases = [
        conditions.Case(conditions.CLEAN, '', 0.0, clean),
        conditions.Case('blur', 'pixels', 1.0, blurred),
        conditions.Case('blur', 'pixels', 2.0, make([9] * 5, [0.9] * 5)),
        conditions.Case('blur', 'pixels', 3.0, blurred),
    ]
    return [score for case in cases for score in conditions.score(clean, case)]


def test_scores_of_all_and_of_each_gender(scores):
    assert [row['group'] for row in scores] == ['all', 'female', 'male'] * 4
    clean, women, men, blurred, blurred_women, blurred_men = scores[:6]
    assert clean['age/mae'] == 1.0
    assert clean['age/bias'] == 0.5
    assert (women['age/mae'], men['age/mae']) == (0.5, 1.5)
    assert (clean['gender/accuracy'], clean['age/mae_minus_clean']) == (1.0, 0.0)
    assert (clean['age/num_examples'], women['gender/num_examples']) == (4, 2)
    assert (blurred['age/mae'], blurred['age/mae_minus_clean']) == (3.0, 2.0)
    assert blurred['age/mae_minus_clean_ci95_low'] >= 0.5
    assert blurred['age/mae_minus_clean_ci95_high'] <= 3.5
    assert (blurred_women['age/mae_minus_clean'], blurred_men['age/mae_minus_clean']) == (3.0, 1.0)
    assert blurred['gender/accuracy_minus_clean'] == -0.25
    assert blurred_women['gender/accuracy_minus_clean'] == -0.5
    assert blurred_men['gender/accuracy_minus_clean'] == 0.0


def test_what_the_training_has_seen_is_left_out():
    clean = make([1, -1, 2, 0, 0], [0.1, 0.9, 0.2, 0.8, 0.5])
    columns = dict(clean.columns) | {'leak': [False, False, True, False, False]}
    clean = rows.create(columns)
    score = conditions.score(clean, conditions.Case(conditions.CLEAN, '', 0.0, clean))[0]
    assert score['age/mae'] == pytest.approx(2 / 3)


def test_csv_holds_every_score(scores):
    lines = list(csv.DictReader(io.StringIO(conditions.to_csv(scores))))
    assert len(lines) == 12
    assert tuple(lines[0]) == conditions.COLUMNS
    assert (lines[3]['condition'], lines[3]['strength'], lines[3]['age/mae']) == ('blur', '1', '3')


def test_the_table_has_a_line_for_each_condition(scores):
    table = conditions.format_table(scores, 'faces, test')
    ages, genders = (line for line in table.splitlines() if line.startswith('  blur  '))
    assert ages.split() == ['blur', '1.00', '|', '3.00', '9.00', '3.00', '|', '+8.50', '+7.50']
    assert genders.split() == ['blur', '100.0', '|', '75.0', '50.0', '75.0', '|', '+0.0', '-100.0']
    assert 'blur (pixels): 1, 2, 3' in table
    assert max(map(len, table.splitlines())) <= 100


def test_of_a_model_that_predicts_no_ages_only_genders_are_shown(tmp_path):
    clean = make([np.nan] * 5, [0.1, 0.9, 0.2, 0.8, 0.5])
    cases = [conditions.Case(name, 'x', 1.0, clean) for name in (conditions.CLEAN, 'blur')]
    scores = [score for case in cases for score in conditions.score(clean, case)]
    table = conditions.format_table(scores)
    assert 'age/mae' not in table
    assert 'gender/accuracy' in table
    assert conditions.to_csv(scores).splitlines()[1].startswith('clean,x,1,all,0,,,')
    conditions.plot(scores, tmp_path / 'a.png')


def test_the_picture_has_panels_of_both_for_each_condition(scores, tmp_path):
    conditions.plot(scores, tmp_path / 'a.png', 'faces')
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
