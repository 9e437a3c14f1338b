"""Heads that predict a distribution of ages: losses and predictions by hand, and what all share."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from hybrid import default_config
from hybrid.models import heads
from hybrid.models.heads import YEARS, coral, corn, laplace, ldl
from hybrid.models.heads.distribution import prior_logits

NAN = float('nan')
YEAR = np.arange(YEARS)
FEATURES = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
LDL_LEARNED = 'ldl with a learned width'
# Those whose loss is the negative logarithm of the probability of what is known; it is weighted by
# the scale for laplace.
LIKELIHOOD = ('dex', 'corn', 'laplace')
# Those whose loss is in units of config.model.head.age_scale, 20 years.
SCALED = ('ldl', LDL_LEARNED, 'mean_variance', 'coral')

# Exact, between two years, a range, a range without an end, above the last year, unknown.
LABELS = {
    'age': np.array([30, 30.25, NAN, NAN, 116, NAN], np.float32),
    'age_min': np.array([30, 30.25, 20, 70, 116, NAN], np.float32),
    'age_max': np.array([30, 30.25, 29, np.inf, 116, NAN], np.float32),
}
# Exact ones.
AGES = np.array([[0, 1, 30, 99, 100, 116], [50, 20, 0, 70, 33, 100]], np.float32)


def create(name):
    config = default_config.get_config()
    if name == LDL_LEARNED:
        name, config.model.head.label_width = 'ldl', 0.0
    config.model.head.age = name
    return heads.create_heads(config.model.head, config.loss)['age']


every_head = pytest.mark.parametrize(
    'name', [*(name for name in heads.AGE_HEADS if name != 'regression'), LDL_LEARNED]
)


@functools.cache
def study(name):
    """What a head does with three sets of random parameters, in one program.

    Returns:
      A dict; `outputs`, `columns` (its predictions), `values`, `known` and `of_outputs` (the
      gradient of the losses by the outputs) have a leading axis of the three.
    """
    head = create(name)

    def draw(key):
        params: Any = head.init(key, FEATURES)
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(key, len(leaves))
        leaves = [x + jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, leaves)

    def total(outputs, labels=LABELS):
        values, known = head.loss(outputs, labels)
        return values.sum(), (values, known)

    def of_one(params):
        outputs = head.apply(params, FEATURES)
        gradient, (values, known) = jax.grad(total, has_aux=True)(outputs)
        columns = head.predict(outputs)
        return {
            **{'outputs': outputs, 'columns': columns, 'of_outputs': gradient},
            **{'values': values, 'known': known},
        }

    def unknown(params):
        nothing = {key: np.full(6, NAN, np.float32) for key in LABELS}
        return total(head.apply(params, FEATURES.astype(jnp.bfloat16)), nothing)[0]

    def sure(params, factor):
        labels = {'age': np.array([0, 1, 50, 99, 100, 30], np.float32)}

        def loss(features):
            return total(head.apply(params, features), labels)[0]

        value, gradient = jax.value_and_grad(loss)(factor * FEATURES)
        columns = head.predict(head.apply(params, factor * FEATURES))
        return value, gradient, columns['age_probabilities'].sum(axis=1)

    @jax.jit
    def program():
        keys = jax.random.split(jax.random.key(0), 3)
        params = jax.vmap(draw)(keys)
        first = jax.tree.map(lambda x: x[0], params)
        found = jax.vmap(of_one)(params)
        views = [jax.tree.map(lambda x, k=k: x[k], found['outputs']) for k in range(3)]
        mixture = head.average(views)
        everything = {'age': np.full(6, NAN), 'age_min': np.zeros(6), 'age_max': np.full(6, np.inf)}
        return found | {
            'alone': {'columns': head.predict(views[0]), 'values': head.loss(views[0], LABELS)[0]},
            'mixture': head.predict(mixture),
            'mixture_values': head.loss(mixture, LABELS)[0],
            'unknown': jax.value_and_grad(unknown)(first),
            'sure': jax.vmap(sure, (None, 0))(first, jnp.array([100.0, 1e3, -1e3])),
            'anything': head.loss(views[0], everything)[0],
            'years': jax.vmap(lambda age: head.loss(views[0], {'age': age})[0])(AGES),
        }

    return jax.tree.map(np.asarray, program())


def weight(name, outputs):
    """What the likelihood is multiplied by."""
    if name == 'laplace':
        return np.exp(outputs['log_scale']).mean(axis=-1) / 20
    return np.full(6, 1 / 20 if name in SCALED else 1)


def shares(age):
    """An age as probabilities of years: of two, if it is between them."""
    return np.maximum(1 - np.abs(min(age, 100) - YEAR), 0)


# What all have in common.


@every_head
def test_predictions_are_distributions(name):
    columns = study(name)['columns']
    p = columns['age_probabilities'].astype(np.float64)
    assert p.shape == (3, 6, YEARS)
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-5)
    assert {column.dtype for column in columns.values()} == {np.dtype('float32')}
    if name != 'laplace':  # Of which some lies beyond the first and the last year.
        mean = p @ YEAR
        np.testing.assert_allclose(columns['predicted_age'], mean, rtol=1e-4)
        deviation = np.sqrt(p @ YEAR**2 - mean**2)
        np.testing.assert_allclose(columns['age_width'], deviation, rtol=1e-3)


@every_head
def test_what_is_unknown_has_no_loss_and_no_gradient(name):
    found = study(name)
    assert found['known'].tolist() == [[1, 1, 1, 1, 1, 0]] * 3
    assert found['values'].dtype == found['known'].dtype == np.float32
    assert not found['values'][:, 5].any()
    assert np.all(found['values'][:, :5] > 0)
    for x in jax.tree.leaves(found['of_outputs']):
        assert np.isfinite(x).all()
        assert not x[:, 5].any()
    value, gradient = found['unknown']
    assert value == 0
    for x in jax.tree.leaves(gradient):
        np.testing.assert_array_equal(x, np.zeros(x.shape))


@every_head
def test_the_loss_of_a_range(name):
    found = study(name)
    values = found['values'][0]
    if name == 'coral':
        logits = found['outputs'][0].astype(np.float64)
        # Yes below 20, no from 29 on, and nothing about the years between; and yes below 70.
        expected = np.log1p(np.exp(-logits[2, :20])).sum() + np.log1p(np.exp(logits[2, 29:])).sum()
        np.testing.assert_allclose(values[2], expected / 20, rtol=1e-4)
        expected = np.log1p(np.exp(-logits[3, :70])).sum()
        np.testing.assert_allclose(values[3], expected / 20, rtol=1e-4)
    else:
        p = found['columns']['age_probabilities'][0].astype(np.float64)
        expected = -np.log([p[2, 20:30].sum(), p[3, 70:].sum()])
        outputs = jax.tree.map(lambda x: x[0], found['outputs'])
        np.testing.assert_allclose(values[2:4], weight(name, outputs)[2:4] * expected, rtol=1e-4)
    # To be of any age says nothing.
    np.testing.assert_allclose(found['anything'], 0, atol=1e-5)


@pytest.mark.parametrize('name', LIKELIHOOD)
def test_the_loss_of_a_likelihood_is_of_the_probability_that_is_predicted(name):
    found = study(name)
    p = found['columns']['age_probabilities'][0].astype(np.float64)
    wanted = p[np.arange(6), np.minimum(AGES, 100).astype(int)]
    outputs = jax.tree.map(lambda x: x[0], found['outputs'])
    expected = -np.log(wanted) * weight(name, outputs)
    np.testing.assert_allclose(found['years'], expected, rtol=1e-4, atol=1e-5)


@every_head
def test_an_average_is_the_mixture(name):
    found = study(name)
    mixture, each = found['mixture'], found['columns']
    for column in ('age_probabilities', 'predicted_age'):
        np.testing.assert_allclose(mixture[column], each[column].mean(axis=0), rtol=1e-3, atol=1e-6)
    # The law of total variance.
    variance = np.square(each['age_width']).mean(axis=0) + each['predicted_age'].var(axis=0)
    np.testing.assert_allclose(mixture['age_width'], np.sqrt(variance), rtol=1e-3)
    assert np.isfinite(found['mixture_values']).all()
    if name in LIKELIHOOD:
        weights = np.mean(
            [weight(name, jax.tree.map(lambda x, k=k: x[k], found['outputs'])) for k in range(3)],
            axis=0,
        )
        expected = -np.log(mixture['age_probabilities'][0, 30]) * weights[0]
        np.testing.assert_allclose(found['mixture_values'][0], expected, rtol=1e-4)


@every_head
def test_members_side_by_side_are_what_each_is_alone(name):
    found = study(name)
    alone = found['alone']
    for key in alone:
        for ours, theirs in zip(
            jax.tree.leaves(found[key]), jax.tree.leaves(alone[key]), strict=True
        ):
            np.testing.assert_allclose(ours[0], theirs, rtol=1e-3, atol=1e-5)


@every_head
def test_nothing_overflows_however_sure_the_network_is(name):
    values, gradients, sums = study(name)['sure']
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()
    np.testing.assert_allclose(sums, 1, rtol=1e-4)


@pytest.mark.parametrize(
    ('name', 'width'), [('coral', 5.0), ('mean_variance', 5.0), ('corn', 20.0), ('laplace', 20.0)]
)
def test_training_starts_about_the_offset(name, width):
    head = create(name)
    columns = jax.jit(lambda key: head.predict(head.init_with_output(key, FEATURES)[0]))(
        jax.random.key(0)
    )
    np.testing.assert_allclose(columns['predicted_age'], 33, atol=1.5)
    # Corn's, of which nobody is younger than 0, is a little narrower.
    np.testing.assert_allclose(columns['age_width'], width, rtol=0.08)


# Each by hand, in float64.


def log_softmax(seed, spread=1.0):
    x = spread * np.random.default_rng(seed).normal(size=(6, YEARS))
    return x - special.logsumexp(x, axis=1, keepdims=True)


def test_ldl_by_hand():
    log_p = log_softmax(1)
    outputs = {'log_probabilities': jnp.asarray(log_p, jnp.float32)}
    gaussian = stats.norm(30, 2.0).pdf(YEAR)
    gaussian /= gaussian.sum()
    divergence = (special.xlogy(gaussian, gaussian) - gaussian * log_p[0]).sum()
    error = abs(np.exp(log_p[0]) @ YEAR - 30)
    fixed = ldl.LdlHead(label_width=2.0, expectation_weight=0.5, age_scale=10.0)
    values, _ = jax.jit(fixed.loss)(outputs | {'label_width': jnp.full(6, 2.0)}, LABELS)
    assert float(values[0]) == pytest.approx((divergence + 0.5 * error) / 10, rel=1e-5)
    # An age between two years is no less the middle of a Gaussian.
    gaussian = stats.norm(30.25, 2.0).pdf(YEAR)
    gaussian /= gaussian.sum()
    divergence = (special.xlogy(gaussian, gaussian) - gaussian * log_p[1]).sum()
    between = abs(np.exp(log_p[1]) @ YEAR - 30.25)
    assert float(values[1]) == pytest.approx((divergence + 0.5 * between) / 10, rel=1e-5)


def test_a_learned_width_of_ldl_comes_from_the_errors_alone():
    head = ldl.LdlHead(label_width=0.0)
    log_p = jnp.asarray(log_softmax(1), jnp.float32)
    width = jnp.linspace(1.0, 6.0, 6)

    def gradients(head):
        def loss(log_p, width):
            outputs = {'log_probabilities': log_p, 'label_width': width}
            return head.loss(outputs, LABELS)[0].sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(log_p, width)

    of_p, of_width = gradients(head)
    # Of log(w) + e^2 / (2 w^2); there is none of ranges.
    error = np.exp(np.asarray(log_p[:2], np.float64)) @ YEAR - [30, 30.25]
    expected = 1 / width[:2] - error**2 / width[:2] ** 3
    np.testing.assert_allclose(of_width[:2], expected, rtol=1e-4)
    assert not of_width[2:4].any()
    # Were the width a fixed one, years would learn the same.
    fixed_p, fixed_width = gradients(dataclasses.replace(head, label_width=1.0))
    np.testing.assert_allclose(of_p, fixed_p, rtol=1e-5, atol=1e-7)
    assert not fixed_width.any()


def test_mean_variance_by_hand():
    log_p = log_softmax(2)
    p = np.exp(log_p)
    mean = p @ YEAR
    variance = p @ YEAR**2 - mean**2
    outputs = jnp.asarray(log_p, jnp.float32)
    values, _ = jax.jit(heads.MeanVarianceHead().loss)(outputs, LABELS)
    for k, age in ((0, 30.0), (1, 30.25), (4, 100.0)):
        entropy = -shares(age) @ log_p[k]
        moments = 0.2 / 2 * (mean[k] - age) ** 2 + 0.05 * variance[k]
        assert float(values[k]) == pytest.approx((entropy + moments) / 20, rel=1e-5)
    config = default_config.get_config()
    config.loss.mean_weight, config.loss.variance_weight = 0.3, 0.1
    head = heads.MeanVarianceHead.from_config(config.model.head, config.loss)
    assert (head.mean_weight, head.variance_weight, head.age_scale) == (0.3, 0.1, 20.0)


def test_coral_by_hand():
    logits = np.sort(3 * np.random.default_rng(3).normal(size=(6, YEARS - 1)))[:, ::-1]
    outputs = jnp.asarray(logits, jnp.float32)
    values, _ = jax.jit(coral.CoralHead(33.0, 20.0).loss)(outputs, LABELS)
    older = special.expit(logits)
    for k, age in ((0, 30.0), (1, 30.25), (4, 100.0)):
        yes = np.clip(age - YEAR[:-1], 0, 1)  # A quarter of a yes to 'older than 30' at 30.25.
        expected = -(yes * np.log(older[k]) + (1 - yes) * np.log1p(-older[k])).sum() / 20
        assert float(values[k]) == pytest.approx(expected, rel=1e-5)
    p = jax.jit(coral.CoralHead(33.0, 20.0).predict)(outputs)['age_probabilities']
    expected = -np.diff(older, prepend=1, append=0)
    np.testing.assert_allclose(p, expected, rtol=1e-3, atol=1e-9)


def test_coral_ranks_are_consistent_whatever_the_biases_are_on_the_way():
    head = coral.CoralHead(33.0, 20.0)
    params: Any = head.init(jax.random.key(0), FEATURES)
    falling = params['params']['biases']
    np.testing.assert_allclose(falling, prior_logits(33.0, 5.0), rtol=1e-6)
    wanted = np.asarray(head.apply(params, FEATURES))
    assert np.all(np.diff(wanted) < 0)
    mixed = jax.random.permutation(jax.random.key(1), falling)
    params['params']['biases'] = mixed
    np.testing.assert_array_equal(head.apply(params, FEATURES), wanted)
    params['params']['log_sharpness'] = jnp.float32(np.log(2) / 3)
    sharper = np.asarray(head.apply(params, FEATURES))
    np.testing.assert_allclose(sharper, 2 * wanted, rtol=1e-5)


def test_corn_by_hand():
    logits = 2 * np.random.default_rng(4).normal(size=(6, YEARS - 1)) + 3
    older = np.cumprod(special.expit(logits), axis=1)
    assert np.all(np.diff(older) < 0)
    log_p = jax.jit(corn.log_probabilities)(jnp.asarray(logits, jnp.float32))
    p = -np.diff(older, prepend=1, append=0)
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-4, atol=1e-7)
    # The classifiers that are asked of age 30: 'older than 0' to 'older than 29', and 30 itself.
    asked = np.log(special.expit(logits[0, :30])).sum() + np.log(special.expit(-logits[0, 30]))
    values, _ = jax.jit(corn.CornHead().loss)(log_p, LABELS)
    assert float(values[0]) == pytest.approx(-asked, rel=1e-5)


def test_corn_starts_with_the_logistic_distribution():
    logits = prior_logits(33.0, 20.0)
    log_p = jax.jit(corn.log_probabilities)(
        jnp.asarray(corn.prior_conditionals(logits)[None], jnp.float32)
    )
    older = special.expit(logits)
    scale = 20 * np.sqrt(3) / np.pi
    np.testing.assert_allclose(older, stats.logistic(33, scale).sf(YEAR[:-1] + 0.5), rtol=1e-9)
    np.testing.assert_allclose(
        np.exp(log_p[0]), -np.diff(older, prepend=1, append=0), rtol=1e-4, atol=1e-8
    )


def test_laplace_by_hand():
    location = np.array([30.2, 30.2, 25.0, 60.0, 90.0, 7.0])
    scale = np.array([0.05, 3.0, 4.0, 8.0, 500.0, 1.0])
    outputs = {
        'location': jnp.asarray(location[:, None], jnp.float32),
        'log_scale': jnp.asarray(np.log(scale)[:, None], jnp.float32),
    }
    head = laplace.LaplaceHead(33.0, 20.0)
    each = stats.laplace(location, scale)
    start = np.array([29.5, 29.75, 19.5, 69.5, 99.5, 0])
    end = np.array([30.5, 30.75, 29.5, np.inf, np.inf, 1])
    # Of symmetric tails: 1 - cdf loses digits.
    mass = np.where(
        start > location, each.sf(start) - each.sf(end), each.cdf(end) - each.cdf(start)
    )
    values, _ = jax.jit(head.loss)(outputs, LABELS)
    expected = -np.log(mass) * scale / 20
    np.testing.assert_allclose(values[:5], expected[:5], rtol=1e-4, atol=1e-6)
    known: Any = LABELS
    slope = jax.jit(jax.grad(lambda x: head.loss(outputs | {'location': x}, known)[0].sum()))
    slopes = np.asarray(slope(outputs['location']))[:, 0]
    # As by the absolute error in units of 20 years: 70+ is above 60, and 20-29 holds 25.
    assert slopes[3] == pytest.approx(-1 / 20, rel=1e-3)
    assert abs(slopes[2]) < 0.1 / 20
    columns = jax.jit(head.predict)(outputs)
    np.testing.assert_allclose(columns['predicted_age'], location, rtol=1e-6)
    np.testing.assert_allclose(columns['age_width'], each.std(), rtol=1e-5)
    ends = np.concatenate([[-np.inf], YEAR[:-1] + 0.5, [np.inf]])
    expected = np.diff(
        [stats.laplace(m, b).cdf(ends) for m, b in zip(location, scale, strict=True)]
    )
    np.testing.assert_allclose(columns['age_probabilities'], expected, rtol=1e-4, atol=1e-6)


def test_laplace_says_nothing_below_0():
    outputs = {'location': jnp.array([[-3.0]]), 'log_scale': jnp.array([[0.0]])}
    head = laplace.LaplaceHead(33.0, 20.0)
    columns = jax.jit(head.predict)(outputs)
    assert columns['predicted_age'].tolist() == [0]
    first = stats.laplace(-3, 1).cdf(0.5)
    assert float(columns['age_probabilities'][0, 0]) == pytest.approx(first, rel=1e-6)
    values, _ = jax.jit(head.loss)(outputs, {'age': jnp.array([0.0])})
    assert float(values[0]) == pytest.approx(-np.log(first) / 20, rel=1e-4)


def test_losses_are_those_of_coral_pytorch():
    theirs = pytest.importorskip('coral_pytorch.losses')
    torch = pytest.importorskip('torch')
    levels_from_labelbatch = pytest.importorskip('coral_pytorch.dataset').levels_from_labelbatch
    rng = np.random.default_rng(5)
    logits = (3 * rng.normal(size=(6, YEARS - 1))).astype(np.float32)
    years = np.array([0, 1, 30, 62, 99, 100])
    labels = {'age': years.astype(np.float32)}

    wanted = theirs.coral_loss(
        torch.tensor(logits), levels_from_labelbatch(torch.tensor(years), YEARS), reduction=None
    )
    values, _ = jax.jit(coral.CoralHead(33.0, 20.0).loss)(jnp.asarray(logits), labels)
    np.testing.assert_allclose(20 * values, wanted.numpy(), rtol=1e-5)

    # Theirs is divided by the number of classifiers that are asked, which at age y are y + 1.
    asked = np.minimum(years + 1, YEARS - 1).sum()
    wanted = theirs.corn_loss(torch.tensor(logits), torch.tensor(years), YEARS) * asked
    values, _ = jax.jit(corn.CornHead().loss)(
        jax.jit(corn.log_probabilities)(jnp.asarray(logits)), labels
    )
    assert float(values.sum()) == pytest.approx(float(wanted), rel=1e-5)


def test_laplace_says_no_age_beyond_the_years():
    outputs = {'location': jnp.array([[110.0], [-5.0]]), 'log_scale': jnp.zeros((2, 1))}
    found = laplace.LaplaceHead(33.0, 20.0).predict(outputs)
    assert found['predicted_age'].tolist() == [YEARS - 1, 0]
