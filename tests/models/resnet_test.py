import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.models import resnet

IMAGES = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)


def make(name='resnet18', **kwargs):
    stage_sizes, block = resnet.ENCODERS[name]
    return resnet.ResNet(stage_sizes=stage_sizes, block=block, **kwargs)


def abstract_init(model, size=64):
    images = jnp.zeros((1, size, size, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def random_variables(model, size):
    """Variables in which no scale, bias, mean or variance has its initial value."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        positive = path[-1].key in ('scale', 'var')
        low, high = (0.5, 1.5) if positive else (-0.5, 0.5)
        return rng.uniform(low, high, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, abstract_init(model, size))


# The network once more, in NumPy, from torchvision's description.


def numpy_windows(x, size, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return windows[:, ::stride, ::stride]


def numpy_conv(x, kernel, stride):
    size = kernel.shape[0]
    pad = size // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return np.einsum('bijcyx,yxcf->bijf', numpy_windows(x, size, stride), kernel)


def numpy_max_pool(x):
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    return numpy_windows(x, 3, 2).max(axis=(-2, -1))


def numpy_bn(x, params, stats):
    x = (x - stats['mean']) / np.sqrt(stats['var'] + 1e-5)
    return x * params['scale'] + params['bias']


def numpy_block(x, params, stats, strides):
    y = x
    for index, stride in enumerate(strides, start=1):
        y = numpy_conv(y, params[f'conv{index}']['kernel'], stride)
        y = numpy_bn(y, params[f'bn{index}'], stats[f'bn{index}'])
        if index < len(strides):
            y = np.maximum(y, 0)
    if 'downsample_conv' in params:
        x = numpy_conv(x, params['downsample_conv']['kernel'], max(strides))
        x = numpy_bn(x, params['downsample_bn'], stats['downsample_bn'])
    return np.maximum(x + y, 0)


def numpy_resnet(x, variables, layers, stem_stride, pooled):
    params, stats = variables['params'], variables['batch_stats']
    x = numpy_conv(x, params['conv1']['kernel'], stem_stride)
    x = np.maximum(numpy_bn(x, params['bn1'], stats['bn1']), 0)
    if pooled:
        x = numpy_max_pool(x)
    for name, strides in layers:
        x = numpy_block(x, params[name], stats[name], strides)
    return x


BASIC = [('layer1_0', (1, 1)), ('layer1_1', (1, 1)), ('layer2_0', (2, 1)), ('layer2_1', (1, 1))]
BOTTLENECK = [
    ('layer1_0', (1, 1, 1)),
    ('layer1_1', (1, 1, 1)),
    ('layer2_0', (1, 2, 1)),
    ('layer2_1', (1, 1, 1)),
]
V1 = [*BOTTLENECK[:2], ('layer2_0', (2, 1, 1)), BOTTLENECK[3]]


@pytest.mark.long
@pytest.mark.parametrize(
    ('block', 'bottleneck_stride', 'layers'),
    [('basic', '3x3', BASIC), ('bottleneck', '3x3', BOTTLENECK), ('bottleneck', '1x1', V1)],
)
@pytest.mark.parametrize(
    ('stem', 'stem_stride', 'pooled'),
    [('imagenet', 2, True), ('medium', 2, False), ('small', 1, False)],
)
def test_forward_equals_numpy(block, bottleneck_stride, layers, stem, stem_stride, pooled):
    model = resnet.ResNet((2, 2), block, width=2, bottleneck_stride=bottleneck_stride, stem=stem)
    variables = random_variables(model, 14)
    images = np.random.default_rng(1).normal(size=(2, 14, 14, 3)).astype(np.float32)
    got = np.asarray(model.apply(variables, images, train=False))
    expected = numpy_resnet(images.astype(np.float64), variables, layers, stem_stride, pooled)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        # torchvision's counts less its fully connected layer.
        ('resnet18', 11_689_512 - 513_000),
        ('resnet34', 21_797_672 - 513_000),
        ('resnet50', 25_557_032 - 2_049_000),
        ('resnet101', 44_549_160 - 2_049_000),
    ],
)
def test_parameter_count_is_torchvisions(name, count):
    params = abstract_init(make(name))['params']
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(
    ('name', 'stem', 'size', 'expected'),
    [
        ('resnet18', 'imagenet', 224, (7, 7, 64)),
        ('resnet18', 'imagenet', 200, (7, 7, 64)),
        ('resnet18', 'imagenet', 96, (3, 3, 64)),
        ('resnet18', 'medium', 64, (4, 4, 64)),
        ('resnet34', 'small', 64, (8, 8, 64)),
        ('resnet50', 'imagenet', 65, (3, 3, 256)),
    ],
)
def test_feature_map_shape(name, stem, size, expected):
    model = make(name, width=8, stem=stem)
    images = jnp.zeros((2, size, size, 3))
    out, _ = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), images, train=False))
    assert out.shape == (2, *expected)


@pytest.mark.parametrize(('block', 'last_bn'), [('basic', 'bn2'), ('bottleneck', 'bn3')])
def test_zero_init_residual_starts_blocks_as_the_identity(block, last_bn):
    @functools.partial(jax.jit, static_argnums=0)
    def scales(zero_init):
        model = resnet.ResNet((1, 1), block, width=2, zero_init_residual=zero_init)
        params = model.init(jax.random.key(0), IMAGES, train=False)['params']
        names = ('layer1_0', 'layer2_0')
        return [[params[n][bn]['scale'] for n in names] for bn in ('bn1', last_bn)]

    for zero_init, expected in ((True, 0), (False, 1)):
        first, last = scales(zero_init)
        assert all(np.all(scale == 1) for scale in first)
        assert all(np.all(scale == expected) for scale in last)


def test_convolutions_start_he_normal_by_fan_out():
    conv = resnet.conv(128, 3, 1, dtype=jnp.float32, name='conv')
    kernel = conv.init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))['params']['kernel']
    assert np.std(kernel) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)
    assert np.abs(kernel).max() > 4 * np.std(kernel)  # not truncated


def test_batch_statistics_follow_the_batch():
    model = resnet.ResNet(stage_sizes=(), width=4, stem='small')
    variables = random_variables(model, 16)
    _, updates = model.apply(variables, IMAGES, train=True, mutable=['batch_stats'])
    x = numpy_conv(IMAGES.astype(np.float64), variables['params']['conv1']['kernel'], 1)
    old, new = variables['batch_stats']['bn1'], updates['batch_stats']['bn1']
    mean = 0.9 * old['mean'] + 0.1 * x.mean(axis=(0, 1, 2))
    var = 0.9 * old['var'] + 0.1 * x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(new['mean'], mean, atol=1e-6)
    np.testing.assert_allclose(new['var'], var, rtol=1e-5)


@pytest.mark.long
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_variables():
    def apply(dtype):
        model = resnet.ResNet(stage_sizes=(1, 1), width=4, stem='small', dtype=dtype)
        variables = random_variables(model, 16)
        out, updates = model.apply(variables, IMAGES, train=True, mutable=['batch_stats'])
        leaves = jax.tree.leaves((abstract_init(model), updates))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype('float32')}
        assert out.dtype == dtype
        return np.asarray(out.astype(jnp.float32))

    exact, rounded = apply(jnp.float32), apply(jnp.bfloat16)
    assert 0 < np.abs(rounded - exact).max() / np.abs(exact).max() < 0.05
