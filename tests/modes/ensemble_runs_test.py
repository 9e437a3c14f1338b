"""Ensembles as a whole: training, restart, evaluation, prediction, taken apart.

Each mode runs through launch.py at least once; the rest is called as launch.py calls it, which
spares starting the program.
"""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from hybrid import default_config, devices
from hybrid.modes import evaluate, predict
from hybrid.runs import checkpoints, dataset_record, trained, workdir
from hybrid.scores import report
from hybrid.scores.predictions_csv import read_predictions
from hybrid.training import ensemble
from tests.launching import launch, start, tiny_flags, wait_until

# In one process of pytest, so that there is one run to look at.
pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group('ensemble_runs')]

GROUPS = "{'cnn': {'model': {'recurrent': {'cell': 'none'}}}, 'lstm': {'size': 2}}"
STEPS = 12


def flags(data_dir, folder):
    return [
        *tiny_flags(data_dir, folder),
        f'--config.ensemble.groups={GROUPS}',
        f'--config.train.num_steps={STEPS}',
        '--config.train.eval_every_steps=4',
        '--config.train.checkpoint_every_steps=1',
        '--config.train.log_every_steps=4',
        '--config.evaluate.batch_size=16',
    ]


@pytest.fixture(scope='module')
def run(tiny_data_dir, tmp_path_factory):
    """(workdir, what the training printed)."""
    folder = tmp_path_factory.mktemp('run') / 'mixed'
    status, out, err = launch(*flags(tiny_data_dir, folder))
    assert status == 0, err
    return folder, out


@pytest.fixture(scope='module')
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp('faces')
    for k in range(5):
        noise = np.random.default_rng(k).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(noise).resize((40, 40)).save(folder / f'{k}.png')
    return folder


def read_rows(folder):
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != 'train/images_per_second'}
        for line in lines
    ]


def read_csv(path):
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def load_config(folder, **changes):
    config = workdir.load_config(folder, default_config.get_config())
    config.update_from_flattened_dict(changes)
    return config


def restore(folder, which='last'):
    model, state = trained.restore(load_config(folder), folder, which)
    return model, jax.device_get(state)


def test_figures_of_members_and_of_the_whole(run):
    folder, out = run
    rows = read_rows(folder)
    (last,) = [r for r in rows if r['step'] == STEPS and 'train/loss' in r]
    losses = [last[f'train/member_{n}/loss'] for n in range(3)]
    assert last['train/loss'] == pytest.approx(np.mean(losses), rel=1e-6)
    assert len(set(losses)) == 3
    validated = [r for r in rows if 'validation/age/mae' in r]
    assert [r['step'] for r in validated] == [4, 8, 12]

    for split, count in (('validation', 23), ('test', 41)):
        about = json.loads((folder / 'evaluation' / split / 'evaluation.json').read_text())
        written = json.loads((folder / 'evaluation' / split / 'metrics.json').read_text())
        best = min(validated, key=lambda r: r['validation/age/mae'])
        assert about['step'] == best['step']
        assert about['members'] == [0, 1, 2]
        maes = [best[f'validation/member_{n}/age/mae'] for n in range(3)]
        assert about['best_member_on_validation'] == int(np.argmin(maes))
        predictions = read_predictions(folder / 'evaluation' / split / 'predictions.csv')
        assert len(predictions['id']) == count
        scores = report.compute_metrics(predictions, int(np.argmin(maes)))
        assert json.loads(report.to_json(scores)) == written
        if split == 'validation':
            for n in range(3):
                assert written[f'member_{n}/age/mae'] == pytest.approx(maes[n], rel=1e-6)
            assert written['age/mae'] == pytest.approx(best['validation/age/mae'], rel=1e-6)
    assert 'ensemble of 3' in out
    assert 'best on validation' in out


def test_killed_it_ends_bit_for_bit_where_it_would_have(run, tiny_data_dir, tmp_path):
    process = start(*flags(tiny_data_dir, tmp_path))
    wait_until(lambda: (tmp_path / 'checkpoints' / '5').exists(), process)
    process.kill()
    process.communicate()
    status, _, err = launch(*flags(tiny_data_dir, tmp_path))
    assert status == 0, err
    assert 'continuing after step' in err
    folder, _ = run
    assert read_rows(tmp_path) == read_rows(folder)
    jax.tree.map(np.testing.assert_array_equal, restore(tmp_path)[1], restore(folder)[1])
    for split in ('validation', 'test'):
        for name in ('metrics.json', 'predictions.csv', 'evaluation.json'):
            path = f'evaluation/{split}/{name}'
            assert (tmp_path / path).read_bytes() == (folder / path).read_bytes()


@pytest.mark.slow  # stacking_test.py has the states alone
def test_apart_members_predict_what_they_did_and_together_again_too(run, faces, tmp_path):
    folder, _ = run
    status, _, err = launch('--mode=unstack', f'--workdir={folder}', f'--output={tmp_path}/members')
    assert status == 0, err
    apart = [tmp_path / 'members' / f'member_{n}' for n in range(3)]
    together = read_csv(folder / 'evaluation/test/predictions.csv')
    evaluate.evaluate([load_config(apart[2])], [apart[2]], 'test', 'best')
    alone = read_csv(apart[2] / 'evaluation/test/predictions.csv')
    for ours, whole in zip(alone, together, strict=True):
        assert float(ours['predicted_age']) == pytest.approx(float(whole['member_2_age']), rel=1e-5)
    assert 'member_0_age' not in alone[0]

    names = ','.join(map(str, apart))
    status, _, err = launch('--mode=stack', f'--workdir={names}', f'--output={tmp_path}/again')
    assert status == 0, err
    again, before = restore(tmp_path / 'again', 'best')[1], restore(folder, 'best')[1]
    stacked = jax.tree.leaves(again['group_001'].params), jax.tree.leaves(before['lstm'].params)
    jax.tree.map(np.testing.assert_array_equal, *stacked)

    # All three ways predict the same, also from the command line.
    out = tmp_path / 'out.csv'
    outputs = []
    for source in (folder, tmp_path / 'again'):
        predict.predict([load_config(source)], [source], 'best', str(faces), str(out))
        outputs.append(read_csv(out))
    flags = [f'--workdir={names}', f'--input={faces}', f'--output={out}']
    status, _, err = launch('--mode=predict', *flags)
    assert status == 0, err
    outputs.append(read_csv(out))
    for rows in outputs[1:]:
        assert len(rows) == 5
        for ours, theirs in zip(rows, outputs[0], strict=True):
            assert float(ours['age']) == pytest.approx(float(theirs['age']), rel=1e-5)
            assert float(ours['age_std']) == pytest.approx(float(theirs['age_std']), rel=1e-3)
            assert ours['gender_agreement'] == theirs['gender_agreement']

    # Combined in the evaluation, too, beside the first workdir.
    status, out, err = launch('--mode=evaluate', f'--workdir={names}')
    assert status == 0, err
    combined = tmp_path / 'members' / 'member_0+member_1+member_2'
    scores = json.loads((combined / 'evaluation/test/metrics.json').read_text())
    written = json.loads((folder / 'evaluation/test/metrics.json').read_text())
    assert scores.keys() == written.keys()
    for name, value in scores.items():
        if value is None or written[name] is None:
            assert value == written[name], name
        else:
            assert value == pytest.approx(written[name], rel=1e-3, abs=1e-3), name


def test_runs_on_other_splits_are_not_combined(run, tmp_path):
    folder, _ = run
    other = tmp_path / 'other'
    shutil.copytree(folder, other)
    record = json.loads((other / 'dataset.json').read_text())
    record['splits']['train']['sha256'] = 'f' * 64
    (other / 'dataset.json').write_text(json.dumps(record))
    configs = [load_config(folder), load_config(other)]
    with pytest.raises(ValueError, match="cannot be combined: their splits 'train' differ"):
        evaluate.evaluate(configs, [folder, other], 'test', 'best')


def test_weights_fitted_on_validation(run, faces, tmp_path):
    folder = tmp_path / 'weighted'
    shutil.copytree(run[0], folder)
    config = load_config(folder, **{'ensemble.weights': 'validation'})
    out = tmp_path / 'out.csv'
    with pytest.raises(
        ValueError, match=r'json has none for this checkpoint and these .*--mode=evaluate'
    ):
        predict.predict([config], [folder], 'best', str(faces), str(out))
    weighted = [f'--workdir={folder}', '--config.ensemble.weights=validation']
    status, _, err = launch('--mode=evaluate', *weighted)
    assert status == 0, err
    about = json.loads((folder / 'evaluation/test/evaluation.json').read_text())
    assert sum(about['weights']['age']) == pytest.approx(1)
    rows = read_predictions(folder / 'evaluation/test/predictions.csv')
    ages = np.stack([rows[f'member_{n}_age'] for n in range(3)], -1)
    np.testing.assert_allclose(rows['predicted_age'], ages @ about['weights']['age'], rtol=1e-5)
    # They are the best on validation, so no worse there than equal ones.
    evaluate.evaluate([config], [folder], 'validation', 'best')
    maes = [
        json.loads((path / 'evaluation/validation/metrics.json').read_text())['age/mae']
        for path in (folder, run[0])
    ]
    assert maes[0] <= maes[1] + 1e-6
    status, _, err = launch('--mode=predict', f'--input={faces}', f'--output={out}', *weighted)
    assert status == 0, err
    assert len(read_csv(out)) == 5


@pytest.mark.slow  # ensemble_test.py has the steps alone
def test_a_member_that_diverges_costs_the_others_nothing(run, tiny_data_dir, tmp_path, caplog):
    """A parameter of member 2 is no number before the last step."""
    before, folder = run[0], tmp_path / 'sick'
    config = load_config(before)
    target = ensemble.Ensemble(config, lambda step: 0.1).abstract_state()
    with checkpoints.Checkpoints(before, read_only=True) as saved:
        target = checkpoints.abstract(target, devices.replicated())
        state, data_state = saved.restore(STEPS - 1, target)
    state = jax.tree.map(np.array, state)
    state['lstm'].params['age_head']['output']['kernel'][1] = np.nan
    workdir.save_config(folder, config)
    dataset_record.save(folder, dataset_record.load(before))
    with checkpoints.Checkpoints(folder) as saved:
        saved.save(STEPS - 1, devices.replicate(state), data_state, config.to_dict())

    status, out, err = launch(*flags(tiny_data_dir, folder))
    assert status == 0, err
    said = f'member 2: the loss or the gradient was not finite at step {STEPS}; it stays'
    assert err.count(said) == 1
    about = json.loads((folder / 'evaluation/test/evaluation.json').read_text())
    assert about['frozen_members'] == [2]
    assert about['members'] == [0, 1]
    (last,) = [r for r in read_rows(folder) if r['step'] == STEPS and 'train/loss' in r]
    (well,) = [r for r in read_rows(before) if r['step'] == STEPS and 'train/loss' in r]
    assert last['train/member_2/loss'] is None
    losses = [last[f'train/member_{n}/loss'] for n in range(2)]
    assert losses == [well[f'train/member_{n}/loss'] for n in range(2)]
    assert last['train/loss'] == pytest.approx(np.mean(losses), rel=1e-6)
    assert 'ensemble of 2' in out
    evaluate.evaluate([config], [folder], 'test', 'best')
    assert 'left out, not finite in training: member 2' in caplog.text
