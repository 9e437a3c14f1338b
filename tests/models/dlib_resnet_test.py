"""The encoder of dlib's network against a plain one in this file, and against dlib itself."""

import importlib.util
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hybrid.models import dlib_resnet, encoders
from hybrid.weights import pretrained
from tests.models.network_test import relative_error
from tools import convert_dlib_resnet
from tools.convert_dlib_resnet import Layer

pytestmark = pytest.mark.long

MODEL = dlib_resnet.DlibResNet(read=('stem', 'layer1', 'layer2', 'layer3', 'layer4', 'layer5'))
# Written down from dlib's source, anet_type: channels and stride of the residual blocks.
BLOCKS = [(32, 1)] * 3
BLOCKS += [(64, 2), *[(64, 1)] * 3, (128, 2), *[(128, 1)] * 2, (256, 2), *[(256, 1)] * 2, (256, 2)]
NAMES = ['layer1_0', 'layer1_1', 'layer1_2', 'layer2_0', 'layer2_1', 'layer2_2', 'layer2_3']
NAMES += ['layer3_0', 'layer3_1', 'layer3_2', 'layer4_0', 'layer4_1', 'layer4_2', 'layer5_0']


def random_layers():
    """Layers as they are in dlib's file, in its order."""
    rng = np.random.default_rng(0)

    def layer(features, inputs, size):
        spread = np.sqrt(2 / (inputs * size**2))
        values = (
            rng.normal(size=(features, inputs, size, size), scale=spread),
            rng.normal(size=features, scale=0.3),
            rng.uniform(0.5, 1, features) * rng.choice([1, 1, 1, -1], features),
            rng.normal(size=features, scale=0.3),
        )
        return Layer(*(np.asarray(value, np.float32) for value in values))

    layers, channels = {'conv1': layer(32, 3, 7)}, 32
    for name, (features, _) in zip(NAMES, BLOCKS, strict=True):
        layers[f'{name}.conv1'] = layer(features, channels, 3)
        layers[f'{name}.conv2'] = layer(features, features, 3)
        channels = features
    return layers


def serialize(layers, last):
    """What dlib writes: other objects are between those that matter."""
    out = io.BytesIO()

    def integer(value):
        size = max(1, (abs(value).bit_length() + 7) // 8)
        out.write(bytes([size | (128 if value < 0 else 0)]) + abs(value).to_bytes(size, 'little'))

    def text(value):
        integer(len(value))
        out.write(value)

    def tensor(values, *shape):
        for number in (2, *shape):
            integer(number)
        out.write(np.asarray(values, '<f4').tobytes())

    text(b'loss_metric_2')
    for kernel, offset, factor, bias in layers.values():
        values = np.concatenate([kernel.ravel(), offset])
        text(b'con_4')
        tensor(values, len(values), 1, 1, 1)
        for number in (len(kernel), *kernel.shape[2:], 1, 1, 0, 0):
            integer(number)
        text(b'affine_')
        tensor(np.concatenate([factor, bias]), 2 * len(factor), 1, 1, 1)
        text(b'relu_')
        integer(-300)
    text(b'fc_2')
    integer(last.shape[1])
    integer(last.shape[0])
    tensor(last, *last.shape, 1, 1)
    return out.getvalue()


def plain(layers, colours):
    """dlib's network by lax, from colours of 0 to 255, [N, C, H, W]: the maps after the stages."""

    def layer(name, x, stride, pad):
        kernel, offset, factor, bias = layers[name]
        padding = [(pad, pad)] * 2
        y = lax.conv_general_dilated(x, kernel, (stride, stride), padding) + offset[:, None, None]
        return y * factor[:, None, None] + bias[:, None, None]

    def pooled(x, operation, start, size):
        window, strides = (1, 1, size, size), (1, 1, 2, 2)
        return lax.reduce_window(x, start, operation, window, strides, 'VALID')

    def added(x, y):
        out = np.zeros(np.maximum(x.shape, y.shape), np.float32)
        for one in (x, y):
            out[tuple(slice(size) for size in one.shape)] += one
        return jax.nn.relu(out)

    x = (colours - np.array([122.782, 117.001, 104.298])[:, None, None]) / 256
    x = pooled(jax.nn.relu(layer('conv1', jnp.float32(x), 2, 0)), lax.max, -jnp.inf, 3)
    maps = [x]
    for name, (_, stride) in zip(NAMES, BLOCKS, strict=True):
        y = jax.nn.relu(layer(f'{name}.conv1', x, stride, 1 if stride == 1 else 0))
        y = layer(f'{name}.conv2', y, 1, 1)
        x = added(pooled(x, lax.add, 0.0, 2) / 4 if stride == 2 else x, y)
        maps.append(x)
    return [maps[0], *(maps[1 + last] for last in (2, 6, 9, 12, 13))]


def colours(count, size):
    """Soft noise, uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(1)
    coarse = (
        rng.integers(0, 256, (count, size // 8 + 1, size // 8 + 1, 3)).repeat(8, 1).repeat(8, 2)
    )
    return np.uint8(coarse[:, :size, :size] * 0.7 + rng.integers(0, 60, (count, size, size, 3)))


def converted(tensors):
    """The encoder's variables of a file's tensors."""
    images = jnp.zeros((1, 150, 150, 3))
    shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), images, train=False))
    initial = jax.tree.map(lambda leaf: np.full(leaf.shape, 7, leaf.dtype), shapes)
    variables, report = pretrained.convert(tensors, initial, encoders.get('dlib_resnet'))
    assert (report.missing, report.unused, len(report.loaded)) == ([], [], 145)
    return variables


def normalized(images):
    return (images / np.float32(255) - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]


@pytest.fixture(scope='module')
def layers():
    return random_layers()


@pytest.fixture(scope='module')
def tensors(layers, tmp_path_factory):
    path = tmp_path_factory.mktemp('dlib') / 'w.dat'
    last = np.random.default_rng(3).normal(size=(256, 128)).astype(np.float32)
    path.write_bytes(serialize(layers, last))
    found, found_last = convert_dlib_resnet.read(path)
    np.testing.assert_array_equal(found_last, last)
    for name, layer in layers.items():
        for one, other in zip(found[name], layer, strict=True):
            np.testing.assert_array_equal(one, other)
    return convert_dlib_resnet.fold(found)


# 150 as dlib has it; at 131 and 112 other maps are even and odd.
@pytest.mark.parametrize('size', [150, 131, 112])
def test_every_stage_computes_what_the_network_of_a_file_does(layers, tensors, size):
    images = colours(3, size)
    ours = jax.jit(lambda v, x: MODEL.apply(v, x, train=False))(
        converted(tensors), normalized(images)
    )
    theirs = plain(layers, np.float32(images.transpose(0, 3, 1, 2)))
    if size == 150:
        assert [one.shape[1] for one in ours] == [35, 35, 17, 8, 4, 2]
    for one, other in zip(ours, theirs, strict=True):
        assert relative_error(one, np.transpose(other, (0, 2, 3, 1))) < 1e-4


def test_measured_statistics_are_those_of_the_images_and_change_nothing(tensors):
    images = colours(6, 150)
    measured = convert_dlib_resnet.measure(tensors, images)
    assert measured.keys() == tensors.keys()
    x = normalized(images)
    before = MODEL.apply(converted(tensors), x, train=False)
    variables = converted(measured)
    after = MODEL.apply(variables, x, train=False)
    # In training a batch is normalised by its own statistics, which here are the stored ones.
    trained, changed = MODEL.apply(variables, x, train=True, mutable=['batch_stats'])
    for one, other, third in zip(before, after, trained, strict=True):
        assert relative_error(other, one) < 1e-4
        assert relative_error(third, one) < 1e-3
    for old, new in zip(
        jax.tree.leaves(variables['batch_stats']),
        jax.tree.leaves(changed['batch_stats']),
        strict=True,
    ):
        assert relative_error(new, old) < 1e-3


def test_statistics_are_the_same_in_batches_of_any_size(tensors):
    images = colours(1, 150).repeat(65, 0)
    one = convert_dlib_resnet.measure(tensors, images[:1])
    many = convert_dlib_resnet.measure(tensors, images)  # batches of 64 and 1
    for name in one:
        np.testing.assert_allclose(many[name], one[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize('damage', ['cut', 'other'])
def test_another_file_is_refused_by_its_name(layers, damage, tmp_path):
    data = serialize(layers, np.zeros((256, 128), np.float32))
    path = tmp_path / 'w.dat'
    path.write_bytes(data[:100_000] if damage == 'cut' else b'not a network')
    with pytest.raises(ValueError, match=r'w\.dat is not dlib_face_recognition_resnet_model_v1'):
        convert_dlib_resnet.read(path)


def test_its_file_computes_the_descriptors_of_dlib():
    # Of the package dlib-bin; dlib itself would do, too.
    dlib = pytest.importorskip('_dlib_pybind11')
    if importlib.util.find_spec(convert_dlib_resnet.PACKAGE) is None:
        pytest.skip(f'{convert_dlib_resnet.PACKAGE} is not installed')
    path = convert_dlib_resnet.find()
    found, last = convert_dlib_resnet.read(path)
    images = colours(2, 150)
    model = dlib_resnet.DlibResNet()
    variables = converted(convert_dlib_resnet.fold(found))
    features = np.asarray(model.apply(variables, normalized(images), train=False))
    network = dlib.face_recognition_model_v1(str(path))
    theirs = np.array([network.compute_face_descriptor(image) for image in images])
    assert relative_error(features.mean((1, 2)) @ last, theirs) < 1e-4


def test_images_that_are_too_small_are_refused_with_the_remedy():
    def initialize(size, read):
        images = jnp.zeros((1, size, size, 3))
        model = dlib_resnet.DlibResNet(read=(read,))
        jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))

    for read, smallest in {'layer5': 103, 'layer4': 55}.items():
        initialize(smallest, read)
        with pytest.raises(ValueError, match=r'cannot halve a map of . x . pos.*stages=layer4'):
            initialize(smallest - 1, read)
