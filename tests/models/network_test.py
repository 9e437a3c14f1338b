import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import default_config
from hybrid.models.heads import RegressionHead
from hybrid.models.network import create_model
from hybrid.training.losses import masked_mean

IMAGES = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32)


def model_config(**overrides):
    config = default_config.get_config().model
    config.encoder.update(width=8, stem='medium', zero_init_residual=False)
    config.recurrent.features, config.head.dropout = 16, 0.0
    config.update_from_flattened_dict(overrides)
    return config


def small_model(axis_name=None, **overrides):
    """Two blocks instead of eight, which compile faster."""
    model = create_model(model_config(**overrides), axis_name=axis_name)
    return model.clone(encoder=model.encoder.clone(stage_sizes=(1, 1)))


def init(model, seed=0):
    """Variables drawn by NumPy, which is faster than compiling the draws."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == 'kernel':
            scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5
            return (scale * rng.normal(size=leaf.shape)).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ('scale', 'var'), np.float32)

    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))
    return jax.tree_util.tree_map_with_path(draw, abstract)


def keys(count):
    return jax.random.split(jax.random.key(3), count)


def relative_error(got, expected):
    """Largest over the leaves of max|a - b| / max|b|."""
    errors = jax.tree.map(
        lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max(), got, expected
    )
    return max(jax.tree.leaves(errors))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('cell', ['lstm', 'gru', 'none'])
def test_outputs_and_collections(cell, dtype):
    model = create_model(model_config(**{'recurrent.cell': cell, 'dtype': dtype}))
    outputs, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), IMAGES, train=False)
    )
    assert outputs['age'].shape == (8,)
    assert outputs['gender'].shape == (8, 2)
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs, variables))} == {jnp.dtype('float32')}
    assert set(variables) == {'params', 'batch_stats'}
    parts = {'encoder', 'age_head', 'gender_head'} | ({'recurrent'} if cell != 'none' else set())
    assert set(variables['params']) == parts
    assert set(variables['batch_stats']) == {'encoder'}


def test_composition_equals_its_parts():
    model = small_model(**{'sequence.order': 'column', 'recurrent.bidirectional': True})
    variables = init(model)
    outputs = model.apply(variables, IMAGES, train=False)

    def part(name, x, **kwargs):
        own = {k: v[name] for k, v in variables.items() if name in v}
        return getattr(model, name).clone(parent=None).apply(own, x, **kwargs)

    feature_map = part('encoder', IMAGES, train=False)
    assert feature_map.shape == (8, 4, 4, 16)
    by_column = feature_map.transpose(0, 2, 1, 3).reshape(8, 16, 16)
    features = part('recurrent', by_column)
    assert features.shape == (8, 32)
    assert relative_error(outputs['age'], part('age_head', features)) < 1e-6
    assert relative_error(outputs['gender'], part('gender_head', features)) < 1e-6


@pytest.mark.long
def test_evaluation_needs_neither_an_axis_nor_keys_nor_the_rest_of_the_batch():
    model = small_model('batch', **{'head.dropout': 0.5})
    variables = init(model)
    whole = model.apply(variables, IMAGES, train=False)
    part = model.apply(variables, IMAGES[3:4], train=False)
    assert relative_error(part, jax.tree.map(lambda x: x[3:4], whole)) < 1e-5


def train_step(model):
    """Gradients and new statistics on a batch, summed over the axis where there is one."""
    axis_name = model.encoder.axis_name

    def step(variables, images, target, keys):
        def loss_fn(params):
            outputs, updates = model.apply(
                {'params': params, 'batch_stats': variables['batch_stats']},
                images,
                train=True,
                dropout_keys=keys,
                mutable=['batch_stats'],
            )
            values, mask = RegressionHead(0.0, 20.0).loss(outputs['age'], {'age': target})
            return masked_mean(values, mask, axis_name), (outputs, updates['batch_stats'])

        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (outputs, batch_stats)), gradients = grad_fn(variables['params'])
        if axis_name is not None:
            loss, gradients = jax.lax.psum((loss, gradients), axis_name)
        return outputs, (loss, gradients['encoder']['conv1'], gradients['age_head']), batch_stats

    return step


@pytest.mark.long
def test_devices_do_not_change_a_training_step():
    overrides = {'recurrent.cell': 'gru', 'head.dropout': 0.5, 'encoder.drop_path': 0.5}
    alone, synced = small_model(**overrides), small_model('batch', **overrides)
    variables = init(alone)
    # The first two images are unlike the others, and the labels are unevenly known.
    images = IMAGES * np.array([5, 5, 1, 1, 1, 1, 1, 1], np.float32).reshape(8, 1, 1, 1) + 1
    target = np.array([20, np.nan, np.nan, np.nan, 30, 40, 50, 60], np.float32)
    batch = (images, target, keys(8))
    expected = jax.jit(train_step(alone))(variables, *batch)

    for count in (2, 4):
        mapped = jax.pmap(
            train_step(synced),
            'batch',
            in_axes=(None, 0, 0, 0),
            out_axes=(0, None, None),
            devices=jax.devices()[:count],
        )
        shards = [x.reshape(count, -1, *x.shape[1:]) for x in batch]
        outputs, sums, batch_stats = mapped(variables, *shards)
        outputs = jax.tree.map(lambda x: np.asarray(x).reshape(8, *x.shape[2:]), outputs)
        assert relative_error(outputs, expected[0]) < 1e-5
        assert relative_error(batch_stats, expected[2]) < 1e-5
        assert relative_error(sums, expected[1]) < 1e-5


@pytest.mark.long
def test_parameter_sets_are_vmapped_inside_pmap():
    alone, synced = small_model(), small_model('batch')
    members = [init(alone, seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)

    def apply(model, variables, images):
        return model.apply(variables, images, train=True, mutable=['batch_stats'])

    mapped = jax.pmap(
        jax.vmap(functools.partial(apply, synced), in_axes=(0, None)),
        'batch',
        in_axes=(None, 0),
        out_axes=(0, None),
        devices=jax.devices()[:2],
    )
    outputs, updates = mapped(stacked, IMAGES.reshape(2, 4, 16, 16, 3))
    for k, variables in enumerate(members):
        expected = jax.jit(functools.partial(apply, alone))(variables, IMAGES)
        ages = np.asarray(outputs['age'])[:, k].reshape(8)
        assert relative_error(ages, expected[0]['age']) < 1e-5
        assert relative_error(jax.tree.map(lambda x, k=k: x[k], updates), expected[1]) < 1e-5


def test_dropout_acts_on_the_features_of_the_heads():
    model = small_model(**{'head.dropout': 0.999})
    variables = init(model)

    def apply(**kwargs):
        return model.apply(variables, IMAGES, train=True, mutable=['batch_stats'], **kwargs)[0]

    # Of 8 x 16 features all but a few are dropped, so that the biases (0) are left.
    outputs = apply(dropout_keys=keys(8))
    assert np.mean(np.asarray(outputs['age']) == 33.0) >= 0.5
    with pytest.raises(ValueError, match='one key per example'):
        apply()


@pytest.mark.parametrize('members', [0, 3])
def test_lowered_for_a_gpu_a_training_step_has_convolutions_in_bfloat16(members):
    """The same ones, and as many matrix products, as with XLA's own convolutions."""
    model = small_model(**{'dtype': 'bfloat16', 'encoder.stem': 'imagenet'})
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))
    if members:
        variables = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), variables
        )

    def lower(kernels):
        step = train_step(model.clone(encoder=model.encoder.clone(kernels=kernels)))
        if members:
            step = jax.vmap(step, in_axes=(0, None, None, None))
        traced = jax.jit(step).trace(variables, IMAGES, np.ones(8, np.float32), keys(8))
        return traced.lower(lowering_platforms=('cuda',)).as_text()

    ours, plain = lower('onednn'), lower('xla')
    convolutions = [line for line in ours.splitlines() if 'stablehlo.convolution(' in line]
    # Six layers, the gradients of all inputs but the images, and of the one kernel asked for.
    assert len(convolutions) == 6 + 5 + 1
    for line in convolutions:
        assert line.count('xbf16>') == 3
    for operation in ('convolution(', 'dot_general'):
        assert ours.count(f'stablehlo.{operation}') == plain.count(f'stablehlo.{operation}')
