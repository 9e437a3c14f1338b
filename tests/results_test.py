import json

import numpy as np
import pytest

from hybrid import report, workdir
from results import compare, record, table

SESSIONS = [
    {
        'started': '2026-01-01T00:00:00+00:00',
        'first_step': 0,
        'command': 'python launch.py --config=configs/a.py --workdir=/x/runs,/r/b --d=/s/w.npz',
        'commit': 'abc',
        'machine': '2 cores of X',
        'versions': {'jax': '1'},
    },
    {'ended': '2026-01-01T00:10:00+00:00', 'seconds': 600.0},
]


def rows(ages, predicted, genders, female, **more):
    return {
        'id': [f'face {k}' for k in range(len(ages))],
        'age': np.float32(ages),
        'gender': np.array(genders),
        'predicted_age': np.float32(predicted),
        'female_probability': np.float32(female),
        'constant_age': np.full(len(ages), 30, np.float32),
        'constant_gender': np.zeros(len(ages), int),
        **more,
    }


@pytest.fixture
def folder(tmp_path):
    """A workdir of a run whose errors are 1, 3, 0 and 4 years, one gender of four wrong."""
    run = tmp_path / 'run'
    run.mkdir()
    config = {'seed': 3, 'data': {'dataset': 'd', 'manual_dir': '/secret'}}
    (run / 'config.json').write_text(json.dumps(config))
    (run / 'dataset.json').write_text(json.dumps({'name': 'd', 'splits': {}}))
    (run / 'sessions.jsonl').write_text('\n'.join(map(json.dumps, SESSIONS)) + '\n')
    validation = {'step': 5, 'epoch': 1.0, 'validation/age/mae': 2.5}
    lines = [{'step': 4, 'train/loss': 1.0}, validation]
    (run / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
    test = run / 'evaluation' / 'test'
    predictions = rows([20, 30, 40, 50], [21, 33, 40, 46], [0, 1, 0, 1], [0.1, 0.9, 0.2, 0.3])
    report.write_report(predictions, test, 'title')
    workdir.write_json(test / 'evaluation.json', {'step': 5})
    return run


def test_a_record_holds_where_the_figures_come_from_and_no_machine_key(folder):
    kept = record.record(folder, folder)
    assert '/s/' not in kept['command']
    assert kept['command'].startswith('python launch.py --config=configs/a.py ')
    assert kept['command'].endswith(' --d=w.npz')
    assert (kept['commit'], kept['seconds'], kept['started']) == ('abc', 600.0, 1)
    assert kept['config'] == {'seed': 3, 'data.dataset': 'd'}
    assert kept['validation_curve'] == [{'step': 5, 'epoch': 1.0, 'validation/age/mae': 2.5}]
    assert kept['splits']['test']['metrics']['age/mae'] == 2.0
    assert 'face 0' not in json.dumps(kept)


def test_time_of_a_run_that_was_killed_is_not_known():
    killed = SESSIONS[:1] + SESSIONS
    described = record.describe_sessions(killed)
    assert (described['started'], described['seconds']) == (2, None)


def test_the_table_shows_what_the_files_hold(folder, tmp_path):
    shown = {'table': 'utkface', 'label': 'CNN', 'order': 1, 'remark': 'shared'}
    (tmp_path / 'results').mkdir()
    content = json.dumps(shown | record.record(folder, folder))
    (tmp_path / 'results' / 'a.json').write_text(content)
    readme = 'Before\n<!-- results: utkface -->\nold\n<!-- end -->\nAfter\n'
    new = table.render(readme, tmp_path / 'results')
    constant, model, *paper = new.splitlines()[4:-2]
    assert constant.startswith(
        '| constant predictor | 10.00 | 150.0 | 12.25 | 25.0 | 50.0 | 50.0 |'
    )
    # Squared errors 1, 9, 0 and 16; all within 5 years; 46 and 50 are of one group, as the rest.
    assert model.startswith('| CNN | 2.00 (')
    assert ' | 6.5 | 2.55 | 100.0 | 100.0 | 75.0 (' in model
    # One of two women is found, and nobody else taken for one.
    assert model.endswith(
        ' | 0.667 | 1.000 | 0.500 | `abc`, seed 3, 2 cores of X (shared), 10 min |'
    )
    assert [line.split(' | ')[1] for line in paper] == ['4.30', '4.25']
    assert table.render(new, tmp_path / 'results') == new
    with pytest.raises(ValueError, match="'coral'"):
        table.render(readme.replace('utkface', 'coral'), tmp_path / 'results')


def test_a_comparison_is_paired_by_id():
    a = rows([20, 30, 40], [21, 31, 41], [0, 1, -1], [0.1, 0.9, 0.9])
    b = rows([20, 30, 40], [23, 35, 40], [0, 1, -1], [0.9, 0.9, 0.9])
    turned = {name: np.asarray(column)[::-1] for name, column in b.items()}
    scores = compare.compare({n: np.asarray(c) for n, c in a.items()}, turned)
    assert scores['age/mae'] == pytest.approx(1 - 8 / 3)
    assert (scores['gender/accuracy'], scores['gender/accuracy_num_examples']) == (0.5, 2)
    assert scores['age/mae_ci95_low'] <= scores['age/mae'] <= scores['age/mae_ci95_high']
    turned['age'] = turned['age'] + 1
    with pytest.raises(ValueError, match='age differs'):
        compare.compare({n: np.asarray(c) for n, c in a.items()}, turned)


def test_readme_shows_what_results_hold():
    readme = table.README.read_text()
    assert table.render(readme, table.FOLDER) == readme
