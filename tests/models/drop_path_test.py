"""Drop path of the encoders, against blocks whose branches are scaled by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import default_config
from hybrid.models import dlib_resnet, efficientnet, encoders, resnet
from hybrid.models.dropout import Dropout, block_keys, block_rate

pytestmark = pytest.mark.long

IMAGES = jax.random.normal(jax.random.key(0), (16, 16, 16, 3))
KEYS = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(7), jnp.arange(16))
# Name -> (an encoder of two blocks, the second block, the last BatchNorm of its branch).
ENCODERS = {
    'basic': (resnet.ResNet((1, 1), 'basic', width=4), 'layer2_0', 'bn2'),
    'bottleneck': (resnet.ResNet((2,), 'bottleneck', width=4), 'layer1_1', 'bn3'),
    'dlib': (dlib_resnet.DlibResNet(((4, 2, 1),)), 'layer1_1', 'bn2'),
    'lite': (
        efficientnet.EfficientNetLite((efficientnet.Stage(2, 3, 1, 1, 8),), 8, 8),
        'stage1_1',
        'project_bn',
    ),
}


def variables_of(encoder):
    """Parameters and statistics that are all different and that leave no branch at zero."""
    variables = encoder.init(jax.random.key(1), IMAGES, train=False)
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(2)
    return jax.tree.unflatten(tree, [x + rng.uniform(0.5, 0.6, x.shape) for x in leaves])


def with_branch(variables, block, norm, factor):
    """The variables with the branch of a block times a factor."""
    params = dict(variables['params'])
    params[block] = params[block] | {norm: jax.tree.map(lambda x: factor * x, params[block][norm])}
    return variables | {'params': params}


@pytest.mark.parametrize('name', ENCODERS)
def test_an_example_passes_a_block_whole_or_by_its_shortcut_alone(name):
    encoder, block, norm = ENCODERS[name]
    encoder = encoder.clone(frozen_statistics=True)  # so that examples do not see each other
    variables = variables_of(encoder)
    dropping = encoder.clone(drop_path=0.75)

    def dropped():
        return dropping.apply(variables, IMAGES, train=True, dropout_keys=KEYS)

    def with_factor(factor):
        return encoder.apply(with_branch(variables, block, norm, factor), IMAGES, train=True)

    shortcut, whole = with_factor(0.0), with_factor(4.0)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 0.25, (1, 1, 1)))(block_keys(KEYS, 1))
    assert 2 <= kept.sum() <= 14
    assert not np.allclose(shortcut, whole)
    np.testing.assert_allclose(dropped(), jnp.where(kept, whole, shortcut), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', ENCODERS)
def test_evaluation_and_frozen_stages_drop_nothing(name):
    encoder, _, _ = ENCODERS[name]
    dropping, variables = encoder.clone(drop_path=0.75), variables_of(encoder)
    expected = encoder.apply(variables, IMAGES, train=False)
    np.testing.assert_array_equal(dropping.apply(variables, IMAGES, train=False), expected)
    stages = 3 if 'layer2_0' in variables['params'] else 2
    frozen = dropping.clone(frozen_stages=stages, frozen_statistics=True)
    out = frozen.apply(variables, IMAGES, train=True, dropout_keys=KEYS)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize('name', ENCODERS)
def test_training_needs_a_key_for_each_example(name):
    encoder, _, _ = ENCODERS[name]
    with pytest.raises(ValueError, match=r'dropout of rate 0\.75 needs one key per example'):
        encoder.clone(drop_path=0.75).apply(
            variables_of(encoder), IMAGES, train=True, mutable=['batch_stats']
        )


def test_rates_rise_from_block_to_block():
    assert [block_rate(0.3, n, 4) for n in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert block_rate(0.3, 0, 1) == 0


@pytest.mark.parametrize('name', ['resnet18', 'resnet50', 'efficientnet_lite0', 'dlib_resnet'])
def test_the_rate_is_that_of_the_config(name):
    settings = default_config.get_config().model.encoder
    settings.name, settings.drop_path = name, 0.25
    assert encoders.create_module(settings).drop_path == 0.25


def test_blocks_drop_different_examples():
    x = jnp.ones((16, 3, 3, 2))
    masks = [Dropout(0.5, whole=True).apply({}, x, block_keys(KEYS, n), train=True) for n in (0, 1)]
    for mask in masks:
        assert {tuple(np.unique(one)) for one in np.asarray(mask)} == {(0.0,), (2.0,)}
    assert np.any(masks[0] != masks[1])
