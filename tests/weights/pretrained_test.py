import functools
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from hybrid.data import augment
from hybrid.models import encoders, resnet
from hybrid.weights import pretrained, tensor_files
from tests import torchvision_weights
from tests.torchvision_weights import BLOCKS, random_tensors, shapes


def make(name, width=64, stages=4, **kwargs):
    """An encoder by its name, or of (sizes, kind)."""
    sizes, block = resnet.ENCODERS.get(name, name)
    return resnet.ResNet(stage_sizes=sizes[:stages], block=block, width=width, **kwargs)


@functools.cache
def initial(model):
    """Variables of an encoder, all of them 7."""
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    return jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), shapes)


def convert(tensors, variables, allow_missing=()):
    # All ResNets have the same stages and names.
    return pretrained.convert(tensors, variables, encoders.get('resnet18'), allow_missing)


def apply(model, variables, images):
    """NHWC in, NHWC out, in full precision."""
    with jax.default_matmul_precision('highest'):
        return np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images))


def assert_agree(ours, theirs, tolerance=1e-4):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize(
    ('name', 'count'),
    # So many entries has the state_dict of each in torchvision.
    [('resnet18', 122), ('resnet34', 218), ('resnet50', 320), ('resnet101', 626)],
)
def test_every_tensor_has_its_place_under_torchvisions_name(name, count):
    theirs = shapes(*BLOCKS[name])
    assert len(theirs) == count
    ours = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(initial(make(name)))[0]:
        key = resnet.torch_name([p.key for p in path])
        assert key not in ours
        shape = leaf.shape
        ours[key] = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
    unwanted = ('num_batches_tracked', 'fc.weight', 'fc.bias')
    assert ours == {k: v for k, v in theirs.items() if not k.endswith(unwanted)}


@pytest.mark.parametrize('kind', ['basic', 'bottleneck'])
def test_a_file_makes_the_encoder_compute_what_its_network_does(kind, tmp_path):
    shallow = ((1, 2), kind)
    tensors = random_tensors(shallow, width=8)
    safetensors.numpy.save_file(tensors, tmp_path / 'w.safetensors')
    model = make(shallow, width=8)
    variables, report = convert(tensor_files.read(tmp_path / 'w.safetensors'), initial(model))
    images = np.random.default_rng(1).normal(size=(2, 3, 32, 32)).astype(np.float32)
    theirs = np.asarray(torchvision_weights.forward(tensors, images, *shallow))
    ours = apply(model, variables, images.transpose(0, 2, 3, 1))
    assert_agree(ours, theirs.transpose(0, 2, 3, 1))
    assert report.missing == []
    assert sorted(report.loaded + report.unused) == sorted(tensors)
    assert all(n.endswith('num_batches_tracked') or n.startswith('fc.') for n in report.unused)


@pytest.mark.parametrize('name', BLOCKS)
@pytest.mark.parametrize('library', ['torchvision', 'timm'])
def test_the_encoder_computes_what_the_library_does(library, name):
    torch = pytest.importorskip('torch')
    pytest.importorskip(library)
    if library == 'timm':
        import timm

        network = timm.create_model(name)
    else:
        import torchvision

        network = torchvision.models.get_model(name)
    tensors = random_tensors(name)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    seen = []
    network.layer4.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        network.eval()(torch.from_numpy(images))
    model = make(name)
    variables, _ = convert(tensors, initial(model))
    ours = apply(model, variables, images.transpose(0, 2, 3, 1))
    assert_agree(ours, seen[0].numpy().transpose(0, 2, 3, 1))


def test_weights_trained_on_imagenet_compute_what_they_did_in_pytorch(shared_data):
    folder = shared_data / 'imagenet_resnet18'
    tensors = tensor_files.read(folder / 'resnet18_imagenet_partial.safetensors')
    whole = initial(make('resnet18'))
    variables, report = convert(tensors, whole, ['layer4'])
    kernels = [f'layer4.{block}.conv{n}.weight' for block in (0, 1) for n in (1, 2)]
    assert [n for n in report.missing if n.endswith('conv1.weight')] == kernels[::2]
    assert len(report.missing) == 4 + 4 * 4
    assert len(report.loaded) == 80
    # What is missing is as it was, what is there of the same stage is not.
    stage = variables['params']['layer4_0']
    assert (stage['conv1']['kernel'] == 7).all()
    assert (variables['batch_stats']['layer4_1']['bn2']['var'] == 7).all()
    assert not (stage['downsample_conv']['kernel'] == 7).any()

    check_golden_activations(folder, 'resnet18', variables, stages=4)


def test_a_whole_resnet_50_of_v1_computes_what_it_did_in_pytorch(shared_data):
    folder = shared_data / 'imagenet_resnet50'
    tensors = tensor_files.read(folder / 'resnet50_imagenet_v1.safetensors')
    assert tensors['layer1.0.conv1.weight'].dtype == np.float16
    variables, report = convert(tensors, initial(make('resnet50')))
    assert len(report.loaded) == 265
    assert (report.missing, report.unused) == ([], ['fc.bias', 'fc.weight'])
    layer4, golden = check_golden_activations(folder, 'resnet50', variables, stages=5, stride='1x1')
    features = layer4.mean(axis=(1, 2), dtype=np.float64)
    logits = features @ tensors['fc.weight'].astype(np.float64).T + tensors['fc.bias']
    assert_agree(logits, golden['logits'])


def check_golden_activations(folder, name, variables, stages, stride='3x3'):
    """Compares every stage from the stem on; returns the last one's activations, and the file."""
    golden = np.load(folder / 'golden_activations.npz', allow_pickle=False)
    images = augment.normalize(jnp.asarray(golden['images']), 'imagenet')
    names = ('stem', 'layer1', 'layer2', 'layer3', 'layer4')[:stages]
    model = make(name, bottleneck_stride=stride, read=names)
    activations = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
    with jax.default_matmul_precision('highest'):
        ours = [np.asarray(activation) for activation in activations(variables, images)]
    for stage, activation in zip(names, ours, strict=True):
        assert_agree(activation, golden[stage])
    return ours[-1], golden


@pytest.mark.parametrize('dtype', [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_precisions_become_float32(dtype):
    tensors = {k: v.astype(dtype) for k, v in random_tensors('resnet18', 4).items()}
    variables, _ = convert(tensors, initial(make('resnet18', 4)))
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    kernel = variables['params']['layer1_0']['conv1']['kernel']
    there = tensors['layer1.0.conv1.weight'].astype(np.float32)
    np.testing.assert_array_equal(kernel, there.transpose(2, 3, 1, 0))


def test_a_common_prefix_and_other_networks_of_the_file_do_not_matter():
    model, tensors = make('resnet18', 4), random_tensors('resnet18', 4)
    plain, _ = convert(tensors, initial(model))
    wrapped = {f'module.encoder.{k}': v for k, v in tensors.items()} | {'head.weight': np.ones(3)}
    variables, report = convert(wrapped, initial(model))
    jax.tree.map(np.testing.assert_array_equal, variables, plain)
    assert 'module.encoder.conv1.weight' in report.loaded
    assert {'head.weight', 'module.encoder.fc.bias'} < set(report.unused)
    both = wrapped | {f'teacher.{k}': v for k, v in tensors.items()}
    with pytest.raises(
        ValueError, match=r"several networks, .* 'module\.encoder\.' and 'teacher\."
    ):
        convert(both, initial(model))


def changed(**changes):
    """Tensors of a narrow ResNet-18 with some replaced, or removed where they are None."""
    tensors = random_tensors('resnet18', 4) | {k.replace('__', '.'): v for k, v in changes.items()}
    return {k: v for k, v in tensors.items() if v is not None}


@pytest.mark.parametrize(
    ('tensors', 'allowed', 'message'),
    [
        (
            changed(layer3__0__conv2__weight=np.ones((16, 16, 1, 1), np.float32)),
            (),
            r'layer3\.0\.conv2\.weight is \[16, 16, 1, 1\] in the file, \[16, 16, 3, 3\] in this',
        ),
        (
            # Grey pictures.
            changed(conv1__weight=np.ones((4, 1, 7, 7), np.float32)),
            (),
            r'conv1\.weight is \[4, 1, 7, 7\] in the file, \[4, 3, 7, 7\]',
        ),
        (changed(bn1__bias=np.ones(5, np.float32)), (), r'bn1\.bias is \[5\] in the file, \[4\]'),
        (
            changed(layer4__1__bn2__running_var=None),
            (),
            r'the file lacks layer4\.1\.bn2\.running_var .*allow_missing',
        ),
        (changed(layer4__1__bn2__bias=None), ('layer4.0',), r'lacks layer4\.1\.bn2\.bias'),
        (changed(bn1__bias=None), ('layer1',), r'lacks bn1\.bias'),
        (
            changed(),
            ('layer5',),
            r"names 'layer5', which .* are stem, layer1, layer2, layer3, layer4, and .* as bn1,",
        ),
        (changed(), ('layer',), r"allow_missing names 'layer'"),
        (
            changed(bn1__weight=np.ones(4, np.int8)),
            (),
            r'bn1\.weight holds int8, not floating-point',
        ),
        (
            changed(bn1__weight=np.array([1, np.nan, 1, 1], np.float32)),
            (),
            r'bn1\.weight holds numbers that are not finite',
        ),
        # An SE-ResNet; timm's resnet18d; its anti-aliased stem.
        (
            changed(layer1__0__se__fc1__weight=np.ones((4, 4))),
            (),
            r'has layer1\.0\.se\.fc1\.weight, which this encoder has not \(its blocks',
        ),
        (
            changed(conv1__weight=None, conv1__0__weight=np.ones((4, 3, 3, 3), np.float32)),
            ('stem',),
            r'the file has conv1\.0\.weight, which this encoder has not',
        ),
        (
            changed(layer2__0__downsample__2__bias=np.ones(4)),
            (),
            r'has layer2\.0\.downsample\.2\.bias, which',
        ),
        (
            {'blocks.0.attn.qkv.weight': np.ones((4, 4))},
            (),
            r"no tensor under a name .* torchvision's of a ResNet",
        ),
        ({}, (), 'it has none at all'),
        # Deeper and shallower ones, and other blocks.
        (
            random_tensors('resnet34', 4),
            (),
            r'this encoder has not \(its blocks are those of resnet34\)',
        ),
        (
            random_tensors('resnet50', 4),
            (),
            r'this encoder has not \(its blocks are those of resnet50\)',
        ),
    ],
)
def test_what_does_not_fit_is_refused(tensors, allowed, message):
    with pytest.raises(ValueError, match=message):
        convert(tensors, initial(make('resnet18', 4)), allowed)


def test_a_shallower_network_is_refused():
    with pytest.raises(ValueError, match=r'the file lacks .* \(its blocks are those of resnet18\)'):
        convert(random_tensors('resnet18', 4), initial(make('resnet34', 4)))


def test_stages_that_are_not_computed_are_neither_wanted_nor_foreign():
    tensors, whole = random_tensors('resnet18', 4), initial(make('resnet18', 4))
    first = initial(make('resnet18', 4, read=('layer2',)))
    resnet18 = encoders.get('resnet18')
    variables, report = pretrained.convert(tensors, first, resnet18, ['layer4'], whole)
    assert (report.missing, report.incomplete_stages) == ([], [])
    counts = [sum(name.startswith(f'layer{n}.') for name in report.loaded) for n in range(5)]
    assert counts == [0, 20, 25, 0, 0]
    expected, _ = convert(tensors, whole)
    assert not variables['params'].keys() & {'layer3_0', 'layer4_1'}
    for name, params in variables['params'].items():
        jax.tree.map(np.testing.assert_array_equal, params, expected['params'][name])
    # The file may lack them, but is not of another network.
    part = {name: x for name, x in tensors.items() if not name.startswith(('layer3', 'layer4.1'))}
    assert pretrained.convert(part, first, resnet18, (), whole)[1].loaded == report.loaded
    with pytest.raises(
        ValueError, match=r'the file has layer4\.2\.bn9, which this encoder has not'
    ):
        pretrained.convert(tensors | {'layer4.2.bn9': np.ones(3)}, first, resnet18, (), whole)


def test_blocks_that_may_be_missing_keep_their_initialisation():
    tensors = changed(conv1__weight=None, layer4__1__conv1__weight=None)
    variables, report = convert(tensors, initial(make('resnet18', 4)), ['stem', 'layer4.1'])
    assert report.incomplete_stages == ['stem', 'layer4']
    assert report.missing == ['conv1.weight', 'layer4.1.conv1.weight']
    seven = [
        jax.tree_util.keystr(path, simple=True, separator='/')
        for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]
        if (leaf == 7).all()
    ]
    assert seven == ['params/conv1/kernel', 'params/layer4_1/conv1/kernel']


def test_timms_description_beside_the_file(tmp_path):
    path = tmp_path / 'model.safetensors'
    pretrained.check_description(path, 'resnet18', 'imagenet')

    def describe(**changes):
        settings = {'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225]} | changes
        text = json.dumps({'architecture': 'resnet18', 'pretrained_cfg': settings})
        (tmp_path / 'config.json').write_text(text)

    describe()
    pretrained.check_description(path, 'resnet18', 'imagenet')
    with pytest.raises(ValueError, match=r"are of a resnet18, config.*name='resnet34'"):
        pretrained.check_description(path, 'resnet34', 'imagenet')
    describe(mean=[0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match=r'config\.json: .* mean \[0\.5, 0\.5, 0\.5\]'):
        pretrained.check_description(path, 'resnet18', 'imagenet')
    describe(mean=0, std=1)
    with pytest.raises(ValueError, match=r"so config\.model\.encoder\.pretrained_norm.*='unit'"):
        pretrained.check_description(path, 'resnet18', 'imagenet')
    pretrained.check_description(path, 'resnet18', 'unit')
    describe(mean='grey')
    pretrained.check_description(path, 'resnet18', 'imagenet')
    (tmp_path / 'config.json').write_text('{"seed": 0}')
    pretrained.check_description(path, 'resnet18', 'imagenet')
