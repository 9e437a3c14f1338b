import errno
import fcntl
import json
import os

import ml_collections
import pytest

from hybrid import default_config, schema
from hybrid.runs import address, dataset_record, workdir


@pytest.fixture
def config():
    return default_config.get_config().unlock()


def test_config_comes_back_as_it_was(tmp_path, config):
    config.train.num_epochs = 3.0
    config.data.parameters = {'seed': 7, 'unknown_fraction': 0.25}
    workdir.save_config(tmp_path / 'new' / 'run', config)
    loaded = workdir.load_config(tmp_path / 'new' / 'run')
    assert loaded.to_dict() == json.loads(json.dumps(config.to_dict()))  # JSON has no tuples
    typed = workdir.load_config(tmp_path / 'new' / 'run', default_config.get_config())
    assert typed.model.encoder.allow_missing == ()
    assert isinstance(loaded.data.parameters, ml_collections.ConfigDict)
    assert isinstance(loaded.train.num_epochs, float)
    assert [path.name for path in (tmp_path / 'new' / 'run').iterdir()] == ['config.json']


def test_flatten_joins_the_names_and_keeps_empty_groups():
    nested = {'a': 1, 'b': {'c': {'d': 2}, 'e': {}}}
    assert schema.flatten(nested) == {'a': 1, 'b.c.d': 2, 'b.e': {}}


def test_the_same_config_may_go_on(tmp_path, config):
    workdir.check_continues(tmp_path / 'nothing there', config)
    config.data.parameters = {'sizes': (1, 2), 'limit': float('nan')}  # JSON has no tuples
    workdir.save_config(tmp_path, config)
    workdir.check_continues(tmp_path, config)


def test_another_config_is_refused_with_keys_and_values(tmp_path, config):
    workdir.save_config(tmp_path, config)
    config.model.recurrent.cell = 'gru'
    config.train.batch_size = 32
    with pytest.raises(ValueError, match='is of another config') as error:
        workdir.check_continues(tmp_path, config)
    assert str(error.value) == (
        f"{tmp_path}/config.json is of another config (model.recurrent.cell is 'lstm' there, "
        "'gru' now, train.batch_size is 64 there, 32 now); take another --workdir, or "
        '--overwrite_config to go on with the new one'
    )


def test_a_key_that_is_new_or_gone_is_another_config(tmp_path, config):
    workdir.save_config(tmp_path, config)
    config.train.patience = 3
    with pytest.raises(ValueError, match=r'train\.patience is absent there, 3 now'):
        workdir.check_continues(tmp_path, config)
    del config.train.patience
    del config.train.batch_size
    with pytest.raises(ValueError, match=r'train\.batch_size is 64 there, absent now'):
        workdir.check_continues(tmp_path, config)


def test_a_run_that_is_older_than_a_key_behaved_as_its_default_says(tmp_path, config):
    workdir.save_config(tmp_path, config)
    path = tmp_path / workdir.CONFIG
    saved = json.loads(path.read_text())
    del saved['augment']['blur']
    path.write_text(json.dumps(saved))
    workdir.check_continues(tmp_path, config)
    config.augment.blur = 0.01
    with pytest.raises(ValueError, match=r'augment\.blur is 0\.0 there, 0\.01 now'):
        workdir.check_continues(tmp_path, config)


def test_of_many_other_keys_three_are_shown(tmp_path, config):
    workdir.save_config(tmp_path, config)
    for key in ('rotation', 'scale', 'shift', 'flip', 'brightness'):
        config.augment[key] = 0.01
    with pytest.raises(ValueError, match=r'augment\.rotation is .* now and 2 more\)') as error:
        workdir.check_continues(tmp_path, config)
    assert str(error.value).count(' there, ') == 3


def test_keys_that_say_where_and_how_fast_may_change(tmp_path, config):
    workdir.save_config(tmp_path, config)
    new = {
        'data.data_dir': '/elsewhere',
        'data.manual_dir': '/there',
        'data.num_threads': 9,
        'data.prefetch': 5,
    }
    assert set(new) <= workdir.MACHINE_KEYS <= schema.flatten(config.to_dict()).keys()
    config.update_from_flattened_dict(new)
    workdir.check_continues(tmp_path, config)


@pytest.mark.parametrize(
    ('name', 'load'), [('config.json', workdir.load_config), ('dataset.json', dataset_record.load)]
)
def test_a_missing_or_damaged_file_is_named(tmp_path, name, load):
    with pytest.raises(FileNotFoundError, match=f'{name} does not exist; --workdir must be'):
        load(tmp_path)
    for content in (b'{"seed": 0,', b'', b'\xff\xfe{}'):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'{tmp_path}/{name} is not valid JSON'):
            load(tmp_path)
    (tmp_path / name).write_text('[1, 2]')
    with pytest.raises(ValueError, match=f'{tmp_path}/{name} holds no JSON object'):
        load(tmp_path)


def test_a_config_that_lacks_what_all_have_is_damaged(tmp_path, config):
    for content in ('{}', '{"data": {"validation_split": ""}}', '{"data": 3}'):
        (tmp_path / workdir.CONFIG).write_text(content)
        for read in (
            workdir.load_config,
            workdir.recorded_kernels,
            lambda folder: workdir.check_continues(folder, config, overwrite=True),
        ):
            with pytest.raises(ValueError, match=r'config\.json lacks data\.dataset: put a copy'):
                read(tmp_path)


def test_a_file_is_no_workdir(tmp_path, config):
    (tmp_path / 'file').touch()
    for folder in ('file', 'file/below'):
        with pytest.raises(NotADirectoryError, match='/file is a file; name a folder for the trai'):
            workdir.check_continues(tmp_path / folder, config)


@pytest.mark.parametrize('number', [errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_does_not_end_a_training(tmp_path, monkeypatch, caplog, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'flock', flock)
    with workdir.lock(tmp_path):
        pass
    assert f'{tmp_path}: this file system has no locks' in caplog.text


def test_what_is_no_workdir_is_told_what_it_is(tmp_path):
    (tmp_path / 'model.json').touch()
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/config.json').touch()
    for load in (workdir.load_config, lambda folder: address.parse(str(folder))):
        with pytest.raises(FileNotFoundError, match=f'{tmp_path} is an export, not the folder of'):
            load(tmp_path)
    for name in ('run#2', 'run@last', 'run@400#0'):
        with pytest.raises(FileNotFoundError, match=rf'{name}: only hybrid\.load .*/run, with'):
            workdir.load_config(tmp_path / name)


def begin(folder):
    (folder / 'checkpoints' / '3').mkdir(parents=True)


def test_overwriting_may_change_all_but_the_order_of_what_has_begun(tmp_path, config):
    workdir.save_config(tmp_path, config)
    config.optimizer.learning_rate = 0.5
    workdir.check_continues(tmp_path, config, overwrite=True)
    config.train.batch_size = 32
    workdir.check_continues(tmp_path, config, overwrite=True)
    begin(tmp_path)
    with pytest.raises(ValueError, match=r'train\.batch_size is 64 there, 32 now\); take another'):
        workdir.check_continues(tmp_path, config, overwrite=True)
    config.train.batch_size = 64
    workdir.check_continues(tmp_path, config, overwrite=True)
    config.model.encoder.pretrained = 'w.npz'
    with pytest.raises(ValueError, match=r"pretrained is '' there, 'w\.npz' now\); take another"):
        workdir.check_continues(tmp_path, config, overwrite=True)
    config.model.encoder.pretrained = ''
    # What is learned decides what the best is the best in.
    config.loss.gender_weight = 3.0
    workdir.check_continues(tmp_path, config, overwrite=True)
    config.loss.gender_weight = 0.0
    with pytest.raises(ValueError, match=r'loss\.gender_weight is 1\.0 there, 0\.0 now\); take'):
        workdir.check_continues(tmp_path, config, overwrite=True)
    config.loss.gender_weight = 1.0
    # Of before there was such a key.
    old = config.to_dict()
    del old['init_from'], old['model']['encoder']['pretrained']
    (tmp_path / 'config.json').write_text(json.dumps(old))
    workdir.check_continues(tmp_path, config, overwrite=True)


def test_the_test_split_of_several_datasets_stays_what_it_was(tmp_path, config):
    for folder, dataset in (('one', 'utkface'), ('two', 'utkface,imdb_wiki/wiki')):
        config.data.dataset, config.data.test_split = dataset, 'test'
        workdir.save_config(tmp_path / folder, config)
        begin(tmp_path / folder)
        config.data.test_split = 'another'
        if folder == 'one':
            workdir.check_continues(tmp_path / folder, config, overwrite=True)
    with pytest.raises(ValueError, match=r"test_split is 'test' there, 'another' now\); take"):
        workdir.check_continues(tmp_path / folder, config, overwrite=True)


def test_a_checkpoint_that_was_not_finished_is_no_beginning(tmp_path):
    (tmp_path / 'checkpoints' / '1.orbax-checkpoint-tmp').mkdir(parents=True)
    assert not workdir.has_begun(tmp_path)
    (tmp_path / 'checkpoints' / '1').mkdir()
    assert workdir.has_begun(tmp_path)


def test_a_config_of_before_a_key_was_there_takes_its_default(tmp_path):
    config = default_config.get_config()
    old = config.to_dict()
    del old['data']['cache_bytes'], old['detect'], old['video']
    old['seed'] = 7
    (tmp_path / 'config.json').write_text(json.dumps(old))
    loaded = workdir.load_config(tmp_path, default_config.get_config())
    config.seed = 7
    assert loaded == config


def test_a_value_of_another_type_than_its_default_is_refused(tmp_path):
    old = default_config.get_config().to_dict()
    old['train']['batch_size'] = 'many'
    (tmp_path / 'config.json').write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r'config\.json: .*batch_size'):
        workdir.load_config(tmp_path, default_config.get_config())


def test_what_changes_predictions_is_told_from_what_does_not(tiny_config, tmp_path):
    tiny_config.data.normalization = 'unit'
    workdir.save_config(tmp_path, tiny_config)
    saved = json.loads((tmp_path / workdir.CONFIG).read_text())
    del saved['model']['dtype']  # As of a run that is older than the key.
    (tmp_path / workdir.CONFIG).write_text(json.dumps(saved))
    config = workdir.load_config(tmp_path, default_config.get_config())
    config.data.num_threads += 1
    config.data.train_split = 'train[:50%]'
    config.model.kernels = 'xla'
    config.model.encoder.pretrained = 'elsewhere.npz'
    config.model.head.dropout = 0.75
    config.evaluate.flip_average = not config.evaluate.flip_average
    assert workdir.overridden(tmp_path, config) == {}
    config.data.normalization, config.data.image_size = 'imagenet', 99
    config.model.dtype = 'bfloat16'
    assert workdir.overridden(tmp_path, config) == {
        **{'data.normalization': 'imagenet', 'data.image_size': 99},
        'model.dtype': 'bfloat16',
    }
    assert workdir.overridden(tmp_path, config, ('evaluate.flip_average',)) == {
        'evaluate.flip_average': config.evaluate.flip_average
    }
