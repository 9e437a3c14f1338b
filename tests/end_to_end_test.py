"""The whole program through launch.py, as a user runs it."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from hybrid import metrics, report

ROOT = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.end_to_end

# Runs launch.py in a process of its own and says which modules of interest it has imported.
RUNNER = """
import atexit, runpy, sys
unwanted = ('tensorflow', 'torch')
loaded = lambda: print('LOADED', [name for name in unwanted if name in sys.modules])
atexit.register(loaded)
sys.argv[0] = 'launch.py'
runpy.run_path('launch.py', run_name='__main__')
"""


def launch(*arguments, env=None):
    variables = {**os.environ, **(env or {})}
    variables.pop('XLA_FLAGS', None)  # One CPU device, as users have.
    return subprocess.run(
        [sys.executable, '-c', RUNNER, *arguments],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture
def fake_tensorflow(tmp_path):
    """A tensorflow that can be found, but says so when somebody imports it."""
    package = tmp_path / 'fake' / 'tensorflow'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text("raise RuntimeError('tensorflow was imported')\n")
    return {'PYTHONPATH': f'{ROOT}{os.pathsep}{package.parent}'}


def test_train_continue_evaluate(tiny_data_dir, tmp_path, fake_tensorflow):
    workdir = tmp_path / 'run'
    flags = [
        f'--workdir={workdir}',
        '--config.data.dataset=synthetic_faces/tiny',
        f'--config.data.data_dir={tiny_data_dir}',
        '--config.data.image_size=32',
        '--config.data.resize_size=36',
        '--config.model.encoder.width=4',
        '--config.train.batch_size=8',
        '--config.train.num_steps=6',
        '--config.train.log_every_steps=2',
    ]
    first = launch(*flags, env=fake_tensorflow)
    assert first.returncode == 0, first.stderr
    assert 'LOADED []' in first.stdout
    assert re.search(r'step 6/6, 0 s left \| loss \d+\.\d+ age .* images/s', first.stderr)
    assert 'Total: ' in first.stderr  # the parameter overview
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
    rows = report.read_predictions(workdir / 'evaluation/test/predictions.csv')
    assert json.loads(report.to_json(metrics.compute_metrics(rows))) == scores
    assert scores['num_examples'] == 41

    # Started again it has nothing to train and evaluates the same.
    again = launch(*flags, env=fake_tensorflow)
    assert again.returncode == 0, again.stderr
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
    assert evaluated.returncode == 0, evaluated.stderr
    assert 'LOADED []' in evaluated.stdout
    assert 'test, best checkpoint (step 6): 41 examples' in evaluated.stdout
    repeated = json.loads((workdir / 'evaluation/test/metrics.json').read_text())
    assert repeated['age/mae'] == pytest.approx(scores['age/mae'], rel=1e-5)
    assert repeated['gender/accuracy'] == scores['gender/accuracy']

    other = launch(*flags, '--config.model.recurrent.cell=gru')
    assert other.returncode == 1
    assert re.fullmatch(
        r"error: .*config\.json is of another config \(model\.recurrent\.cell is 'lstm' there, "
        r"'gru' now\).*\n",
        other.stderr,
    )


def test_it_learns(tmp_path):
    """Four short epochs of the quickstart are far better than the constant predictor."""
    result = launch(
        f'--workdir={tmp_path}/run',
        f'--config.data.data_dir={tmp_path}/data',
        '--config.data.parameters={"num_train": 3000, "num_validation": 100, "num_test": 400}',
        '--config.train.num_epochs=4',
    )
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / 'run/evaluation/test/metrics.json').read_text())
    assert scores['num_examples'] == 400
    assert scores['age/mae'] < 0.5 * scores['constant/age/mae']
    assert scores['age/mae_ci95_low'] < scores['age/mae'] < scores['age/mae_ci95_high']
    curve = [json.loads(x) for x in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
    losses = [row['train/loss'] for row in curve if 'train/loss' in row]
    assert np.mean(losses[-2:]) < 0.6 * losses[0]
