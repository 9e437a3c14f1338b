import hashlib
import json

import ml_collections
import numpy as np
import pytest

import hybrid
from hybrid import default_config, files, schema
from hybrid.runs import address, workdir


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
    ('name', 'load'), [('config.json', workdir.load_config), ('dataset.json', workdir.load_dataset)]
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


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'splits': ['test']}, r"'splits' is \['test'\]"),
        ({'splits': {'test': 5}}, "the split 'test' is 5"),
        ({'constant_age': '30'}, "'constant_age' is '30'"),
        ({'datasets': [{'name': 5}]}, "'name' is 5"),
        ({'datasets': [7]}, 'a dataset is 7'),
        ({'geometry': None}, "'geometry' is None"),
    ],
)
def test_a_record_of_a_dataset_with_other_types_is_damaged(tmp_path, change, message):
    record = {'name': 'a', 'constant_age': None, 'datasets': [{'name': 'b'}]}
    files.write_json(tmp_path / 'dataset.json', record)
    found = workdir.load_dataset(tmp_path)
    assert found == record
    for one in (found, found['datasets'][0]):
        with pytest.raises(ValueError, match=f"{tmp_path}/dataset.json .* it lacks 'splits'"):
            one['splits']
    files.write_json(tmp_path / 'dataset.json', record | change)
    with pytest.raises(ValueError, match=f'{tmp_path}/dataset.json is damaged: {message}'):
        workdir.load_dataset(tmp_path)


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


def columns(ids, age, gender):
    return {'id': np.array(ids), 'age': np.array(age, np.float32), 'gender': np.array(gender)}


def test_dataset_record_holds_the_constant_predictor_of_the_training_split():
    nan = float('nan')
    record = workdir.describe_dataset(
        'faces/default/1.0.0',
        {
            'train': columns(list('dabc'), [20, nan, 50, 31], [1, 1, -1, 0]),
            'test': columns(list('xy'), [90, 90], [0, 0]),
        },
        'train',
    )
    assert record == {
        'name': 'faces/default/1.0.0',
        'geometry': {'geometry': 'as_given'},
        'constant_age': 31.0,
        'constant_gender': 1,
        'splits': {
            'train': {
                'num_examples': 4,
                'sha256': hashlib.sha256(b'a nan 1\nb 50.0 -1\nc 31.0 0\nd 20.0 1').hexdigest(),
            },
            'test': {
                'num_examples': 2,
                'sha256': hashlib.sha256(b'x 90.0 0\ny 90.0 0').hexdigest(),
            },
        },
    }
    assert json.loads(json.dumps(record)) == record


def test_dataset_record_without_known_labels():
    train = {'train': columns(['a', 'b'], [float('nan')] * 2, [-1, -1])}
    record = workdir.describe_dataset('faces', train, 'train')
    assert (record['constant_age'], record['constant_gender']) == (None, -1)


def test_examples_hash_depends_on_ids_and_labels_and_not_on_their_order():
    base = columns(['b', 'a', 'ä'], [1, 2, float('nan')], [0, 1, -1])
    turned = {name: values[::-1] for name, values in base.items()}
    assert workdir.examples_hash(base) == workdir.examples_hash(turned)
    others = [
        columns(['b', 'a', 'c'], [1, 2, float('nan')], [0, 1, -1]),
        columns(['b', 'a', 'ä'], [2, 1, float('nan')], [0, 1, -1]),
        columns(['b', 'a', 'ä'], [1, 2, float('nan')], [1, 0, -1]),
        columns(['b', 'a'], [1, 2], [0, 1]),
    ]
    hashes = {workdir.examples_hash(x) for x in [base, *others]}
    assert len(hashes) == 5
    # What it was before ages could be ranges.
    text = 'a 2.0 1\nb 1.0 0\nä nan -1'
    assert workdir.examples_hash(base) == hashlib.sha256(text.encode()).hexdigest()
    bounds = {'age_min': base['age'], 'age_max': base['age']}
    assert workdir.examples_hash(base | bounds) == workdir.examples_hash(base)
    ranges = [
        {'age_min': np.array([1, 2, low]), 'age_max': np.array([1, 2, high])}
        for low, high in ((20, 29), (20, np.inf), (3, 29))
    ]
    assert len({workdir.examples_hash(base | x) for x in ranges} | hashes) == 8


def begin(folder):
    (folder / 'checkpoints' / '3').mkdir(parents=True)


def test_other_examples_than_at_the_start_are_refused_once_there_is_a_checkpoint(tmp_path):
    def record(name='faces/default/1.0.0', **ids):
        splits = {
            split: columns(list(members), [1.0] * len(members), [0] * len(members))
            for split, members in ids.items()
        }
        return workdir.describe_dataset(name, splits, 'train')

    workdir.check_dataset(tmp_path, record(train='abc', test='xy'))
    workdir.save_dataset(tmp_path, record(train='abc', test='xy'))
    workdir.check_dataset(tmp_path, record(train='abd', test='xyz'))
    begin(tmp_path)
    workdir.check_dataset(tmp_path, record(train='cba', test='yx'))
    workdir.check_dataset(tmp_path, record(train='abc'))  # a run without the test split
    with pytest.raises(ValueError, match=r"split 'test' .* had 2 examples .* has 3"):
        workdir.check_dataset(tmp_path, record(train='abc', test='xyz'))
    with pytest.raises(ValueError, match=r"'train' .* had 3 .* has 3, and they or their labels"):
        workdir.check_dataset(tmp_path, record(train='abd', test='xy'))
    with pytest.raises(ValueError, match=r'began with faces/default/1\.0\.0, not other/1'):
        workdir.check_dataset(tmp_path, record('other/1', train='abc', test='xy'))
    expected = {**record(train='abc', test='xy'), 'hybrid_version': hybrid.__version__}
    assert workdir.load_dataset(tmp_path) == expected


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
    # Of before there was such a key.
    config.model.encoder.pretrained = ''
    old = config.to_dict()
    del old['init_from'], old['model']['encoder']['pretrained']
    (tmp_path / 'config.json').write_text(json.dumps(old))
    workdir.check_continues(tmp_path, config, overwrite=True)


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
