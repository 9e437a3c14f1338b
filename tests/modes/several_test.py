"""A training on two datasets as a whole: what it leaves, how it goes on, how it is evaluated."""

import csv
import json

import jax
import numpy as np
import pytest

from hybrid import api, datasets
from hybrid.data import shared
from hybrid.modes import train
from hybrid.runs import checkpoints, dataset_record, leaks, trained_on
from hybrid.scores import plots, validation
from tests import two_datasets
from tests.modes.train_test import Killed, read_metrics, without_clock

A, B = 'face_csv_a_1.0.0', 'face_csv_b_1.0.0'

pytestmark = [pytest.mark.long, pytest.mark.xdist_group('several')]


def create_config(create_tiny_config, data_dir):
    config = create_tiny_config()
    config.data.dataset, config.data.data_dir = 'face_csv/a,face_csv/b', str(data_dir)
    config.data.weights = '1,3'
    config.train.num_steps, config.train.eval_every_steps = 4, 2
    config.train.log_every_steps = config.train.checkpoint_every_steps = 1
    config.ensemble.size, config.ensemble.weights = 2, 'validation'
    return config


@pytest.fixture(scope='module', autouse=True)
def no_pictures():
    """Pictures take most of the time, and are looked at elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, 'save', lambda *_: None)
        yield


@pytest.fixture(scope='module')
def run(create_tiny_config, two_datasets_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp('several') / 'run'
    config = create_config(create_tiny_config, two_datasets_dir)
    return config, folder, train.train_and_evaluate(config, folder)


def scores_of(folder, name):
    return json.loads((folder / 'evaluation' / name / 'metrics.json').read_text())


def test_the_workdir_says_what_it_was_trained_on_and_what_was_left_out(run):
    _, folder, _ = run
    record = dataset_record.load(folder)
    assert record['name'] == 'face_csv/a/1.0.0,face_csv/b/1.0.0'
    assert {k: v['num_examples'] for k, v in record['splits'].items()} == {
        'train': 36,
        'validation': 11,
        'test': 13,
    }
    of_each = [
        (one['name'], {k: v['num_examples'] for k, v in one['splits'].items()})
        for one in record['datasets']
    ]
    assert of_each == [
        ('face_csv/a/1.0.0', {'train': 23, 'validation': 7, 'test': 7}),
        ('face_csv/b/1.0.0', {'train': 17, 'validation': 6, 'test': 6}),
    ]
    with (folder / 'shared.csv').open(newline='') as file:
        rows = [tuple(row.values())[:7] for row in csv.DictReader(file)]
    assert rows == two_datasets.LEFT_OUT
    assert trained_on.load(folder)[0] == shared.Finding(*two_datasets.LEFT_OUT[0])
    (folder / 'damaged').mkdir()
    (folder / 'damaged/shared.csv').write_text('id\nx\n')
    with pytest.raises(ValueError, match=r'damaged/shared\.csv is damaged: it is no table of'):
        trained_on.load(folder / 'damaged')


def test_each_is_validated_and_the_mean_chooses_the_best(run):
    _, folder, _ = run
    rows = {r['step']: r for r in read_metrics(folder) if 'validation/age/mae' in r}
    assert list(rows) == [2, 4]
    scores = {}
    for step, row in rows.items():
        # Of a ages are exact, of b ranges; each score is the mean of those that have it.
        assert row['validation/face_csv/b/age/mae'] is None
        assert row['validation/age/mae'] == row['validation/face_csv/a/age/mae']
        assert row['validation/loss'] == pytest.approx(
            (row['validation/face_csv/a/loss'] + row['validation/face_csv/b/loss']) / 2
        )
        of_a = row['validation/face_csv/a/age/mae']
        scores[step] = (of_a + row['validation/face_csv/b/age/interval_error']) / 2
    with checkpoints.Checkpoints(folder, read_only=True) as saved:
        assert saved.scores(4)[None] == pytest.approx(scores[4])
        assert saved.scores(4).keys() == {None, 0, 1}
        assert saved.step('best') == min(scores, key=lambda step: scores[step])


def test_each_is_evaluated_whole_beside_its_own_constant_predictor(run):
    _, folder, _ = run
    for name, counts, constant in ((A, (7, 7), 30.0), (B, (6, 6), 32.5)):
        for split, count in zip(('validation', 'test'), counts, strict=True):
            assert scores_of(folder, f'{name}/{split}')['num_examples'] == count
        with (folder / 'evaluation' / name / 'test/predictions.csv').open(newline='') as file:
            rows = list(csv.DictReader(file))
        assert {float(row['constant_age']) for row in rows} == {constant}
    weights = json.loads((folder / 'ensemble_weights.json').read_text())['weights']
    assert sum(weights['age']) == pytest.approx(1)
    for name in (A, B):
        about = json.loads((folder / 'evaluation' / name / 'test/evaluation.json').read_text())
        assert about['weights'] == weights


def test_killed_and_continued_it_ends_bit_for_bit_the_same(run, tmp_path, monkeypatch):
    config, folder, whole = run
    with monkeypatch.context() as patch:
        summarize, steps = train.learners.Ensemble.summarize, []

        def dying(self, pending, state):
            steps.extend(pending)
            if len(steps) > 3:
                raise Killed
            return summarize(self, pending, state)

        patch.setattr(train.learners.Ensemble, 'summarize', dying)
        with pytest.raises(Killed):
            train.train_and_evaluate(config, tmp_path / 'run')
    # What was left out is read from there, not looked for again.
    monkeypatch.setattr(shared, 'find', lambda _: pytest.fail('searched again'))
    monkeypatch.setattr(train.evaluate, 'evaluate_split', lambda *_: None)
    continued = train.train_and_evaluate(config, tmp_path / 'run')
    jax.tree.map(np.testing.assert_array_equal, whole, continued)
    assert without_clock(read_metrics(tmp_path / 'run')) == without_clock(read_metrics(folder))


def test_all_are_evaluated_or_the_one_that_is_named(run, tmp_path):
    _, folder, _ = run
    both = api.evaluate(folder, 'test', output=tmp_path / 'both')
    one = api.evaluate(
        folder, 'test', overrides={'data.dataset': 'face_csv/b'}, output=tmp_path / 'one'
    )
    assert [path.name for path in sorted((tmp_path / 'both/evaluation').iterdir())] == [A, B]
    assert [path.name for path in (tmp_path / 'one/evaluation').iterdir()] == [B]
    assert both['face_csv/a/age/mae'] == scores_of(folder, f'{A}/test')['age/mae']
    assert one['age/interval_error'] == both['face_csv/b/age/interval_error']
    assert 'without_leaks/num_examples' not in one


def test_what_either_was_trained_on_is_a_leak_but_not_what_was_left_out(run, two_datasets_dir):
    config, folder, _ = run
    names = ['a1.jpg', 'a40.jpg', 'b1.jpg', 'b40.jpg', 'a20.jpg', 'b15.jpg', 'a42.jpg', 'a26.jpg']
    columns = {'id': np.array(names), 'group': np.array([f'x{k}' for k in range(len(names))])}
    seen = {}
    for dataset in ('face_csv/a', 'face_csv/b'):
        builder = datasets.create_builder(dataset, str(two_datasets_dir))
        found = np.array([name[0] == dataset[-1] for name in names])
        own = {name: column[found] for name, column in columns.items()}
        marked = leaks.seen_in_training(own, builder, 'train', [config], [folder])
        seen[dataset] = own['id'][marked].tolist()
    assert seen == {'face_csv/a': ['a1.jpg', 'a20.jpg'], 'face_csv/b': ['b1.jpg', 'b15.jpg']}


def test_scores_are_averaged_over_the_datasets_that_have_them():
    of_each = {'a': {'age/mae': 2.0, 'loss': 1.0}, 'b': {'age/mae': float('nan'), 'loss': 3.0}}
    assert validation.average(of_each)['age/mae'] == 2
    assert validation.average(of_each)['loss'] == 2
    assert validation.average(of_each)['b/loss'] == 3
    chosen = [{None: 4.0, 0: 3.0, 1: 6.0}, {None: 6.0, 1: 8.0}]
    assert validation.average_chosen(chosen) == {None: 5, 1: 7}
    assert validation.average_chosen([{None: 4.0}, {}]) == {}
