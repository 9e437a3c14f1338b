import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.models.recurrent import Recurrent

SEQUENCE = np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)


def init(module):
    """Variables drawn by NumPy, with biases that are not zero."""
    rng = np.random.default_rng(1)
    abstract = jax.eval_shape(lambda: module.init(jax.random.key(0), SEQUENCE))
    return jax.tree.map(lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32), abstract)


def apply(module, variables, sequence):
    return np.asarray(module.apply(variables, sequence))


def loop(cell_name, params, sequence, features):
    """Outputs [B, T, F] of a Python loop over the cell."""
    cell = {'lstm': nn.OptimizedLSTMCell, 'gru': nn.GRUCell}[cell_name](features)
    step = jax.jit(lambda carry, x: cell.apply({'params': params}, carry, x))
    zeros = jnp.zeros((sequence.shape[0], features))
    carry = (zeros, zeros) if cell_name == 'lstm' else zeros
    outputs = []
    for t in range(sequence.shape[1]):
        carry, output = step(carry, sequence[:, t])
        outputs.append(output)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_scan_equals_python_loop(cell):
    last = Recurrent(cell=cell, features=6, bidirectional=True, reduce='last')
    mean = Recurrent(cell=cell, features=6, bidirectional=True, reduce='mean')
    variables = init(last)
    forward = loop(cell, variables['params']['forward'], SEQUENCE, 6)
    backward = loop(cell, variables['params']['backward'], SEQUENCE[:, ::-1], 6)
    expected = np.concatenate([forward[:, -1], backward[:, -1]], axis=-1)
    assert np.abs(apply(last, variables, SEQUENCE) - expected).max() <= 1e-6
    expected = np.concatenate([forward.mean(axis=1), backward.mean(axis=1)], axis=-1)
    assert np.abs(apply(mean, variables, SEQUENCE) - expected).max() <= 1e-6
    # Both directions by their positions in the sequence.
    outputs = np.concatenate([forward, backward[:, ::-1]], axis=-1)
    got = apply(mean.clone(reduce='max'), variables, SEQUENCE)
    assert np.abs(got - outputs.max(axis=1)).max() <= 1e-6
    attention = mean.clone(reduce='attention')
    params = init(attention)['params']
    assert params['attention']['kernel'].shape == (12, 1)
    variables['params']['attention'] = params['attention']
    weights = np.exp(outputs @ params['attention']['kernel'])
    expected = (weights / weights.sum(axis=1, keepdims=True) * outputs).sum(axis=1)
    assert np.abs(apply(attention, variables, SEQUENCE) - expected).max() <= 1e-6
    params['attention']['kernel'] *= 0
    got = apply(attention, {'params': variables['params']}, SEQUENCE)
    assert np.abs(got - apply(mean, variables, SEQUENCE)).max() <= 1e-6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_lstm_equals_its_equations():
    module = Recurrent(cell='lstm', features=4)
    variables = init(module)
    p = jax.tree.map(np.float64, variables['params']['forward'])
    c, h = np.zeros((3, 4)), np.zeros((3, 4))
    for t in range(SEQUENCE.shape[1]):
        i, f, g, o = (
            SEQUENCE[:, t] @ p[f'i{gate}']['kernel']
            + h @ p[f'h{gate}']['kernel']
            + p[f'h{gate}']['bias']
            for gate in 'ifgo'
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    assert np.abs(apply(module, variables, SEQUENCE) - h).max() <= 1e-6


def test_gru_equals_its_equations():
    module = Recurrent(cell='gru', features=4)
    variables = init(module)
    p = jax.tree.map(np.float64, variables['params']['forward'])
    h = np.zeros((3, 4))
    for t in range(SEQUENCE.shape[1]):
        r, z, n = (
            SEQUENCE[:, t] @ p[f'i{gate}']['kernel'] + p[f'i{gate}']['bias'] for gate in 'rzn'
        )
        r = sigmoid(r + h @ p['hr']['kernel'])
        z = sigmoid(z + h @ p['hz']['kernel'])
        n = np.tanh(n + r * (h @ p['hn']['kernel'] + p['hn']['bias']))
        h = (1 - z) * n + z * h
    assert np.abs(apply(module, variables, SEQUENCE) - h).max() <= 1e-6


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_one_direction_is_the_forward_half(cell):
    both = Recurrent(cell=cell, features=6, bidirectional=True)
    one = Recurrent(cell=cell, features=6)
    variables = init(both)
    forward = {'params': {'forward': variables['params']['forward']}}
    assert jax.tree.map(np.shape, init(one)) == jax.tree.map(np.shape, forward)
    np.testing.assert_array_equal(
        apply(one, forward, SEQUENCE), apply(both, variables, SEQUENCE)[:, :6]
    )


def test_none_is_the_mean_without_parameters():
    module = Recurrent(cell='none', features=6, bidirectional=True)
    assert module.init(jax.random.key(0), SEQUENCE) == {}
    got = apply(module, {}, SEQUENCE)
    np.testing.assert_allclose(got, SEQUENCE.mean(axis=1), atol=1e-6)


def test_dense_reads_each_position_by_itself():
    module = Recurrent(cell='dense', features=6, bidirectional=True)
    variables = init(module)
    assert jax.tree.map(np.shape, variables) == {
        'params': {'dense': {'kernel': (5, 6), 'bias': (6,)}}
    }
    layer = variables['params']['dense']
    outputs = np.tanh(SEQUENCE @ layer['kernel'] + layer['bias'])
    assert np.abs(apply(module, variables, SEQUENCE) - outputs.mean(axis=1)).max() <= 1e-6
    got = apply(module.clone(reduce='max'), variables, SEQUENCE)
    assert np.abs(got - outputs.max(axis=1)).max() <= 1e-6


def test_none_may_take_the_maximum_or_attend():
    sequence = np.array([[[0.0, 4.0], [np.log(3), 8.0]]], np.float32)
    np.testing.assert_array_equal(
        apply(Recurrent(cell='none', reduce='max'), {}, sequence), sequence[:, 1]
    )
    # By the first channel the patches weigh 1 to 3; at first it is their mean.
    module = Recurrent(cell='none', reduce='attention')
    variables = {'params': {'attention': {'kernel': np.array([[1.0], [0.0]], np.float32)}}}
    np.testing.assert_allclose(
        apply(module, variables, sequence), [[0.75 * np.log(3), 7.0]], rtol=1e-6
    )
    begun = module.init(jax.random.key(0), sequence)
    np.testing.assert_allclose(apply(module, begun, sequence), sequence.mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize('cell', ['lstm', 'gru', 'none'])
def test_bfloat16_gives_float32(cell):
    module = Recurrent(cell=cell, features=6, dtype=jnp.bfloat16)
    variables = init(module)
    got = apply(module, variables, SEQUENCE.astype(jnp.bfloat16))
    assert got.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {jnp.dtype('float32')}
    exact = apply(Recurrent(cell=cell, features=6), variables, SEQUENCE)
    assert 0 < np.abs(got - exact).max() < 0.03


def test_unknown_values():
    with pytest.raises(ValueError, match=r"'rnn'.*lstm, gru, dense, none"):
        Recurrent(cell='rnn').init(jax.random.key(0), SEQUENCE)
    with pytest.raises(ValueError, match=r"'median'.*last, mean, max, attention"):
        Recurrent(reduce='median').init(jax.random.key(0), SEQUENCE)
