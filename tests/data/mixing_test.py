import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import devices
from hybrid.data import mixing
from hybrid.data.draws import Ranges
from hybrid.models.heads.regression import RegressionHead

BATCH, SIZE = 8, 10
BOTH = Ranges(mixup=0.5, cutmix=1.0, share=1.0)


def batch(order=range(BATCH)):
    rng = np.random.default_rng(0)
    age = np.arange(BATCH, dtype=np.float32) * 10
    age[3] = np.nan
    columns = {
        'age': age,
        'mask': np.ones(BATCH, np.float32),
        'position': np.arange(BATCH, dtype=np.int32),
    }
    images = rng.random((BATCH, SIZE, SIZE, 3), np.float32)
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), BATCH))
    order = np.array(order)
    return images[order], {n: c[order] for n, c in columns.items()}, np.asarray(keys)[order]


def mix(count, ranges, order=range(BATCH)):
    """Mixes on so many devices."""
    images, columns, keys = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch(order))

    def step(images, columns, keys):
        mixture = mixing.mix(images, columns, jax.random.wrap_key_data(keys), ranges)
        return mixture.images, mixture.labels, mixture.other, mixture.share

    mapped = jax.pmap(step, axis_name=devices.AXIS, devices=jax.devices()[:count])
    mixed = jax.tree.map(
        lambda x: np.asarray(x).reshape(BATCH, *x.shape[2:]), mapped(images, columns, keys)
    )
    back = np.argsort(np.array(order))
    return mixing.Mixture(*jax.tree.map(lambda x: x[back], mixed))


@pytest.fixture(scope='module')
def mixture():
    return mix(1, BOTH)


def test_the_other_example_is_the_next_of_the_batch(mixture):
    images, columns, _ = batch()
    np.testing.assert_array_equal(mixture.other['age'], np.roll(columns['age'], -1))
    np.testing.assert_array_equal(mixture.labels['age'], columns['age'])
    others = np.roll(images, -1, axis=0)
    # Shares by pixel, found again: the same everywhere, or 0 and 1.
    found = ((mixture.images - images) / (others - images)).mean(axis=-1)
    spread = found.max(axis=(1, 2)) - found.min(axis=(1, 2))
    is_mixup, is_cutmix = spread < 0.05, spread > 0.95
    assert (is_mixup ^ is_cutmix).all()
    assert is_mixup.any()
    assert is_cutmix.any()
    np.testing.assert_allclose(found.mean(axis=(1, 2)), mixture.share, atol=1e-2)


def test_neither_devices_nor_the_place_change_what_is_mixed(mixture):
    orders = {2: range(BATCH), 4: [0, 2, 4, 6, 1, 3, 5, 7]}  # The latter as of two processes.
    for count, order in orders.items():
        other = mix(count, BOTH, order)
        jax.tree.map(np.testing.assert_array_equal, vars(other), vars(mixture))


def draw(ranges, count=2000):
    function = jax.jit(lambda keys: mixing.draw_weights(keys, SIZE, ranges))
    return np.asarray(function(jax.random.split(jax.random.key(1), count)))


def test_shares_are_drawn_from_beta_and_the_example_keeps_the_larger():
    share = draw(Ranges(mixup=2.0, share=1.0)).mean(axis=(1, 2))
    assert 0.45 < share.max() <= 0.5
    # Of min(x, 1 - x) for x of Beta(2, 2): 1/2 - 3/16.
    assert share.mean() == pytest.approx(5 / 16, abs=0.01)
    some = draw(Ranges(mixup=2.0, share=0.3)).mean(axis=(1, 2))
    assert (some > 0).mean() == pytest.approx(0.3, abs=0.03)


def test_cutmix_pastes_a_rectangle_of_the_share():
    weight = draw(Ranges(cutmix=1.0, share=1.0))
    assert set(np.unique(weight)) == {0, 1}
    rows, columns = weight.max(axis=2).sum(axis=1), weight.max(axis=1).sum(axis=1)
    np.testing.assert_array_equal(rows * columns, weight.sum(axis=(1, 2)))
    np.testing.assert_allclose(rows, columns, atol=1)
    # Of a uniform number, or 1 less it, the smaller one: a quarter on average.
    assert weight.mean() == pytest.approx(0.25, abs=0.02)


def test_losses_count_both_labels_by_their_shares(mixture):
    head = RegressionHead(0.0, 1.0, kind='l1')
    outputs = jnp.full(BATCH, 30.0)
    losses, weights = mixture.losses(lambda labels: head.loss(outputs, labels))
    own, other = np.split(np.asarray(losses), 2)
    age = batch()[1]['age']
    known = ~np.isnan(age)
    np.testing.assert_allclose(own, np.where(known, np.abs(30 - age), 0))
    np.testing.assert_array_equal(other, np.roll(own, -1))
    np.testing.assert_allclose(weights[:BATCH], known * (1 - mixture.share), rtol=1e-6)
    np.testing.assert_allclose(weights[BATCH:], np.roll(known, -1) * mixture.share, rtol=1e-6)
