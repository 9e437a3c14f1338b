"""Training on ages of which all are ranges, from the table to the report."""

import json

import pytest

from hybrid.modes.train import train_and_evaluate
from hybrid.scores.predictions_csv import read_predictions
from tests.datasets.face_csv_test import write_faces
from tests.utkface_archive import jpeg


@pytest.mark.long
def test_a_training_on_ranges_alone(tiny_config, tmp_path):
    ages, splits = ('0-2', '20-29', 'more than 70'), ('train', 'train', 'train', 'validation')
    rows = [(jpeg(k), f'{k}.jpg', ages[k % 3], 'mf'[k % 2], splits[k % 4]) for k in range(48)]
    folder = write_faces(tmp_path / 'faces', rows, 'path,age,gender,split')
    config = tiny_config
    config.data.dataset, config.data.manual_dir = 'face_csv/ranges', str(folder)
    config.data.data_dir, config.data.test_split = str(tmp_path / 'data'), ''
    train_and_evaluate(config, tmp_path / 'run')
    lines = (tmp_path / 'run/metrics.jsonl').read_text().splitlines()
    written = [json.loads(line) for line in lines]
    training = [row for row in written if 'train/loss' in row]
    assert all(row['train/age_loss'] > 0 for row in training)
    assert all(row['train/age_mae'] is None for row in training)
    assert all(row['train/age_interval_error'] > 0 for row in training)
    errors = [x['validation/age/interval_error'] for x in written if 'validation/loss' in x]
    evaluation = tmp_path / 'run/evaluation/validation'
    scores = json.loads((evaluation / 'metrics.json').read_text())
    assert scores['age/interval_error'] == pytest.approx(min(errors), rel=1e-4)  # the best one
    assert (scores['age/num_examples'], scores['age/interval_num_examples']) == (0, 12)
    found = read_predictions(evaluation / 'predictions.csv')
    inside = (found['age_min'] <= found['predicted_age']) & (
        found['predicted_age'] < found['age_max'] + 1
    )
    assert scores['age/interval_accuracy'] == pytest.approx(inside.mean())
    assert scores['age/group_accuracy_fairface9'] == pytest.approx(inside.mean())
