"""The whole program through launch.py, as a user runs it."""

import json
import os
import re

import numpy as np
import pytest

from hybrid.scores import report
from hybrid.scores.predictions_csv import read_predictions
from tests.launching import ROOT, launch, tiny_flags
from tools import reproduce

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def fake_tensorflow(tmp_path):
    """A tensorflow that can be found, but says so when somebody imports it."""
    package = tmp_path / 'fake' / 'tensorflow'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text("raise RuntimeError('tensorflow was imported')\n")
    return {'PYTHONPATH': f'{ROOT}{os.pathsep}{package.parent}'}


def test_train_continue_evaluate(tiny_data_dir, tmp_path, fake_tensorflow):
    workdir = tmp_path / 'run'
    flags = tiny_flags(tiny_data_dir, workdir)
    first = launch(*flags, env=fake_tensorflow)
    assert first[0] == 0, first[2]
    assert 'LOADED []' in first[1]
    assert re.search(r'step 6/6, 0 s left \| loss \d+\.\d+ age .* images/s', first[2])
    assert 'Total: ' in first[2]  # the parameter overview
    for name in (
        'config.json',
        'dataset.json',
        'metrics.jsonl',
        'training_curves.png',
        'evaluation/validation/metrics.json',
        'evaluation/test/metrics.json',
        'evaluation/test/predictions.csv',
        'evaluation/test/age_scatter.png',
        'evaluation/test/age_error_by_band.png',
        'evaluation/test/confusion_matrix.png',
    ):
        assert (workdir / name).stat().st_size > 0, name
    assert list((workdir / 'tensorboard').glob('events.out.tfevents.*'))

    scores = json.loads((workdir / 'evaluation/test/metrics.json').read_text())
    rows = read_predictions(workdir / 'evaluation/test/predictions.csv')
    assert json.loads(report.to_json(report.compute_metrics(rows))) == scores
    assert scores['num_examples'] == 41

    # Started again it has nothing to train and evaluates the same.
    again = launch(*flags, env=fake_tensorflow)
    assert again[0] == 0, again[2]
    assert json.loads((workdir / 'evaluation/test/metrics.json').read_text()) == scores

    # Evaluation needs the workdir alone, and another batch size changes nothing.
    (workdir / 'evaluation/test/metrics.json').unlink()
    evaluated = launch(
        '--mode=evaluate',
        f'--workdir={workdir}',
        '--split=test',
        '--config.evaluate.batch_size=5',
        env=fake_tensorflow,
    )
    assert evaluated[0] == 0, evaluated[2]
    assert 'LOADED []' in evaluated[1]
    assert 'test, best checkpoint (step 6): 41 examples' in evaluated[1]
    repeated = json.loads((workdir / 'evaluation/test/metrics.json').read_text())
    assert repeated['age/mae'] == pytest.approx(scores['age/mae'], rel=1e-5)
    assert repeated['gender/accuracy'] == scores['gender/accuracy']

    other = launch(*flags, '--config.model.recurrent.cell=gru')
    assert other[0] == 1
    assert re.fullmatch(
        r"error: .*config\.json is of another config \(model\.recurrent\.cell is 'lstm' there, "
        r"'gru' now\).*\n",
        other[2],
    )


def test_a_recorded_result_is_reproduced_and_shows_that_it_learns(tmp_path):
    """Four short epochs of the quickstart, compiled as for users: results/short.json."""
    record = json.loads((ROOT / 'results/short.json').read_text())
    data_dir = f'--config.data.data_dir={tmp_path}/data'
    flags = reproduce.arguments(record, tmp_path / 'run', [data_dir])
    result = launch(*flags, optimize=True)
    assert result[0] == 0, result[2]
    # On another processor, or with other versions, training amplifies other roundings: 8.1 to 8.6
    # years on the test split with three versions of the kernels.
    for split, count in (('test', 400), ('validation', 100)):
        off = reproduce.differences(record, tmp_path / 'run')[split]
        assert abs(off['age/mae']) <= 0.8, split
        assert abs(off['gender/accuracy']) <= 0.08, split
        assert record['splits'][split]['metrics']['num_examples'] == count
    scores = json.loads((tmp_path / 'run/evaluation/test/metrics.json').read_text())
    assert scores['num_examples'] == 400
    assert scores['age/mae'] < 0.5 * scores['constant/age/mae']
    assert scores['age/mae_ci95_low'] < scores['age/mae'] < scores['age/mae_ci95_high']
    curve = [json.loads(x) for x in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
    losses = [row['train/loss'] for row in curve if 'train/loss' in row]
    assert np.mean(losses[-2:]) < 0.6 * losses[0]
