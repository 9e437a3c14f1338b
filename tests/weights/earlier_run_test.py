import json
import shutil

import jax
import numpy as np
import pytest

from hybrid import default_config, devices
from hybrid.models import encoders, resnet
from hybrid.runs import checkpoints, dataset_record, workdir
from hybrid.weights import earlier_run, initialization
from tests.weights.initialization_test import create_state


def save(folder, config, states, scores=None):
    """A workdir with checkpoints of states by step."""
    workdir.save_config(folder, config)
    with checkpoints.Checkpoints(folder) as saved:
        for step, state in states.items():
            score: dict[int | None, float] = {None: scores[step]} if scores else {}
            saved.save(step, devices.replicate(state), {}, config.to_dict(), score)
            saved.wait()


def filled(config, value):
    """A state in which all parameters and statistics are one number."""

    def fill(path, x):
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        if 'nonfinite_step' in name:
            return np.full_like(x, -1)
        return np.full_like(x, value + 0.5 if 'ema/' in name else value)

    return jax.tree_util.tree_map_with_path(fill, create_state(config))


def values(state):
    """{top module: the number that its parameters are}, None where they differ."""
    found = {}
    for name, tree in state.params.items():
        numbers = {float(x) for leaf in jax.tree.leaves(tree) for x in np.unique(leaf)}
        found[name] = numbers.pop() if len(numbers) == 1 else None
    return found


def everywhere(value):
    return dict.fromkeys(('encoder', 'recurrent', 'age_head', 'gender_head'), value)


@pytest.fixture(scope='module', autouse=True)
def small():
    """Encoders of one stage, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, sizes in (('resnet18', (1,)), ('resnet34', (2,))):
            patch.setitem(encoders.ENCODERS, name, resnet.encoder(sizes, 'basic'))
        yield


def create_config():
    config = default_config.get_config()
    config.data.image_size = 32
    config.model.encoder.width = 2
    config.model.recurrent.features = 8
    return config


@pytest.fixture
def config():
    return create_config()


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A run with checkpoints of the steps 2 (the best), 3 and 4, filled with these numbers."""
    folder, config = tmp_path_factory.mktemp('runs') / 'source', create_config()
    states = {step: filled(config, step) for step in (2, 3, 4)}
    save(folder, config, states, scores={2: 1.0, 3: 5.0, 4: 4.0})
    return folder


@pytest.mark.parametrize(
    ('suffix', 'value'),
    [('', 2), ('@best', 2), ('@last', 4), ('@3', 3), ('/checkpoints/3', 3), ('#0', 2)],
)
def test_everything_is_taken_from_the_checkpoint_that_is_named(config, source, suffix, value):
    config.init_from = f'{source}{suffix}'
    state, (record,) = initialization.start(config, create_state(config))
    assert values(state) == everywhere(value)
    assert (state.batch_stats['encoder']['bn1']['var'] == value).all()
    assert (record['source'], record['step'], record['member']) == (str(source), value, None)
    assert (record['members'], record['missing'], record['parts']) == ([0], [], 'all')
    assert not record['moving_averages']


def test_the_encoder_alone_leaves_the_rest_as_it_was(config, source):
    config.init_from, config.init_from_parts = str(source), 'encoder'
    # Which may be of another kind.
    config.model.recurrent.cell, config.model.recurrent.features = 'gru', 5
    config.model.head.age_offset = 40.0
    initial = create_state(config)
    state, (record,) = initialization.start(config, initial)
    assert values(state) == everywhere(None) | {'encoder': 2}
    jax.tree.map(
        np.testing.assert_array_equal, state.params['recurrent'], initial.params['recurrent']
    )
    assert (state.batch_stats['encoder']['bn1']['var'] == 2).all()
    assert all('/encoder/' in name for name in record['loaded'])
    assert 'params/age_head/output/kernel' in record['missing']


def test_averages_are_taken_where_there_are_any(config, tmp_path):
    config.optimizer.ema_decay = 0.9
    save(tmp_path, config, {1: filled(config, 1)})
    config.init_from = str(tmp_path)
    state, (record,) = initialization.start(config, create_state(config))
    assert values(state) == everywhere(1.5)
    assert (state.ema['params']['encoder']['conv1']['kernel'] == 1.5).all()
    assert (state.batch_stats['encoder']['bn1']['var'] == 1.5).all()
    assert record['moving_averages']
    config.optimizer.ema_decay = 0.0
    state, _ = initialization.start(config, create_state(config))
    assert state.ema is None
    assert values(state) == everywhere(1.5)


def test_another_optimiser_does_not_matter(config, source):
    config.optimizer.name, config.finetune.freeze = 'sgd', 'layer1'
    config.init_from = str(source)
    state, _ = initialization.start(config, create_state(config))
    assert values(state) == everywhere(2)


def mixed(config, tmp_path):
    """An ensemble whose members 0, 1 and 2 are filled with 10, 11 and 12; the last not finite."""
    config.ensemble.groups = {
        'a': {'model': {'recurrent': {'cell': 'none'}}},
        'b': {'size': 2},
    }
    states = {
        'a': filled(config, 10)['a'],
        'b': jax.tree.map(
            lambda x, y: np.stack([x[0], y[0]]),
            *(filled(config, value)['b'] for value in (11, 12)),
        ),
    }
    states['b'].nonfinite_step[:] = [-1, 7]
    save(tmp_path, config, {5: states})
    return states

    # Of which stages may be left out.
    config.model.sequence.stages = 'stem'
    state, (record,) = initialization.start(config, create_state(config))
    assert values(state)['encoder'] == 2
    assert set(state.params['encoder']) == {'conv1', 'bn1'}
    assert set(state.batch_stats['encoder']) == {'bn1'}
    assert all('/encoder/' in name and 'layer1' not in name for name in record['loaded'])


def test_a_member_of_an_ensemble(config, tmp_path):
    single = config.copy_and_resolve_references()
    mixed(config, tmp_path)
    single.init_from = f'{tmp_path}#1'
    state, (record,) = initialization.start(single, create_state(single))
    assert values(state) == everywhere(11)
    assert record['member'] == 1
    for suffix, message in (
        ('', r'is an ensemble of the members 0, 1, 2; config\.init_from=.*#NUMBER'),
        ('#3', 'is an ensemble of the members 0, 1, 2'),
        ('#2', 'member 2 was not finite in training'),
        ('#0', r'kernel is \[2, 1\] there, \[8, 1\] by .* or config\.init_from_parts=.encoder'),
    ):
        single.init_from = f'{tmp_path}{suffix}'
        with pytest.raises(ValueError, match=message):
            initialization.start(single, create_state(single))


def test_an_ensemble_from_one_run_from_several_and_from_an_ensemble(config, source, tmp_path):
    config.ensemble.size = 3
    config.init_from = str(source)
    state, (record,) = initialization.start(config, create_state(config))
    assert record['members'] == [0, 1, 2]
    assert values(state['members']) == everywhere(2)

    config.init_from = f'{source}, {source}@last'
    config.init_from_parts = 'encoder'
    initial = create_state(config)
    state, records = initialization.start(config, initial)
    kernel = state['members'].params['encoder']['conv1']['kernel']
    assert [float(member.max()) for member in kernel] == [2, 4, 2]
    assert [record['members'] for record in records] == [[0, 2], [1]]
    heads = (s['members'].params['age_head']['output']['kernel'] for s in (state, initial))
    np.testing.assert_array_equal(*heads)

    config.ensemble.size, config.init_from_parts = 1, 'all'
    states = mixed(config, tmp_path / 'mixed')
    states['b'].nonfinite_step[:] = -1
    save(tmp_path / 'healthy', config, {5: states})
    config.init_from = str(tmp_path / 'healthy')
    state, records = initialization.start(config, create_state(config))
    jax.tree.map(np.testing.assert_array_equal, state['b'].params, states['b'].params)
    assert [record['member'] for record in records] == [0, 1, 2]


@pytest.mark.parametrize(
    ('changes', 'parts', 'message'),
    [
        (
            {'model.encoder.width': 4},
            'encoder',
            r'step 2: params/encoder/bn1/bias is \[2\] there, \[4\] by this config',
        ),
        (
            {'model.encoder.name': 'resnet34'},
            'encoder',
            r'encoder/layer1_1/bn1/bias is absent there, \[2\] by this config; config\.model has',
        ),
        (
            {'model.recurrent.features': 4},
            'all',
            r'params/age_head/output/kernel is \[8, 1\] there, \[4, 1\] .*init_from_parts=.encoder',
        ),
        ({'data.normalization': 'unit'}, 'encoder', r"config\.data\.normalization='imagenet', wh"),
        (
            {'model.encoder.bottleneck_stride': '1x1'},
            'encoder',
            r"config\.model\.encoder\.bottleneck_stride='3x3', which is '1x1' now",
        ),
        ({'model.head.age_offset': 40.0}, 'all', r'config\.model\.head\.age_offset=33\.0, which'),
        ({'model.sequence.order': 'column'}, 'all', r"config\.model\.sequence\.order='raster', wh"),
    ],
)
def test_what_does_not_fit_is_named(config, source, changes, parts, message):
    config.update_from_flattened_dict(changes)
    config.init_from, config.init_from_parts = str(source), parts
    with pytest.raises(ValueError, match=message):
        initialization.start(config, create_state(config))


def test_other_splits_of_the_same_dataset_are_pointed_out(config, source, caplog):
    config.init_from = str(source)
    initialization.start(config, create_state(config))
    config.data.dataset = 'utkface'
    initialization.start(config, create_state(config))
    assert 'other splits' not in caplog.text
    # So do other parameters of the builder, though the run before had none.
    config.data.dataset = 'synthetic_faces'
    config.data.parameters = {'seed': 1}
    initialization.start(config, create_state(config))
    assert f'{source} was trained on other splits of synthetic_faces' in caplog.text
    config.data.parameters = {}
    caplog.clear()
    config.data.dataset = 'synthetic_faces/tiny'
    initialization.start(config, create_state(config))
    assert f'{source} was trained on other splits of synthetic_faces' in caplog.text


def test_addresses(config, source, tmp_path):
    parse = earlier_run.parse
    assert parse(f'{source}@12#3') == earlier_run.Address(source, '12', 3)
    assert parse(f'{source}/checkpoints/3#1') == earlier_run.Address(source, '3', 1)
    odd = tmp_path / 'run@last#2'
    workdir.save_config(odd, config)
    assert parse(str(odd)) == earlier_run.Address(odd)
    assert parse(f'{odd}@best') == earlier_run.Address(odd, 'best')
    for text in (str(tmp_path), f'{tmp_path}/none@last'):
        with pytest.raises(
            FileNotFoundError, match=r'init_from=.* is not the folder of a training'
        ):
            parse(text)
    with pytest.raises(FileNotFoundError, match=r"=.*@bst': .* it is written DIR, DIR@best"):
        parse(f'{source}@bst')
    earlier_run.check(f'{source}@3')
    with pytest.raises(FileNotFoundError, match=r"init_from='.*@9': .*no checkpoint of step 9"):
        earlier_run.check(f'{source}@9')
    with pytest.raises(FileNotFoundError, match=r"init_from='.*': .*no checkpoint there"):
        earlier_run.check(str(odd))
    assert not (odd / 'checkpoints').exists()
    config.init_from = f'{source}#5'
    with pytest.raises(ValueError, match=r'is a single model: leave #5 out'):
        initialization.start(config, create_state(config))
    config.init_from = f'{source}@7'
    with pytest.raises(FileNotFoundError, match=r'no checkpoint of step 7; there are 2, 3, 4'):
        initialization.start(config, create_state(config))


def test_a_run_from_before_there_were_ensembles(config, source, tmp_path):
    source = shutil.copytree(source, tmp_path / 'old')
    path = source / workdir.CONFIG
    text = json.loads(path.read_text())
    del text['ensemble'], text['finetune'], text['init_from']
    del text['model']['encoder']['bottleneck_stride']
    path.write_text(json.dumps(text))
    config.init_from, config.ensemble.size = str(source), 2
    state, _ = initialization.start(config, create_state(config))
    assert values(state['members']) == everywhere(2)
    # There was one kind of bottleneck then.
    config.model.encoder.bottleneck_stride = '1x1'
    with pytest.raises(ValueError, match=r"bottleneck_stride='3x3', which is '1x1' now"):
        initialization.start(config, create_state(config))


def test_keys_that_an_earlier_run_did_not_have_had_their_defaults(config, source, tmp_path):
    source = shutil.copytree(source, tmp_path / 'old')
    path = source / workdir.CONFIG
    text = json.loads(path.read_text())
    del text['model']['sequence']['order']
    path.write_text(json.dumps(text))
    config.init_from, config.model.sequence.order = str(source), 'column'
    with pytest.raises(ValueError, match=r"order='raster', which is 'column' now"):
        initialization.start(config, create_state(config))


def test_an_earlier_run_of_faces_that_were_cut_otherwise_is_warned_of(
    config, source, tiny_data_dir, caplog
):
    config.data.dataset, config.data.data_dir = 'synthetic_faces/tiny', str(tiny_data_dir)
    for name, warned in (('utkface/default/1.0.0', True), ('imdb_wiki/wiki/1.0.0', False)):
        dataset_record.save(source, {'name': name})
        caplog.clear()
        earlier_run.read(earlier_run.parse(str(source)), config)
        found = [message for message in caplog.messages if 'was trained on faces' in message]
        assert len(found) == warned
    (source / 'dataset.json').unlink()
