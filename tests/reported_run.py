"""Finished runs as their workdirs keep them, made by hand, with names that mean harm."""

import json

import numpy as np

from hybrid import files
from hybrid.scores import predictions_csv, report, rows, subgroups

EVIL = '<script>alert(1)</script>'
# An id that would be a formula in a spreadsheet, and one that would be markup.
IDS = ['=1+1|cmd', '<img src=x onerror=alert(2)>', *(f'face {k}.jpg' for k in range(78))]
NAME = '<script>alert(3)'
DATASET = f'face_csv/{NAME}/1.0.0'
CONFIG = {
    'seed': 3,
    'data': {
        'dataset': f'face_csv/{NAME}',
        'manual_dir': '/home/alice/faces',
        'validation_split': 'validation',
        'test_split': 'test',
        'image_size': 96,
    },
    'init_from': '/home/alice/runs/before@best',
    'model': {'encoder': {'name': 'resnet18'}, 'recurrent': {'cell': 'gru'}},
    'evaluate': {'flip_average': True},
}
COMMAND = (
    'python launch.py --config=quickstart --workdir /home/alice/runs/a '
    "--config.data.manual_dir=/home/alice/faces '--config.init_from=/home/alice/runs/before@best' "
    '--coordinator=alices-machine:123 --config.train.num_epochs=2'
)
SESSIONS = [
    {
        'started': '2026-01-01T00:00:00+00:00',
        'first_step': 0,
        'command': COMMAND,
        'commit': 'abc123',
        'machine': '2 cores of X',
        'versions': {'hybrid': '9.9', 'jax': '1'},
    },
    {'ended': '2026-01-01T00:10:00+00:00', 'seconds': 600.0},
]
SPLITS = {
    'train': {'num_examples': 900, 'sha256': 'ab' * 32},
    'test': {'num_examples': len(IDS), 'sha256': 'cd' * 32},
}
RECORD = {
    'name': DATASET,
    'constant_age': 30.0,
    'constant_gender': 0,
    'splits': SPLITS,
    'hybrid_version': '9.9',
}


def columns(seed=0, members=0):
    """Columns of an evaluation; ids in the first two rows have the largest errors."""
    rng = np.random.default_rng(seed)
    size = len(IDS)
    age = np.random.default_rng(5).uniform(5, 60, size).astype(np.float32)
    predicted = age + rng.normal(0, 3, size)
    predicted[:2] += 40
    gender = np.arange(size) % 2
    female = np.clip(0.2 + 0.6 * gender + rng.normal(0, 0.2, size), 0.01, 0.99)
    found = {
        'id': IDS,
        'age': age,
        'gender': gender,
        'predicted_age': predicted,
        'female_probability': female,
        'constant_age': np.full(size, 30.0),
        'constant_gender': np.zeros(size, int),
        'age_low': predicted - 5,
        'age_high': predicted + 5,
        'ethnicity': np.where(np.arange(size) < 40, f'{EVIL}|', 'white'),
    }
    for k in range(members):
        found[f'member_{k}_age'] = predicted + k
        found[f'member_{k}_female_probability'] = female
    if members:
        found |= {'age_std': np.ones(size), 'gender_agreement': np.ones(size)}
    return found


def evaluate(folder, found, about=None, best=None):
    """Writes what an evaluation writes, but for its pictures, of which there is a small one."""
    folder.mkdir(parents=True)
    table = rows.create(found, ['ethnicity'] if 'ethnicity' in found else [])
    scores = report.compute_metrics(table, best)
    files.replace(folder / 'metrics.json', report.to_json(scores))
    predictions_csv.write_predictions(table, folder / 'predictions.csv')
    files.replace(folder / 'subgroups.csv', subgroups.to_csv(subgroups.cross_table(table)))
    for name in ('calibration.png', 'age_scatter.png', 'faces.png'):
        files.replace(folder / name, f'picture {name}'.encode())
    files.write_json(folder / 'evaluation.json', about or {})
    return table, scores


def make(folder, seed=0, evaluated=True, record=RECORD):
    """A workdir with one evaluation, of the test split."""
    folder.mkdir(parents=True)
    files.write_json(folder / 'config.json', CONFIG)
    files.write_json(folder / 'dataset.json', record)
    source = {'source': '/home/alice/runs/before', 'step': 4, 'loaded': ['a'], 'missing': []}
    files.write_json(folder / 'pretrained.json', {'sources': [source]})
    (folder / 'sessions.jsonl').write_text('\n'.join(map(json.dumps, SESSIONS)) + '\n{"cut')
    files.replace(folder / 'training_curves.png', b'picture of the curves')
    (folder / 'metrics.jsonl').write_text('{"step": 1, "train/loss": 1.0}\n')
    if evaluated:
        about = {'dataset': record['name'], 'split': 'test', 'checkpoint': 'best', 'step': 1234}
        about['interval_level'] = 0.9
        evaluate(folder / 'evaluation/test', columns(seed), about)
    return folder
