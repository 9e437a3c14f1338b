"""What is exported says what the model says: every part of the networks, views, combinations."""

import subprocess
import sys
from typing import Any

import jax
import numpy as np
import onnxruntime
import pytest

from hybrid.models import heads, resnet
from hybrid.runs import calibration
from hybrid.runs.export import encoders, folder, members, network, stablehlo
from hybrid.runs.export import heads as onnx_heads
from hybrid.runs.export.graph import Graph
from hybrid.runs.predictor import Predictor
from hybrid.scores import combination, distributions, intervals
from tests import random_models

pytestmark = pytest.mark.long

# Years and probabilities, in float32 and where parameters and the encoder have float16.
FULL = {'age': 1e-3, 'probability': 1e-4}
HALF = {'age': 0.1, 'probability': 5e-3}
BOTH = {'model.recurrent.bidirectional': True}
BLOCK = {'model.encoder.name': 'tiny_bottleneck'}
CASES: dict[str, dict[str, Any]] = {
    'lstm, both ways, mean, serpentine, hidden layer': {
        **BOTH,
        **{'model.recurrent.reduce': 'mean', 'model.sequence.order': 'serpentine'},
        'model.head.hidden': 5,
    },
    'gru, both ways, attention, two stages by column, blocks v1, standardize': {
        **BOTH,
        **BLOCK,
        **{'model.recurrent.cell': 'gru', 'model.sequence.order': 'column'},
        **{'model.encoder.bottleneck_stride': '1x1', 'model.encoder.stem': 'small'},
        **{'model.sequence.stages': 'layer2,layer1', 'model.recurrent.reduce': 'attention'},
        'data.normalization': 'standardize',
    },
    'cnn, the first stage alone, maximum, blocks v1.5, unit, no crop': {
        **BLOCK,
        **{'model.recurrent.cell': 'none', 'model.encoder.stem': 'medium'},
        **{'model.sequence.stages': 'layer1', 'model.recurrent.reduce': 'max'},
        **{'data.normalization': 'unit', 'data.image_size': 36},
    },
    'a layer at each position': {'model.recurrent.cell': 'dense'},
    'dlib resnet, two stages': {
        **{'model.encoder.name': 'tiny_dlib', 'model.encoder.width': 64},
        **{'model.recurrent.cell': 'gru', 'model.sequence.stages': 'layer1,layer2'},
        **{'data.normalization': 'imagenet'},
    },
    'efficientnet lite, two stages apart, dex, symmetric, twelve views': {
        **{'model.encoder.name': 'tiny_lite', 'model.encoder.width': 64},
        **{'model.recurrent.cell': 'none', 'model.head.age': 'dex'},
        'model.sequence.stages': 'stage1,head',
        **{'data.normalization': 'symmetric', 'evaluate.flip_average': True},
        **{'evaluate.scales': (0.9, 1.2), 'evaluate.resolutions': (16,)},
    },
}
MIXED = {
    'ensemble.groups': {
        'cnn': {'size': 2, 'model': {'recurrent': {'cell': 'none'}}},
        'gru': {
            'size': 1,
            'model': {
                'recurrent': {'cell': 'gru'},
                'encoder': {'stem': 'small'},
                'sequence': {'stages': 'layer1,layer2'},
            },
        },
    },
    'evaluate.flip_average': True,
}


@pytest.fixture
def create(create_tiny_config, tmp_path):
    """Makes a random model out of what differs from the tiny config."""
    random_models.register()

    def create(changes, name='run', **keywords):
        config = create_tiny_config()
        config.update_from_flattened_dict(changes)
        return random_models.create(config, tmp_path / name, **keywords)

    return create


def by_onnx(models, weights, calibrated, faces, half=False):
    """The outputs of the ONNX model, by name."""
    found = members.find(models)
    shares = members.shares(models, found, weights)
    graph = Graph(half)
    outputs = network.write(graph, found, shares, calibrated, models[0].config.evaluate)
    shapes = network.shapes(list(outputs))
    ends = {name: (value, shapes[name]) for name, value in outputs.items()}
    model = graph.finish((network.IMAGE, faces.shape[1]), ends, {}, '0')
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return dict(zip(outputs, session.run(list(outputs), {network.IMAGE: faces}), strict=True))


def by_stablehlo_shapes(models):
    """The outputs of the function that StableHLO is made of, traced for any batch size."""
    found = members.find(models)
    shares = members.shares(models, found, None)
    function = stablehlo.create(found, shares, None, models[0].config.evaluate)
    (batch,) = jax.export.symbolic_shape('batch')
    size = models[0].config.data.resize_size
    shapes = jax.eval_shape(function, jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8))
    assert all(shape.shape[0] == batch for shape in shapes.values())
    return shapes


def assert_same(outputs, columns, tolerance):
    """Compares the outputs of an export with the columns of a predictor."""
    assert set(outputs) == {network.NAMES.get(name, name) for name in columns}
    for name, column in columns.items():
        output = np.asarray(outputs[network.NAMES.get(name, name)])
        assert output.dtype == np.float32
        probable = 'probabilit' in name or name == 'gender_agreement'
        most = tolerance['probability' if probable else 'age']
        np.testing.assert_allclose(output, column, rtol=0, atol=most, err_msg=name)


@pytest.mark.parametrize('case', CASES)
def test_every_part_of_a_network(create, case):
    models = [create(CASES[case])]
    faces = random_models.faces(7, 36)
    columns = Predictor(models)([faces])
    assert np.ptp(columns['predicted_age']) > 0.5
    assert np.ptp(columns['female_probability']) > 0.001
    assert_same(by_onnx(models, None, None, faces), columns, FULL)
    assert_same(
        by_onnx(models, None, None, faces[:1]), {n: x[:1] for n, x in columns.items()}, FULL
    )
    assert_same(by_onnx(models, None, None, faces, half=True), columns, HALF)
    if 'evaluate.scales' in CASES[case]:
        named = {network.NAMES.get(name, name) for name in columns}
        assert set(by_stablehlo_shapes(models)) == named


def fitted(edges, scaled, rng):
    """Intervals of three bands of predicted age, of which the last has too few errors for 95 %."""
    errors = tuple(np.sort(rng.uniform(0, 5, n)).astype(np.float32) for n in (200, 150, 9))
    return intervals.Intervals(tuple(edges), errors, scaled)


def test_a_mixed_ensemble_weighted_and_calibrated(create, tmp_path):
    """By ONNX, and by StableHLO in a process that knows nothing of this project."""
    rng = np.random.default_rng(0)
    models = [create(MIXED | {'evaluate.interval_level': 0.95})]
    weights = combination.Weights(np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.0, 0.4]))
    faces = random_models.faces(128, 36)
    predictor = Predictor(models, weights)
    parts = [predictor([part]) for part in np.split(faces, len(faces) // predictor.most)]
    joined = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    # A third of the ages in each band; those of the last have intervals without a limit.
    ages = np.sort(joined['predicted_age'])
    edges = [float(ages[k : k + 2].mean()) for k in (42, 84)]
    calibrated = calibration.Calibration(2.5, fitted(edges, False, rng))
    joined |= calibrated.apply(joined, models[0].config.evaluate)
    assert (joined['age_high'] == intervals.OLDEST).sum() == 43
    assert (joined['age_low'] > 0).any()
    assert_same(by_onnx(models, weights, calibrated, faces), joined, FULL)

    found = members.find(models)
    shares = members.shares(models, found, weights)
    function = stablehlo.create(found, shares, calibrated, models[0].config.evaluate)
    (tmp_path / 'program').write_bytes(stablehlo.write(function, 36))
    np.save(tmp_path / 'faces.npy', faces[:7])
    program = (
        'import sys, jax, numpy as np\n'
        "program = jax.export.deserialize(bytearray(open('program', 'rb').read()))\n"
        "assert program.platforms == ('cpu', 'cuda', 'tpu')\n"
        "faces = np.load('faces.npy')\n"
        'one, all = program.call(faces[:1]), program.call(faces)\n'
        "np.testing.assert_allclose(one['age'], all['age'][:1], atol=1e-4)\n"
        "np.savez('outputs.npz', **all)\n"
        "assert not {'hybrid', 'flax'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, '-c', program], cwd=tmp_path, check=True, timeout=120)
    outputs = dict(np.load(tmp_path / 'outputs.npz'))
    assert_same(outputs, {name: column[:7] for name, column in joined.items()}, FULL)


def test_scaled_intervals_and_members_that_predict_one_kind(create):
    rng = np.random.default_rng(0)
    dex = {'model.head.age': 'dex', 'model.recurrent.cell': 'none'}
    dex |= {'evaluate.age_estimate': 'median'}
    models = [
        create(dex, 'a', predicts=('age',)),
        create(dex | {'model.head.age': 'laplace'}, 'b', seed=1),
        create({'model.recurrent.cell': 'none'}, 'c', seed=2, predicts=('gender',)),
    ]
    calibrated = calibration.Calibration(0.4, None, fitted((20, 32), True, rng))
    faces = random_models.faces(7, 36)
    columns = Predictor(models, None, calibrated)([faces] * 3)
    assert set(columns) > {'age_low', 'age_width', 'age_probabilities', 'gender_agreement'}
    assert_same(by_onnx(models, None, calibrated, faces), columns, FULL)
    alone = Predictor(models[:1])([faces])
    assert 'female_probability' not in alone
    assert_same(by_onnx(models[:1], None, None, faces), alone, FULL)


@pytest.mark.parametrize('kind', sorted(heads.AGE_HEADS))
def test_every_head_and_estimate_of_age_over_two_views(create_tiny_config, kind):
    config = create_tiny_config()
    config.model.head.age = kind
    config.model.head.label_width = 0.0  # Another number that the head `ldl` learns.
    head = heads.create_heads(config.model.head)['age']
    rng = np.random.default_rng(0)
    features = (2 * rng.normal(size=(14, 6))).astype(np.float32)
    features[:2] *= 50  # Locations far below 0 and above 100, where heads clip.
    params = head.init(jax.random.key(0), features[:1])['params']
    params = jax.tree.map(
        lambda x: np.asarray(x + 0.5 * rng.normal(size=x.shape), np.float32), params
    )
    outputs = [head.apply({'params': params}, part) for part in np.split(features, 2)]
    columns = heads.predict({'age': head}, {'age': head.average(outputs)})
    assert np.ptp(columns['predicted_age']) > 1
    graph = Graph()
    given = onnx_heads.Features(graph, 'head', params, graph.constant(features), 2)
    of_kinds = {name: onnx_heads.write(head, given, name) for name in distributions.ESTIMATES}
    ends = {name: (x, network.shapes([name])[name]) for name, x in of_kinds['mean'].items()}
    ends |= {name: (x['predicted_age'], ()) for name, x in of_kinds.items()}
    model = graph.finish(('image', 1), ends, {}, '0')
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = session.run(list(ends), {'image': np.zeros((7, 1, 1, 3), np.uint8)})
    found = dict(zip(ends, found, strict=True))
    for name, column in columns.items():
        tolerance = 1e-5 if name == 'age_probabilities' else 1e-3
        np.testing.assert_allclose(found[name], column, rtol=0, atol=tolerance, err_msg=name)
    # The same for a batch of any size, as StableHLO has it.
    config.model.head.label_width = 2.0
    head = heads.create_heads(config.model.head)['age']
    params = head.init(jax.random.key(0), features[:1])['params']
    (batch,) = jax.export.symbolic_shape('batch')
    shape = jax.ShapeDtypeStruct((batch, 6), np.float32)
    said = jax.eval_shape(lambda x: head.predict(head.apply({'params': params}, x)), shape)
    assert said['predicted_age'].shape == (batch,)
    for name in distributions.ESTIMATES:
        estimated = heads.predict({'age': head}, {'age': head.average(outputs)}, name)
        expected = estimated['predicted_age']
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-3, err_msg=name)


def test_probabilities_near_0_and_1_at_another_temperature():
    """Where float32 has no more digits for 1 - p."""
    probability = np.array([0, 1e-9, 1e-7, 0.2, 0.5, 0.50000006, 0.9, 0.9999999, 1], np.float32)
    expected = calibration.calibration.at_temperature(probability, 10.0)
    graph = Graph()
    # The graph's input is bytes, of which two parts make such a number.
    pixels = np.arange(9, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    place = graph.slice(graph.reshape(graph.cast('image', np.int64), -1, 3), 1, 0, 1)
    value = graph.op('Gather', graph.constant(probability), graph.reshape(place, -1), axis=0)
    cooled = network.at_temperature(graph, value, 10.0)
    model = graph.finish(('image', 1), {'p': (cooled, ())}, {}, '0')
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {'image': pixels})
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert ((found > 0.5) == (probability > 0.5)).all()


def test_what_cannot_be_exported_is_refused(create, monkeypatch, tmp_path):
    models = [create({})]
    monkeypatch.delitem(onnx_heads.HEADS, heads.RegressionHead)
    with pytest.raises(ValueError, match='the head RegressionHead cannot be exported as ONNX'):
        by_onnx(models, None, None, random_models.faces(1, 36))
    monkeypatch.delitem(encoders.ENCODERS, resnet.ResNet)
    with pytest.raises(ValueError, match='the encoder ResNet cannot be exported as ONNX'):
        by_onnx(models, None, None, random_models.faces(1, 36))
    other = create({'data.resize_size': 40}, 'other')
    with pytest.raises(ValueError, match=r'several sizes, config\.data\.resize_size is one of'):
        folder.write([*models, other], tmp_path / 'export')
    with pytest.raises(OverflowError, match='x has numbers that are too large for float16'):
        Graph(half=True).parameter('x', np.array([1e6]))
