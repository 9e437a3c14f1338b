import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
from torchvision_weights import random_tensors

from hybrid import ensemble, initialization, tensor_files, train, trained, workdir
from hybrid.optimizer import create_learning_rate_fn, create_optimizer

WIDTH = 4


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Weights of narrow ResNets: two of ResNet-18, one of ResNet-34."""
    folder = tmp_path_factory.mktemp('weights')
    for name, encoder, seed in (('a', 'resnet18', 0), ('b', 'resnet18', 1), ('c', 'resnet34', 2)):
        tensors = random_tensors(encoder, WIDTH, seed)
        safetensors.numpy.save_file(tensors, folder / f'{name}.safetensors')
    return {name: str(folder / f'{name}.safetensors') for name in 'abc'}


@pytest.fixture
def config(tiny_config, files):
    tiny_config.data.normalization = 'imagenet'
    tiny_config.model.encoder.pretrained = files['a']
    return tiny_config


@pytest.fixture
def narrow(monkeypatch):
    """Lets a training take the narrow files, which only the width forbids."""
    monkeypatch.setattr(initialization, 'check', lambda config: None)


def create(config):
    tx = create_optimizer(config.optimizer, create_learning_rate_fn(config.optimizer, 10))
    learner = ensemble.create(config, tx)
    return learner.create_state(), learner


def first_kernel(state, place=()):
    return np.asarray(state.params['encoder']['conv1']['kernel'])[place]


def read(path):
    return tensor_files.read(pathlib.Path(path))


def kernel_of(path):
    return read(path)['conv1.weight'].transpose(2, 3, 1, 0)


def test_one_model_starts_from_the_file_but_for_its_heads(config, files):
    config.optimizer.ema_decay = 0.9
    initial, _ = create(config)
    state, (record,) = initialization.start(config, initial)
    np.testing.assert_array_equal(first_kernel(state), kernel_of(files['a']))
    variance = state.batch_stats['encoder']['layer3_1']['bn2']['var']
    there = read(files['a'])['layer3.1.bn2.running_var']
    np.testing.assert_array_equal(variance, there)
    # The averages start from the same numbers.
    np.testing.assert_array_equal(
        state.ema['params']['encoder']['conv1']['kernel'], first_kernel(state)
    )
    np.testing.assert_array_equal(
        state.ema['batch_stats']['encoder']['layer3_1']['bn2']['var'], there
    )
    for name in ('recurrent', 'age_head', 'gender_head'):
        jax.tree.map(np.testing.assert_array_equal, state.params[name], initial.params[name])
    jax.tree.map(lambda new, old: np.testing.assert_equal(new.dtype, old.dtype), state, initial)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, initial.opt_state)
    assert (record['source'], record['encoder'], record['members']) == (files['a'], 'resnet18', [0])
    assert record['sha256'] == tensor_files.sha256(pathlib.Path(files['a']))
    assert (len(record['loaded']), record['missing'], len(record['unused'])) == (100, [], 22)


def test_nothing_named_leaves_the_state_alone(config):
    config.model.encoder.pretrained = ''
    initial, _ = create(config)
    state, record = initialization.start(config, initial)
    assert state is initial
    assert record == []


def test_members_share_a_file_and_have_heads_of_their_own(config, files):
    config.ensemble.size = 2
    state, (record,) = initialization.start(config, create(config)[0])
    members = state['members']
    assert record['members'] == [0, 1]
    for place in (0, 1):
        np.testing.assert_array_equal(first_kernel(members, place), kernel_of(files['a']))
    heads = members.params['age_head']['output']['kernel']
    assert not np.allclose(heads[0], heads[1])


def test_members_take_several_files_by_turns(config, files):
    config.ensemble.size = 3
    config.model.encoder.pretrained = f'{files["a"]}, {files["b"]}'
    state, records = initialization.start(config, create(config)[0])
    for place, name in enumerate('aba'):
        np.testing.assert_array_equal(first_kernel(state['members'], place), kernel_of(files[name]))
    assert [(r['source'], r['members']) for r in records] == [
        (files['a'], [0, 2]),
        (files['b'], [1]),
    ]


def test_a_group_may_have_a_file_of_its_own_or_none(config, files):
    config.ensemble.groups = {
        'deep': {'model': {'encoder': {'name': 'resnet34', 'pretrained': files['c']}}},
        'fresh': {'model': {'encoder': {'pretrained': ''}}},
        'plain': {'model': {'recurrent': {'cell': 'none'}}},
    }
    initial, _ = create(config)
    state, records = initialization.start(config, initial)
    np.testing.assert_array_equal(first_kernel(state['deep'], 0), kernel_of(files['c']))
    np.testing.assert_array_equal(first_kernel(state['plain'], 0), kernel_of(files['a']))
    assert state['fresh'] is initial['fresh']
    assert [(r['encoder'], r['members']) for r in records] == [('resnet34', [0]), ('resnet18', [2])]
    config.ensemble.groups.deep.model.encoder.pretrained = files['a']
    with pytest.raises(ValueError, match=r'groups\.deep: .*a\.safetensors: .*those of resnet18'):
        initialization.start(config, initial)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.encoder.width': 4}, r'needs config\.model\.encoder\.width=64, not 4'),
        ({'model.encoder.stem': 'small'}, r"encoder\.stem='imagenet', not 'small'"),
        (
            {'data.normalization': 'unit'},
            r"config\.data\.normalization='unit', but the weights .* trained with 'imagenet'",
        ),
        ({'model.encoder.pretrained_normalization': 'unit'}, r"trained with 'unit'; set that"),
        ({'model.encoder.pretrained': 'no.safetensors'}, r'pretrained: no\.safetensors: no such'),
        ({'model.encoder.pretrained': 'w.pth'}, r'encoder\.pretrained: w\.pth is a pickle'),
        ({'model.encoder.pretrained': ''}, r"allow_missing=\('layer4',\) without config\.model"),
        ({'model.encoder.pretrained': 'a,b'}, r"='a,b' are 2 files, for a model of 1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(config, tmp_path, changes, message):
    config.model.encoder.width = 64
    config.model.encoder.allow_missing = ('layer4',)
    initialization.check(config)
    config.update_from_flattened_dict(changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train.train_and_evaluate(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_workdir_stands_alone_once_it_has_begun(config, files, tmp_path, narrow):
    source = tmp_path / 'w.safetensors'
    tensors = random_tensors('resnet18', WIDTH)
    del tensors['layer4.1.conv2.weight']
    safetensors.numpy.save_file(tensors, source)
    config.model.encoder.pretrained = str(source)
    config.model.encoder.allow_missing = ('layer4.1',)
    # So little that what the file says is still seen.
    config.optimizer.learning_rate = 1e-9
    config.train.num_steps = 2
    config.data.test_split = ''
    folder = tmp_path / 'run'
    state = train.train_and_evaluate(config, folder)
    np.testing.assert_allclose(first_kernel(state), kernel_of(source), atol=1e-6)
    record = json.loads((folder / workdir.SOURCES).read_text())
    (entry,) = record['sources']
    assert entry['missing'] == ['layer4.1.conv2.weight']
    assert entry['sha256'] == tensor_files.sha256(source)

    # Continued, evaluated: the file is not looked for.
    source.unlink()
    config.train.num_steps = 3
    config.optimizer.learning_rate = 0.01
    continued = train.train_and_evaluate(config, folder, overwrite_config=True)
    assert int(continued.step) == 3
    assert json.loads((folder / workdir.SOURCES).read_text()) == record
    model, _ = trained.restore(workdir.load_config(folder, config), folder, 'last')
    assert model.step == 3
    assert model.config.model.encoder.allow_missing == ('layer4.1',)
