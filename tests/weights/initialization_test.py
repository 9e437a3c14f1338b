import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

from hybrid.models import encoders, resnet
from hybrid.modes import train
from hybrid.runs import workdir
from hybrid.training import learners
from hybrid.weights import earlier_run, initialization, tensor_files
from tests.torchvision_weights import random_tensors

WIDTH = 4
ABSTRACT: dict[str, Any] = {}

# Of one stage, for speed.
SMALL = {'resnet18': ((1,), 'basic'), 'resnet34': ((2,), 'basic')}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, described in SMALL.items():
        monkeypatch.setitem(encoders.ENCODERS, name, resnet.encoder(*described))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Weights of small ResNets: two of ResNet-18, one of ResNet-34."""
    folder = tmp_path_factory.mktemp('weights')
    for name, encoder, seed in (('a', 'resnet18', 0), ('b', 'resnet18', 1), ('c', 'resnet34', 2)):
        tensors = random_tensors(SMALL[encoder], WIDTH, seed)
        safetensors.numpy.save_file(tensors, folder / f'{name}.safetensors')
    return {name: str(folder / f'{name}.safetensors') for name in 'abc'}


@pytest.fixture
def config(tiny_config, files):
    tiny_config.model.encoder.name = 'resnet18'
    tiny_config.model.encoder.pretrained = files['a']
    return tiny_config


def create_state(config):
    """A state of random numbers, without compiling its initialisation."""
    parts = ('model', 'ensemble', 'optimizer', 'finetune')
    known = dict(encoders.ENCODERS)
    key = repr([known, *(config[part].to_dict() for part in parts)])
    if key not in ABSTRACT:
        # What the key names by its address is kept, so that nothing else gets that address.
        ABSTRACT[key] = known, learners.create(config, lambda step: 1.0).abstract_state()
    rng = np.random.default_rng(0)
    _, state = ABSTRACT[key]
    return jax.tree.map(lambda x: rng.uniform(0.5, 1.5, x.shape).astype(x.dtype), state)


def first_kernel(state, place=()):
    return np.asarray(state.params['encoder']['conv1']['kernel'])[place]


def read(path):
    return tensor_files.read(pathlib.Path(path))


def kernel_of(path):
    return read(path)['conv1.weight'].transpose(2, 3, 1, 0)


def test_one_model_starts_from_the_file_but_for_its_heads(config, files):
    config.optimizer.ema_decay = 0.9
    initial = create_state(config)
    state, (record,) = initialization.start(config, initial)
    np.testing.assert_array_equal(first_kernel(state), kernel_of(files['a']))
    variance = state.batch_stats['encoder']['layer1_0']['bn2']['var']
    np.testing.assert_array_equal(variance, read(files['a'])['layer1.0.bn2.running_var'])
    # The averages start from the same numbers.
    jax.tree.map(np.testing.assert_array_equal, state.ema['params'], state.params)
    jax.tree.map(np.testing.assert_array_equal, state.ema['batch_stats'], state.batch_stats)
    for name in ('recurrent', 'age_head', 'gender_head'):
        jax.tree.map(np.testing.assert_array_equal, state.params[name], initial.params[name])
    jax.tree.map(lambda new, old: np.testing.assert_equal(new.dtype, old.dtype), state, initial)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, initial.opt_state)
    assert record['source'] == files['a']
    assert (record['encoder'], record['members']) == ('resnet18', [0])
    assert record['sha256'] == tensor_files.sha256(pathlib.Path(files['a']))
    assert (len(record['loaded']), record['missing'], len(record['unused'])) == (15, [], 5)


def test_nothing_named_leaves_the_state_alone(config):
    config.model.encoder.pretrained = ''
    initial = create_state(config)
    state, records = initialization.start(config, initial)
    assert state is initial
    assert records == []


def test_members_share_a_file_and_have_heads_of_their_own(config, files):
    config.ensemble.size = 2
    initial = create_state(config)
    state, (record,) = initialization.start(config, initial)
    assert record['members'] == [0, 1]
    for place in (0, 1):
        np.testing.assert_array_equal(first_kernel(state['members'], place), kernel_of(files['a']))
    heads = state['members'].params['age_head']['output']['kernel']
    np.testing.assert_array_equal(heads, initial['members'].params['age_head']['output']['kernel'])
    assert not np.allclose(heads[0], heads[1])


def test_members_take_several_files_by_turns(config, files):
    config.ensemble.size = 3
    config.model.encoder.pretrained = f'{files["a"]}, {files["b"]}'
    state, records = initialization.start(config, create_state(config))
    for place, name in enumerate('aba'):
        np.testing.assert_array_equal(first_kernel(state['members'], place), kernel_of(files[name]))
    members = [(record['source'], record['members']) for record in records]
    assert members == [(files['a'], [0, 2]), (files['b'], [1])]


def test_a_group_may_have_a_file_of_its_own_or_none(config, files):
    config.ensemble.groups = {
        'deep': {'model': {'encoder': {'name': 'resnet34', 'pretrained': files['c']}}},
        'fresh': {'model': {'encoder': {'pretrained': ''}}},
        'plain': {'model': {'recurrent': {'cell': 'none'}}},
    }
    initial = create_state(config)
    state, records = initialization.start(config, initial)
    np.testing.assert_array_equal(first_kernel(state['deep'], 0), kernel_of(files['c']))
    np.testing.assert_array_equal(first_kernel(state['plain'], 0), kernel_of(files['a']))
    assert state['fresh'] is initial['fresh']
    assert [(r['encoder'], r['members']) for r in records] == [('resnet34', [0]), ('resnet18', [2])]
    config.ensemble.groups.deep.model.encoder.pretrained = files['a']
    with pytest.raises(
        ValueError, match=r'groups\.deep: .*a\.safetensors: the file lacks layer1\.1\.bn1'
    ):
        initialization.start(config, initial)


def test_groups_take_files_that_all_name_by_turns_and_their_own_among_themselves(config, files):
    both = f'{files["a"]},{files["b"]}'
    config.model.encoder.pretrained = both
    config.ensemble.groups = {
        'gru': {'model': {'recurrent': {'cell': 'gru'}}},
        'lstm': {'model': {}},
        'own': {'size': 2, 'model': {'encoder': {'pretrained': f'{files["b"]}, {files["a"]}'}}},
    }
    _, records = initialization.start(config, create_state(config))
    members = [(record['source'], record['members']) for record in records]
    assert members == [(files['a'], [0, 3]), (files['b'], [1, 2])]


def test_files_are_for_the_members_of_all_groups_or_of_their_own(config, files):
    config.model.encoder.width = 64
    config.model.encoder.pretrained = f'{files["a"]},{files["b"]}'
    config.ensemble.groups = {'a': {'model': {}}, 'b': {'model': {'recurrent': {'cell': 'gru'}}}}
    initialization.check(config)
    config.ensemble.groups.b.model.encoder = {'width': 4}
    with pytest.raises(ValueError, match=r'groups\.b: .* needs .*width=64, not 4'):
        initialization.check(config)
    own = {'pretrained': f'{files["b"]},{files["a"]}'}
    config.ensemble.groups.b.model.encoder = own
    with pytest.raises(ValueError, match=r'groups\.b: .* are 2 files, for a run of 1'):
        initialization.check(config)
    # A group that starts from nothing needs no word on what may be missing in files of others.
    config.model.encoder.allow_missing = ('layer4',)
    config.ensemble.groups.b.model.encoder = {'pretrained': ''}
    initialization.check(config)


def test_freezing_what_is_random_is_pointed_out(config, files, caplog, tmp_path):
    config.finetune.freeze = 'stem'
    initialization.start(config, create_state(config))
    assert 'random' not in caplog.text
    tensors = read(files['a'])
    del tensors['layer1.0.conv2.weight']
    safetensors.numpy.save_file(tensors, tmp_path / 'w.safetensors')
    config.model.encoder.pretrained = str(tmp_path / 'w.safetensors')
    config.model.encoder.allow_missing = ('layer1',)
    initialization.start(config, create_state(config))
    assert 'random' not in caplog.text
    config.finetune.freeze = 'layer1'
    initialization.start(config, create_state(config))
    assert 'freezes what is random' in caplog.messages[-1]
    assert caplog.messages[-1].endswith('w.safetensors lacks tensors of layer1')
    config.finetune.freeze, config.finetune.batch_norm = '', 'frozen'
    config.model.encoder.pretrained = ''
    initialization.start(config, create_state(config))
    assert "batch_norm='frozen' freezes what is random: for member 0" in caplog.messages[-1]


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
        ({'model.encoder.pretrained': 'hf://a'}, r'pretrained: hf://a is neither a path nor'),
        ({'model.encoder.pretrained': 'https://a/b.npz'}, r'https://a/b.npz is neither a path nor'),
        ({'model.encoder.pretrained': ' ,'}, r"pretrained=' ,' names no file; leave it"),
        ({'model.encoder.pretrained': 'hf://a/b/c.bin'}, r'pretrained: c\.bin is a pickle'),
        ({'model.encoder.pretrained': ''}, r"allow_missing=\('layer4',\) without config\.model"),
        ({'model.encoder.pretrained': 'a,b'}, r"='a,b' are 2 files, for a run of 1"),
        ({'init_from': 'runs/none'}, r"init_from='runs/none': runs/none is not the folder of a"),
        ({'init_from': ' ,'}, r"init_from=' ,' names no run; leave it empty"),
        ({'init_from_parts': 'encoder'}, r"init_from_parts='encoder' without config\.init_from"),
        ({'init_from_parts': 'heads'}, r"init_from_parts='heads' is not one of all, encoder"),
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


def test_a_file_and_an_earlier_run_are_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr(earlier_run, 'check', lambda text: None)
    config.model.encoder.width = 64
    config.init_from = 'run'
    with pytest.raises(ValueError, match=r'a run starts from one of them'):
        initialization.check(config)
    config.model.encoder.pretrained = ''
    initialization.check(config)
    config.init_from = 'run,run'
    with pytest.raises(ValueError, match=r'init_from=.* are 2, for 1'):
        initialization.check(config)


def test_a_workdir_stands_alone_once_it_has_begun(config, tmp_path, monkeypatch):
    # Narrow files are refused, which only trainings of full width would get past.
    monkeypatch.setattr(initialization, 'check', lambda config: None)
    source = tmp_path / 'w.safetensors'
    tensors = random_tensors(SMALL['resnet18'], WIDTH)
    del tensors['layer1.0.conv2.weight']
    safetensors.numpy.save_file(tensors, source)
    config.model.encoder.pretrained = str(source)
    config.model.encoder.allow_missing = ['layer1.0']
    config.model.recurrent.cell, config.augment.enabled = 'none', False
    # So little that what the file says is still seen after a step.
    config.optimizer.learning_rate = 1e-9
    config.train.num_steps = 1
    config.data.validation_split = config.data.test_split = ''
    folder = tmp_path / 'run'
    state = train.train_and_evaluate(config, folder)
    np.testing.assert_allclose(first_kernel(state), kernel_of(source), atol=1e-6)
    record = json.loads((folder / workdir.SOURCES).read_text())
    (entry,) = record['sources']
    assert entry['missing'] == ['layer1.0.conv2.weight']
    assert entry['sha256'] == tensor_files.sha256(source)

    # Continued: the file is not looked for, and the record is that of the beginning.
    source.unlink()
    again = train.train_and_evaluate(config, folder)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert json.loads((folder / workdir.SOURCES).read_text()) == record
    loaded = workdir.load_config(folder, config)
    assert loaded.model.encoder.allow_missing == ('layer1.0',)
