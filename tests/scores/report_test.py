import json
import math

import numpy as np
import pytest

from hybrid.scores import metrics, predictions_csv, report, rows

FILES = {
    'predictions.csv',
    'metrics.json',
    'age_scatter.png',
    'age_error_by_band.png',
    'confusion_matrix.png',
    'calibration.png',
    'subgroups.csv',
    'subgroups.png',
    'thresholds.csv',
    'thresholds.png',
}


def table(size=40, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.uniform(0, 100, size).astype(np.float32)
    return {
        'id': [f'face, "{i}" é.jpg' for i in range(size)],
        'age': np.where(rng.random(size) < 0.2, np.nan, age),
        'gender': rng.integers(-1, 2, size),
        'predicted_age': (age + rng.normal(0, 7, size)).astype(np.float32),
        'female_probability': rng.random(size).astype(np.float32),
        'constant_age': np.full(size, 31.5),
        'constant_gender': np.ones(size, np.int64),
        'ethnicity': rng.choice(['white', 'black', ''], size),
        'leak': rng.random(size) < 0.2,
    }


def create(columns):
    return rows.create(columns, ['ethnicity'])


def as_json(scores):
    """JSON's view of the metrics, written out independently of the report."""
    return {name: None if value != value else value for name, value in scores.items()}


def refuse_constant(name):
    raise AssertionError(f'{name} is not JSON')


def test_report_can_be_recomputed_from_its_predictions(tmp_path):
    folder = tmp_path / 'evaluation' / 'test'
    scores = report.write_report(create(table()), folder, 'test')
    assert {path.name for path in folder.iterdir()} == FILES
    text = (folder / 'metrics.json').read_text()
    stored = json.loads(text, parse_constant=refuse_constant)
    recomputed = report.compute_metrics(
        predictions_csv.read_predictions(folder / 'predictions.csv')
    )
    assert stored == as_json(recomputed) == as_json(scores)
    assert list(stored) == sorted(stored)
    assert stored['num_examples'] == 40
    assert {type(stored[name]) for name in ('num_examples', 'age/num_examples')} == {int}
    assert 'without_leaks/age/mae' in stored


def test_predictions_csv_is_what_a_person_expects(tmp_path):
    columns = {
        'id': [b'a.jpg', b'b.jpg'],
        'age': [31, math.nan],
        'gender': [1, -1],
        'predicted_age': [30.1, 7],
        'female_probability': [0.9, 0.125],
        'constant_age': [29, 29],
        'constant_gender': [0, 0],
        'ethnicity': ['indian', ''],
        'leak': [False, True],
    }
    report.write_report(create(columns), tmp_path, 'two')
    assert (tmp_path / 'predictions.csv').read_text() == (
        'id,age,gender,predicted_age,female_probability,constant_age,constant_gender,ethnicity,leak\n'
        'a.jpg,31.0,female,30.1,0.9,29.0,male,indian,false\n'
        'b.jpg,,,7.0,0.125,29.0,male,,true\n'
    )


@pytest.mark.parametrize('leak', [False, True])
def test_table_shows_model_interval_and_constant(leak):
    columns = table(400)
    columns['leak'] = np.arange(400) < (7 if leak else 0)
    scores = metrics.compute_metrics(create(columns))
    text = report.format_table(scores, 'faces test')
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == 'faces test: 400 examples'
    mae = next(line.split() for line in lines if line.startswith('  mae '))
    names = ['age/mae', 'age/mae_ci95_low', 'age/mae_ci95_high', 'constant/age/mae']
    if leak:
        names += ['without_leaks/age/mae', 'without_leaks/constant/age/mae']
    assert [cell for cell in mae[1:] if cell != '..'] == [f'{scores[name]:.2f}' for name in names]
    accuracy = next(line for line in lines if line.startswith('  accuracy '))
    assert f'{100 * scores["gender/accuracy"]:.1f} %' in accuracy
    black = next(line for line in lines if 'by_ethnicity/black' in line)
    assert black.split()[1:3] == [
        str(scores['by_ethnicity/black/num_examples']),
        f'{scores["by_ethnicity/black/age/mae"]:.2f}',
    ]
    assert ('393 examples' in text) == leak


def test_table_shows_a_dash_for_what_is_undefined():
    columns = table() | {'age': np.full(40, np.nan)}
    text = report.format_table(metrics.compute_metrics(create(columns)))
    mae = next(line for line in text.splitlines() if line.startswith('  mae '))
    assert set(mae.split()[1:]) == {'-'}
    assert 'nan' not in text
