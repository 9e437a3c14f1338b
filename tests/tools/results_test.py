"""What is committed in results/ agrees with itself."""

import itertools
import json

import numpy as np
import pytest

from hybrid.runs import dataset_record
from hybrid.scores import ensemble_metrics, metrics, predictions_csv, report, rows, thresholds
from hybrid.scores.outcomes import GENDERS
from tools import compare, elsewhere, limits, table
from tools.kept import RESULTS

SPLITS = ('validation', 'test')
# Runs on UTKFace recorded before predictions were kept.
LOST = {
    'utkface_ensemble',
    'utkface_resnet18_lstm_imagenet_mse_amd',
    'utkface_resnet18_lstm_scratch_mse',
}
# Runs of benchmarks/torch_recipe.py, kept to be compared with.
TORCH = {f'torch_recipe_{rate}.{split}' for rate in ('1e-3', '3e-4') for split in SPLITS}
# Run, split and prefix of all recorded scores.
RECORDED = [
    (path.stem, split, prefix)
    for path in sorted(RESULTS.glob('*.json'))
    for split, content in json.loads(path.read_text()).get('splits', {}).items()
    for prefix in ('', 'without_leaks/')
    if f'{prefix}num_examples' in content['metrics']
]
PREDICTIONS = sorted((RESULTS / 'predictions').glob('*.csv.gz'))


def recorded_name(path):
    """Such as 'utkface_hog.test'."""
    return path.name.removesuffix('.csv.gz')


def test_predictions_of_all_later_runs_on_real_faces_are_kept():
    recorded = {
        f'{path.stem}.{split}'
        for pattern in ('utkface*.json', 'wiki*.json')
        for path in RESULTS.glob(pattern)
        for split in json.loads(path.read_text())['splits']
        if path.stem not in LOST
    }
    assert {recorded_name(path) for path in PREDICTIONS} == recorded | TORCH


@pytest.mark.parametrize(
    'path', [path for path in PREDICTIONS if recorded_name(path) not in TORCH], ids=recorded_name
)
def test_recorded_scores_are_those_of_the_kept_predictions(path):
    name, split = recorded_name(path).rsplit('.', 1)
    kept = json.loads((RESULTS / f'{name}.json').read_text())
    kept_rows = predictions_csv.read_predictions(path)
    assert dataset_record.examples_hash(kept_rows) == kept['dataset']['splits'][split]['sha256']
    recorded = kept['splits'][split]['metrics']
    scores = metrics.compute_metrics(kept_rows)
    scores |= ensemble_metrics.compute_metrics(kept_rows, recorded.get('best_member/number'))
    scores |= thresholds.to_metrics(thresholds.compute(kept_rows))
    assert recorded.keys() <= scores.keys()  # Later evaluations have further scores.
    for key, value in recorded.items():
        expected = np.nan if value is None else value
        assert scores[key] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), key


def scores_of_counts(counts):
    """Metrics of examples with these counts, true by predicted gender, and no age."""
    true, predicted = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1)], counts, axis=0).T
    unknown = np.full(len(true), np.nan)
    columns = {
        'id': np.arange(len(true)),
        'age': unknown,
        'gender': true,
        'predicted_age': np.zeros(len(true)),
        'female_probability': predicted,
        'constant_age': unknown,
        'constant_gender': true,
    }
    return metrics.compute_metrics(rows.create(columns))


@pytest.mark.parametrize(('name', 'split', 'prefix'), RECORDED)
def test_recorded_gender_intervals_are_those_of_the_recorded_counts(name, split, prefix):
    kept = json.loads((RESULTS / f'{name}.json').read_text())
    recorded = {
        key.removeprefix(prefix): value
        for key, value in kept['splits'][split]['metrics'].items()
        if key.startswith(f'{prefix}gender/')
    }
    pairs = itertools.product(GENDERS, repeat=2)
    scores = scores_of_counts([recorded[f'gender/confusion/{a}_as_{b}'] for a, b in pairs])
    probability = tuple(f'gender/{name}_ci95_' for name in report.PROBABILITY_TABLE)
    ends = {key for key in recorded if '_ci95_' in key and not key.startswith(probability)}
    assert len(ends) == 16
    assert {key: scores[key] for key in ends} == pytest.approx(
        {key: recorded[key] for key in ends}, rel=1e-9
    )


@pytest.mark.parametrize(
    'entry', json.loads(compare.PATH.read_text()).values(), ids=lambda e: f'{e["a"]}-{e["b"]}'
)
def test_recorded_differences_are_those_of_the_kept_predictions(entry):
    a, b = (entry[side].split(',') for side in 'ab')
    if LOST & {*a, *b}:
        pytest.skip(f'predictions of {LOST & {*a, *b}} were not kept')
    scores = compare.compare_runs(a, b, entry['split'])
    assert scores == pytest.approx(entry['scores'], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize('name', json.loads(elsewhere.PATH.read_text())['test'])
def test_scores_on_other_datasets_are_those_of_the_kept_predictions(name):
    model = json.loads(elsewhere.PATH.read_text())['test'][name]
    for dataset, recorded in model['scores'].items():
        path = elsewhere.kept_path(name, dataset, 'test')
        scores = metrics.compute_metrics(predictions_csv.read_predictions(path))
        assert {key: scores[key] for key in recorded} == pytest.approx(recorded, rel=1e-6)


def test_kept_figures_of_age_limits_are_those_of_the_kept_predictions():
    assert limits.PATH.read_text() == thresholds.to_csv(limits.compute())


def test_readme_and_configs_show_what_results_hold():
    texts = table.rendered()
    assert {path.name for path in texts} >= {'README.md', 'utkface_resnet18_lstm_imagenet.py'}
    for path, new in texts.items():
        assert path.read_text() == new, f'{path}: run python -m tools.table'
