"""The contract of heads, the heads there are, and one more that is registered here."""

import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import devices
from hybrid.models import heads
from hybrid.models.heads import DexHead, GenderHead, Head, RegressionHead
from hybrid.models.heads.head import dense_layers
from hybrid.modes.train import train_and_evaluate
from hybrid.runs import workdir
from hybrid.scores.predictions_csv import read_predictions
from hybrid.training import learners
from hybrid.training.eval_step import create_eval_step, create_predict_step

NAN = float('nan')
FEATURES = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
EVERY_HEAD = [
    (RegressionHead(30.0, 10.0, hidden=4), 1),
    (DexHead(hidden=4), 101),
    (GenderHead(hidden=4), 2),
]


def log_softmax(x):
    """In float64."""
    x = np.asarray(x, np.float64)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


# All heads.


@pytest.mark.parametrize(('head', 'outputs'), EVERY_HEAD)
def test_hidden_layer(head, outputs):
    got, variables = head.init_with_output(jax.random.key(0), FEATURES)
    params = variables['params']
    assert jax.tree.map(jnp.shape, params) == {
        'hidden_layer': {'kernel': (8, 4), 'bias': (4,)},
        'output': {'kernel': (4, outputs), 'bias': (outputs,)},
    }
    hidden = np.maximum(FEATURES @ np.asarray(params['hidden_layer']['kernel']), 0)
    expected = hidden @ np.asarray(params['output']['kernel'])
    expected = expected[:, 0] * 10 + 30 if outputs == 1 else log_softmax(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize(('head', 'outputs'), EVERY_HEAD)
def test_float32_from_bfloat16(head, outputs):
    del outputs
    out, variables = head.init_with_output(jax.random.key(0), FEATURES.astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves((out, variables))} == {jnp.dtype('float32')}
    assert {column.dtype for column in head.predict(out).values()} == {jnp.dtype('float32')}


@pytest.mark.parametrize(('head', 'outputs'), EVERY_HEAD)
def test_an_unknown_label_has_no_loss_and_no_gradient(head, outputs):
    del outputs
    out, _ = head.init_with_output(jax.random.key(0), FEATURES)
    labels = {
        'age': jnp.array([20.0, NAN, 44.5, NAN, 90.0]),
        'gender': jnp.array([1, -1, 0, -1, 0]),
    }
    values, known = head.loss(out, labels)
    assert known.tolist() == [1, 0, 1, 0, 1]
    assert values.dtype == known.dtype == jnp.float32
    gradient = np.asarray(jax.grad(lambda out: head.loss(out, labels)[0].sum())(out))
    for x in (values, gradient.reshape(5, -1)):
        assert not np.any(x[np.array([1, 3])])
        assert np.all(np.any(np.asarray(x).reshape(5, -1)[np.array([0, 2, 4])], axis=1))


# Regression.


def test_age_is_scaled_and_shifted_to_years():
    head = RegressionHead(age_offset=33.0, age_scale=20.0)
    kernel = np.arange(8, dtype=np.float32).reshape(8, 1) / 10
    params = {'output': {'kernel': kernel, 'bias': np.array([0.5], np.float32)}}
    got: Any = head.apply({'params': params}, FEATURES)
    expected = (FEATURES @ kernel[:, 0] + 0.5) * 20 + 33
    assert got.shape == (5,)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert set(head.predict(got)) == {'predicted_age'}
    np.testing.assert_array_equal(head.predict(got)['predicted_age'], np.maximum(got, 0))


def test_first_ages_are_near_the_offset():
    head = RegressionHead(age_offset=33.0, age_scale=20.0)
    features = np.random.default_rng(1).normal(size=(100, 256)).astype(np.float32)
    ages, _ = head.init_with_output(jax.random.key(0), features)
    # Standard deviation: 0.01 * sqrt(256) * 20 = 3.2 years.
    assert np.mean(ages) == pytest.approx(33, abs=1.5)
    assert 2.0 < np.std(ages) < 4.5


@pytest.mark.parametrize(
    ('kind', 'expected', 'slope'),
    [
        # Errors in units of 10 years: 0, 0.5, -3, unknown.
        ('mse', [0.0, 0.25, 9.0, 0.0], [0.0, 0.1, -0.6, 0.0]),
        ('l1', [0.0, 0.5, 3.0, 0.0], [0.0, 0.1, -0.1, 0.0]),
        ('huber', [0.0, 0.125, 2.5, 0.0], [0.0, 0.05, -0.1, 0.0]),
    ],
)
def test_regression_losses_and_gradients_by_hand(kind, expected, slope):
    head = RegressionHead(33.0, 10.0, kind=kind)
    predicted = jnp.array([30.0, 25.0, 10.0, 50.0])
    labels = {'age': jnp.array([30.0, 20.0, 40.0, NAN])}
    values, known = head.loss(predicted, labels)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert known.tolist() == [1, 1, 1, 0]
    gradient = jax.grad(lambda x: head.loss(x, labels)[0].sum())(predicted)
    np.testing.assert_allclose(gradient[1:], slope[1:], rtol=1e-6)  # |e| has none at 0.


def test_huber_delta():
    head = RegressionHead(33.0, 10.0, kind='huber', huber_delta=2.0)
    values, _ = head.loss(jnp.array([1.0, 30.0]), {'age': jnp.array([0.0, 0.0])})
    np.testing.assert_allclose(values, [0.005, 0.5 * 4 + 2 * 1], rtol=1e-6)


# 20-29 with ages inside, above and below; 70+ with ages inside and below; unknown.
RANGES = {
    'age': jnp.full(6, NAN),
    'age_min': jnp.array([20.0, 20.0, 20.0, 70.0, 70.0, NAN]),
    'age_max': jnp.array([29.0, 29.0, 29.0, jnp.inf, jnp.inf, NAN]),
}


@pytest.mark.parametrize(
    ('kind', 'expected', 'slope'),
    [
        # Errors in units of 10 years: 0, 0.6, -0.5, 0, -2, unknown.
        ('mse', [0, 0.36, 0.25, 0, 4, 0], [0, 0.12, -0.1, 0, -0.4, 0]),
        ('l1', [0, 0.6, 0.5, 0, 2, 0], [0, 0.1, -0.1, 0, -0.1, 0]),
        ('huber', [0, 0.18, 0.125, 0, 1.5, 0], [0, 0.06, -0.05, 0, -0.1, 0]),
    ],
)
def test_the_regression_loss_of_a_range_is_that_of_the_distance_to_it(kind, expected, slope):
    head = RegressionHead(33.0, 10.0, kind=kind)
    predicted = jnp.array([29.0, 35.0, 15.0, 99.0, 50.0, 50.0])
    values, known = head.loss(predicted, RANGES)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert known.tolist() == [1, 1, 1, 1, 1, 0]
    gradient = jax.grad(lambda x: head.loss(x, RANGES)[0].sum())(predicted)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6)


def test_dex_loss_of_a_range_is_of_its_probability():
    log_p = log_softmax(np.random.default_rng(4).normal(size=(6, 101)))
    p = np.exp(log_p)
    labels = {
        'age_min': jnp.array([20.0, 70.0, 0.0, 110.0, 30.25, 7.0]),
        'age_max': jnp.array([29.0, jnp.inf, 130.0, jnp.inf, 30.75, 7.0]),
        'age': jnp.array([NAN, NAN, NAN, NAN, NAN, 7.0]),
    }
    outputs = jnp.asarray(log_p, jnp.float32)
    values, known = DexHead().loss(outputs, labels)
    shares = [p[0, 20:30].sum(), p[1, 70:].sum(), 1, p[3, 100]]
    shares += [0.75 * p[4, 30] + 0.75 * p[4, 31], p[5, 7]]
    np.testing.assert_allclose(values, -np.log(shares), rtol=1e-5, atol=1e-6)
    assert known.tolist() == [1] * 6
    gradient = np.asarray(jax.grad(lambda x: DexHead().loss(x, labels)[0].sum())(outputs))
    # Of -log(sum of p over the range) by log p: the share that a year has of it.
    np.testing.assert_allclose(gradient[0, 20:30], -p[0, 20:30] / shares[0], rtol=1e-5)
    assert not gradient[0, :20].any()
    assert not gradient[0, 30:].any()


def former_regression(outputs, age):
    known = ~jnp.isnan(age)
    error = (jnp.where(known, outputs, 0.0) - jnp.where(known, age, 0.0)) / 20.0
    return jnp.square(error)


def former_dex(outputs, age):
    known = ~jnp.isnan(age)
    age = jnp.clip(jnp.where(known, age, 0.0), 0.0, 100.0)
    targets = jnp.maximum(1.0 - jnp.abs(age[:, None] - jnp.arange(101)), 0.0)
    return jnp.where(known, -jnp.sum(targets * outputs, axis=-1), 0.0)


@pytest.mark.parametrize('bounds', [False, True])
@pytest.mark.parametrize(
    ('head', 'former', 'shape'),
    [(RegressionHead(33.0, 20.0), former_regression, (64,)), (DexHead(), former_dex, (64, 101))],
)
def test_losses_of_exact_ages_are_bit_for_bit_what_they_were_before_ranges(
    head, former, shape, bounds
):
    rng = np.random.default_rng(5)
    outputs = jnp.asarray(rng.normal(30, 20, shape), jnp.float32)
    age = rng.uniform(0, 116, 64).astype(np.float32)
    age[::2], age[::9] = np.rint(age[::2]), NAN
    labels = {'age': age, **({'age_min': age, 'age_max': age} if bounds else {})}

    def of_head(outputs):
        values, _ = head.loss(outputs, labels)
        return values.sum(), values

    def of_former(outputs):
        values = former(outputs, jnp.asarray(age))
        return values.sum(), values

    for one in (lambda f: f, jax.jit):
        got = one(jax.value_and_grad(of_head, has_aux=True))(outputs)
        wanted = one(jax.value_and_grad(of_former, has_aux=True))(outputs)
        for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_unknown_regression_loss():
    with pytest.raises(ValueError, match=r"'rmse'.*mse, l1, huber"):
        RegressionHead(33.0, 10.0, kind='rmse').loss(jnp.zeros(1), {'age': jnp.zeros(1)})


# DEX.


def test_dex_loss_by_hand():
    logits = np.random.default_rng(2).normal(size=(6, 101))
    log_p = log_softmax(logits)
    labels = {'age': jnp.array([30.0, 30.25, 0.0, 100.0, 116.0, NAN])}
    values, known = DexHead().loss(jnp.asarray(log_p, jnp.float32), labels)
    expected = [
        -log_p[0, 30],
        -(0.75 * log_p[1, 30] + 0.25 * log_p[1, 31]),
        -log_p[2, 0],
        -log_p[3, 100],
        -log_p[4, 100],  # Older than the last year.
        0,
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert known.tolist() == [1, 1, 1, 1, 1, 0]


def test_dex_predicts_expectation_and_standard_deviation():
    # In float64, by definition, for a distribution of two years and for any.
    probabilities = np.zeros((3, 101))
    probabilities[0, 20], probabilities[0, 40] = 0.75, 0.25
    probabilities[1, 7] = 1
    probabilities[2] = np.exp(log_softmax(3 * np.random.default_rng(3).normal(size=101)))
    with np.errstate(divide='ignore'):
        outputs = jnp.asarray(np.log(probabilities), jnp.float32)
    columns = DexHead().predict(outputs)
    mean = probabilities @ np.arange(101)
    variance = probabilities @ np.arange(101) ** 2 - mean**2
    assert mean[:2].tolist() == [25, 7]
    np.testing.assert_allclose(columns['predicted_age'], mean, rtol=1e-5)
    np.testing.assert_allclose(columns['age_width'], np.sqrt(variance), rtol=1e-4, atol=1e-6)
    assert float(columns['age_width'][0]) == pytest.approx(np.sqrt(75), rel=1e-5)
    np.testing.assert_allclose(columns['age_probabilities'], probabilities, rtol=1e-5)


def test_views_are_averaged_as_what_they_mean():
    rng = np.random.default_rng(4)
    for head, size in ((DexHead(), 101), (GenderHead(), 2)):
        views = log_softmax(2 * rng.normal(size=(3, 5, size)))
        averaged = head.average([jnp.asarray(view, jnp.float32) for view in views])
        np.testing.assert_allclose(np.exp(averaged), np.exp(views).mean(axis=0), rtol=1e-5)
    ages = [jnp.array([10.0, 20.0]), jnp.array([20.0, 50.0])]
    assert RegressionHead(33.0, 10.0).average(ages).tolist() == [15, 35]


# Gender.


def test_gender_log_probabilities():
    kernel = np.arange(16, dtype=np.float32).reshape(8, 2) / 10
    bias = np.array([1.0, -2.0], np.float32)
    params = {'output': {'kernel': kernel, 'bias': bias}}
    got: Any = GenderHead().apply({'params': params}, FEATURES)
    expected = log_softmax(FEATURES @ kernel + bias)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    female = GenderHead().predict(got)['female_probability']
    np.testing.assert_allclose(female, np.exp(expected[:, 1]), rtol=1e-5)


def test_gender_loss_by_hand():
    log_p = jnp.log(jnp.tile(jnp.array([0.25, 0.75]), (3, 1)))
    labels = {'gender': jnp.array([0, 1, -1])}
    values, known = GenderHead().loss(log_p, labels)
    np.testing.assert_allclose(values, [np.log(4), np.log(4 / 3), 0], rtol=1e-6)
    assert known.tolist() == [1, 1, 0]
    values, _ = GenderHead(label_smoothing=0.2).loss(log_p, labels)
    expected = [0.9 * np.log(4) + 0.1 * np.log(4 / 3), 0.1 * np.log(4) + 0.9 * np.log(4 / 3), 0]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


# In runs.


class MedianHead(Head):
    """Says a low and a high age; their middle is the prediction. A dict of outputs."""

    hidden: int = 0

    @nn.compact
    def __call__(self, features):
        x = 10 * dense_layers(features, self.hidden, 2)
        return {'low': 30 + x[:, 0], 'high': 50 + x[:, 1]}

    def loss(self, outputs, labels):
        known = ~jnp.isnan(labels['age'])
        age = jnp.where(known, labels['age'], 0.0)
        values = jnp.abs(outputs['low'] - age) + jnp.abs(outputs['high'] - age)
        return jnp.where(known, values, 0.0), known.astype(jnp.float32)

    def predict(self, outputs):
        return {'predicted_age': (outputs['low'] + outputs['high']) / 2}


def read_rows(folder):
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {name: value for row in rows for name, value in row.items()}


@pytest.mark.long
def test_a_head_of_ones_own_is_one_class_and_one_line(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(heads.AGE_HEADS, 'median', MedianHead)
    config = tiny_config
    config.model.head.age, config.evaluate.flip_average = 'median', True
    state = train_and_evaluate(config, tmp_path)
    assert state.params['age_head']['output']['kernel'].shape == (8, 2)
    row = read_rows(tmp_path)
    # Two errors add up to the distance of the ages, about 20, or more, and to twice their middle's.
    assert row['train/age_loss'] > 15
    assert row['train/age_loss'] >= 2 * row['train/age_mae'] - 1e-4
    rows = read_predictions(tmp_path / 'evaluation' / 'test' / 'predictions.csv')
    error = np.abs(rows['predicted_age'] - rows['age'])
    metrics = json.loads((tmp_path / 'evaluation' / 'test' / 'metrics.json').read_text())
    assert metrics['age/mae'] == pytest.approx(np.nanmean(error), rel=1e-5)
    assert 30 < rows['predicted_age'].mean() < 50


@pytest.mark.long
def test_heads_of_two_kinds_train_and_are_combined_as_distributions(tiny_config, tmp_path):
    config = tiny_config
    config.model.head.age, config.evaluate.flip_average = 'dex', True
    config.evaluate.age_estimate = 'median'
    coral = {'model': {'head': {'age': 'coral', 'hidden': 4}}}
    config.ensemble.groups = {'a': {}, 'b': coral}
    state = train_and_evaluate(config, tmp_path)
    assert state['b'][0].params['age_head']['output']['kernel'].shape == (4, 1)
    row = read_rows(tmp_path)
    assert row['train/member_0/age_loss'] == pytest.approx(np.log(101), abs=0.3)
    rows = read_predictions(tmp_path / 'evaluation' / 'test' / 'predictions.csv')
    # Six steps leave dex with years that are about equally likely (mean 50, deviation
    # sqrt((101^2 - 1) / 12)) and coral at the offset.
    np.testing.assert_allclose(rows['member_0_age_width'], np.sqrt(850), atol=2)
    np.testing.assert_allclose(rows['member_1_age'], 33, atol=4)
    np.testing.assert_allclose(rows['member_1_age_width'], 5, atol=0.5)
    apart = rows['member_1_age'] - 50  # Widths are about means, not medians.
    expected = np.sqrt((850 + rows['member_1_age_width'] ** 2) / 2 + (apart / 2) ** 2)
    np.testing.assert_allclose(rows['age_width'], expected, atol=2)
    # The mean of the members' medians is about 41; half of the mixture is further down.
    assert np.all(rows['predicted_age'] < (rows['member_0_age'] + rows['member_1_age']) / 2 - 2)
    metrics = json.loads((tmp_path / 'evaluation' / 'test' / 'metrics.json').read_text())
    error = np.abs(rows['predicted_age'] - rows['age'])
    assert metrics['age/mae'] == pytest.approx(np.nanmean(error), rel=1e-5)
    assert not [name for name in metrics if 'age_width' in name]
    # What chose the checkpoint is what is evaluated.
    validation = json.loads((tmp_path / 'evaluation' / 'validation' / 'metrics.json').read_text())
    lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    scores = [json.loads(line).get('validation/age/mae', np.inf) for line in lines]
    assert validation['age/mae'] == pytest.approx(min(scores), rel=1e-6)


class FixedDex(nn.Module):
    """Is sure of the year and the gender that the first pixel of an image says."""

    @nn.compact
    def __call__(self, images, *, train):
        del train
        year = jnp.rint(100 * images[:, 0, 0, 0]).astype(int)
        female = images[:, 0, 0, 1]
        return {
            'age': jnp.log(jax.nn.one_hot(year, heads.YEARS)),
            'gender': jnp.log(jnp.stack([1 - female, female], axis=-1)),
        }


# More faces than go through the network with their mirror images at once, and fewer.
@pytest.mark.parametrize('count', [2, 33])
def test_flip_averaging_is_of_probabilities(tiny_config, count):
    config = tiny_config
    config.data.normalization, config.evaluate.flip_average = 'unit', True
    config.data.resize_size = config.data.image_size = 8
    config.model.head.age = 'dex'
    image = np.full((count, 8, 8, 3), 51, np.uint8)  # 20 years, female by 0.2
    image[:, 0, -1] = (153, 102, 0)  # Mirrored 60 years, female by 0.4
    batch = {'image': jnp.asarray(image), 'index': jnp.arange(count)}
    columns = create_predict_step(FixedDex(), config)({}, batch)
    assert set(columns) == {
        *('index', 'predicted_age', 'age_width', 'age_probabilities', 'female_probability')
    }
    np.testing.assert_allclose(columns['predicted_age'], 40, rtol=1e-6)
    np.testing.assert_allclose(columns['age_width'], 20, rtol=1e-6)
    np.testing.assert_allclose(columns['female_probability'], 0.3, rtol=1e-5)
    probabilities = np.zeros((count, 101))
    probabilities[:, [20, 60]] = 0.5
    np.testing.assert_allclose(columns['age_probabilities'], probabilities, rtol=1e-6)

    # Of the two years, which are equally likely, the first.
    config.evaluate.age_estimate = 'mode'
    mode = create_predict_step(FixedDex(), config)({}, batch)['predicted_age']
    np.testing.assert_array_equal(mode, 20)
    config.evaluate.age_estimate = 'mean'

    labels = {'age': jnp.full(count, NAN), 'gender': jnp.ones(count, int)}
    rows = create_eval_step(FixedDex(), config)({}, batch | labels)
    losses = {'age_loss', 'gender_loss'}
    assert set(rows) == set(columns) | losses
    for name in set(rows) - losses:
        np.testing.assert_array_equal(rows[name], columns[name])
    assert np.isnan(rows['age_loss']).all()
    np.testing.assert_allclose(rows['gender_loss'], -np.log(0.3), rtol=1e-5)


def test_one_number_is_its_own_median_and_mode(tiny_config):
    head = {'age': heads.create_heads(tiny_config.model.head)['age']}
    outputs = {'age': jnp.array([20.5, 33.0])}
    for estimate in ('mean', 'median', 'mode'):
        assert heads.predict(head, outputs, estimate)['predicted_age'].tolist() == [20.5, 33.0]


@pytest.mark.long
def test_members_of_different_heads_have_the_columns_that_all_of_them_predict(tiny_config):
    config = tiny_config
    dex = {'model': {'head': {'age': 'dex'}}}
    rng = np.random.default_rng(0)
    batch = devices.shard_batch(
        {
            'image': rng.integers(0, 256, (8, 36, 36, 3)).astype(np.uint8),
            'index': np.arange(8, dtype=np.int32),
        }
    )
    widths: dict[str, Any] = {}
    for name, groups in {'mixed': {'a': dex, 'b': {}}, 'alone': {'a': dex}}.items():
        config.ensemble.groups = groups
        learner = learners.create(config, lambda step: 0.1)
        variables = learner.eval_variables(devices.replicate(learner.create_state()))
        rows = devices.gather_rows([learner.predict_step(variables, batch)])
        widths[name] = rows.get('age_width')
        assert rows['predicted_age'].shape == (8, len(groups))
        # Untrained: dex is at the mean of all years, regression at its offset.
        np.testing.assert_allclose(rows['predicted_age'][:, 0], 50, atol=1)
        if name == 'alone':
            assert rows['age_probabilities'].shape == (8, 101, 1)
            np.testing.assert_allclose(rows['age_probabilities'].sum(axis=1), 1, rtol=1e-5)
        else:
            assert set(rows) == {'index', 'predicted_age', 'female_probability'}
            np.testing.assert_allclose(rows['predicted_age'][:, 1], 33, atol=1)
    assert widths['mixed'] is None
    np.testing.assert_allclose(widths['alone'], np.sqrt(850), atol=1)


def test_a_run_of_before_there_was_a_choice_of_heads_goes_on_by_regression(tiny_config, tmp_path):
    workdir.save_config(tmp_path, tiny_config)
    saved = json.loads((tmp_path / workdir.CONFIG).read_text())
    del saved['model']['head']['age']
    (tmp_path / workdir.CONFIG).write_text(json.dumps(saved))
    workdir.check_continues(tmp_path, tiny_config)
    tiny_config.model.head.age = 'dex'
    with pytest.raises(ValueError, match=r"model\.head\.age is 'regression' there, 'dex' now"):
        workdir.check_continues(tmp_path, tiny_config)


def test_nobody_is_predicted_to_be_younger_than_nothing():
    head = heads.RegressionHead(age_offset=33.0, age_scale=20.0)
    ages = head.predict(jnp.array([-0.82, 0.0, 0.4, jnp.nan]))['predicted_age']
    np.testing.assert_array_equal(ages, np.array([0, 0, 0.4, np.nan], np.float32))
    # Training still learns from how far below.
    labels = {'age': jnp.array([1.0])}
    assert float(head.loss(jnp.array([-19.0]), labels)[0][0]) == 1.0
