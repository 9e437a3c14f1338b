"""What is committed in results/ agrees with itself."""

import json

import numpy as np
import pytest

from hybrid import ensemble_metrics, metrics, report, workdir
from results import compare, record, table

# Runs on UTKFace recorded before predictions were kept.
LOST = {
    'utkface_ensemble',
    'utkface_resnet18_lstm_imagenet_amd',
    'utkface_resnet18_lstm_scratch',
}
PREDICTIONS = sorted((record.FOLDER / 'predictions').glob('*.csv'))


def test_predictions_of_all_later_runs_on_utkface_are_kept():
    recorded = {
        f'{path.stem}.{split}'
        for path in record.FOLDER.glob('utkface*.json')
        for split in json.loads(path.read_text())['splits']
        if path.stem not in LOST
    }
    assert {path.stem for path in PREDICTIONS} == recorded


@pytest.mark.parametrize('path', PREDICTIONS, ids=lambda path: path.stem)
def test_recorded_scores_are_those_of_the_kept_predictions(path):
    name, split = path.stem.rsplit('.', 1)
    kept = json.loads((record.FOLDER / f'{name}.json').read_text())
    rows = report.read_predictions(path)
    assert workdir.examples_hash(rows) == kept['dataset']['splits'][split]['sha256']
    recorded = kept['splits'][split]['metrics']
    scores = metrics.compute_metrics(rows)
    scores |= ensemble_metrics.compute_metrics(rows, recorded.get('best_member/number'))
    assert scores.keys() == recorded.keys()
    for key, value in recorded.items():
        expected = np.nan if value is None else value
        assert scores[key] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), key


@pytest.mark.parametrize(
    'entry', json.loads(compare.PATH.read_text()).values(), ids=lambda e: f'{e["a"]}-{e["b"]}'
)
def test_recorded_differences_are_those_of_the_kept_predictions(entry):
    a, b = (entry[side].split(',') for side in 'ab')
    if LOST & {*a, *b}:
        pytest.skip(f'predictions of {LOST & {*a, *b}} were not kept')
    scores = compare.compare_runs(a, b, entry['split'])
    assert scores == pytest.approx(entry['scores'], rel=1e-6, abs=1e-9)


def test_readme_and_configs_show_what_results_hold():
    texts = table.rendered()
    assert {path.name for path in texts} >= {'README.md', 'utkface_resnet18_lstm_imagenet.py'}
    for path, new in texts.items():
        assert path.read_text() == new, f'{path}: run python -m results.table'
