"""A finished run as its workdir keeps it, made by hand for the tests of tools/."""

import json
from typing import Any

import numpy as np

from hybrid import files
from hybrid.scores import report
from hybrid.scores.rows import create

SESSIONS: list[dict[str, Any]] = [
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
CONFIG: dict[str, Any] = {
    'seed': 3,
    'data': {'dataset': 'd', 'validation_split': 'validation', 'test_split': 'test'},
    'evaluate': {'flip_average': False, 'age_estimate': 'mean', 'scales': ()},
    'loss': 'mse',
}


def rows(ages, predicted, genders, female):
    columns = {
        'id': [f'face {k}' for k in range(len(ages))],
        'age': np.float32(ages),
        'gender': np.array(genders),
        'predicted_age': np.float32(predicted),
        'female_probability': np.float32(female),
        'constant_age': np.full(len(ages), 30, np.float32),
        'constant_gender': np.zeros(len(ages), int),
    }
    return create(columns)


def make(run):
    """Fills the workdir of a run whose errors are 1, 3, 0 and 4 years, one gender of four wrong."""
    run.mkdir()
    config = CONFIG | {'data': CONFIG['data'] | {'manual_dir': '/secret'}}
    (run / 'config.json').write_text(json.dumps(config))
    files.write_json(run / 'dataset.json', {'splits': {'test': {'sha256': 'a'}}})
    (run / 'sessions.jsonl').write_text('\n'.join(map(json.dumps, SESSIONS)) + '\n')
    validation = {'step': 5, 'epoch': 1.0, 'validation/age/mae': 2.5}
    lines = [{'step': 4, 'train/loss': 1.0}, validation]
    (run / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
    test = run / 'evaluation' / 'test'
    predictions = rows([20, 30, 40, 50], [21, 33, 40, 46], [0, 1, 0, 1], [0.1, 0.9, 0.2, 0.3])
    report.write_report(predictions, test, 'title')
    files.write_json(test / 'evaluation.json', {'checkpoint': 'best', 'flip_average': False})
