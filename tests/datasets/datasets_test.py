import hashlib
import os
import re
import tempfile
import threading
import time

import pytest
import tensorflow_datasets as tfds

from hybrid import datasets


def test_a_config_has_the_name_that_was_given_to_it_whatever_its_parameters(tmp_path):
    def name(dataset, **parameters):
        return datasets.config_name(datasets.create_builder(dataset, str(tmp_path), parameters))

    # A date looks like the hash that parameters add.
    assert name('face_csv/faces_20240115') == 'faces_20240115'
    assert name('face_csv/faces_20240115', align=True) == 'faces_20240115'
    assert name('face_csv/faces', align=True) == 'faces'
    assert name('utkface', train_fraction=0.7) == name('utkface') == 'default'


def test_builder_names_and_parameters(tmp_path):
    create = datasets.create_builder
    assert create('utkface', str(tmp_path)).info.full_name == 'utkface/default/1.0.0'
    same = create('utkface', str(tmp_path), {'max_hamming_distance': 16, 'train_fraction': 0.8})
    assert same.info.full_name == 'utkface/default/1.0.0'
    other = create('utkface', str(tmp_path), {'validation_fraction': 0.15, 'train_fraction': 0.7})
    values = b'{"train_fraction":0.7,"validation_fraction":0.15}'
    digest = hashlib.sha256(values).hexdigest()[:8]
    assert other.info.full_name == f'utkface/default_{digest}/1.0.0'
    assert other.builder_config.fractions == pytest.approx(
        {'train': 0.7, 'validation': 0.15, 'test': 0.15}
    )
    assert create('utkface', str(tmp_path)).builder_config.train_fraction == 0.8


@pytest.mark.parametrize(
    ('name', 'parameters', 'message'),
    [
        ('utkfacs', {}, "no dataset 'utkfacs'. Did you mean 'utkface'"),
        ('utkface/coral', {}, "no config 'coral'. Did you mean 'coral_21_60'"),
        ('face_csv/a b', {}, 'has letters, digits, and between them _ - . or +'),
        ('face_csv/a b', {}, 'such as face_csv/a_b'),
        ('face_csv/../x', {}, 'such as face_csv/x'),
        ('face_csv/.hidden', {}, 'such as face_csv/hidden'),
        ('face_csv/mine/', {}, 'such as face_csv/mine'),
        ('face_csv/1.0.0', {}, 'no version number, such as face_csv/faces_1_0_0'),
        ('imdb_wiki/imbd', {}, "no config 'imbd'. Did you mean 'imdb'"),
        ('imdb_wiki', {'databases': ['a']}, "databases=('a',) must be of imdb, wiki"),
        ('imdb_wiki', {'databases': [['imdb']]}, "databases=['imdb'] must be of type str"),
        ('utkface', {1: 2}, 'has no parameter 1. There are: '),
        ('imdb_wiki', {'min_age': 50, 'max_age': 20}, 'min_age=50.0 is above max_age=20.0'),
        ('utkface', {'split_scheme': 'radnom'}, 'must be one of component, coral_21_60, random'),
        ('utkface', {'train_fractoin': 0.7}, "Did you mean 'train_fraction'"),
        ('utkface', {'name': 'x'}, "has no parameter 'name'"),
        ('utkface', {'train_fraction': '0.7'}, "train_fraction='0.7' must be of type float"),
        ('utkface', {'max_hamming_distance': True}, 'must be of type int'),
        ('utkface', {'max_hamming_distance': 300}, 'max_hamming_distance=300'),
        ('utkface', {'train_fraction': 0.95}, 'split fractions'),
        ('utkface', {'split_scheme': 'coral'}, "split_scheme='coral'"),
        ('utkface/coral_21_60', {'train_fraction': 0.8}, 'must sum to 1'),
    ],
)
def test_wrong_names_and_parameters_are_refused_in_one_line(tmp_path, name, parameters, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        datasets.create_builder(name, str(tmp_path), parameters)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['appa-real', 'fairface0.25', 'a+b', 'größe', '2024', '_x'])
def test_names_of_ones_own_may_have_hyphens_and_dots(tmp_path, name):
    builder = datasets.create_builder(f'face_csv/{name}', str(tmp_path))
    assert builder.info.full_name == f'face_csv/{name}/1.0.0'
    assert builder.data_path == tmp_path / 'face_csv' / name / '1.0.0'


def prepare_tiny(data_dir):
    builder = datasets.create_builder('synthetic_faces/tiny', str(data_dir))
    datasets.prepare(builder)
    return builder


def test_preparing_says_what_and_where_and_how_many_once(tmp_path, capfd):
    prepare_tiny(tmp_path)
    lines = capfd.readouterr().out.splitlines()
    assert lines == [
        f'preparing synthetic_faces/tiny/1.0.0 in {tmp_path}',
        'prepared: train 67, validation 23, test 41 examples',
    ]
    prepare_tiny(tmp_path)
    assert capfd.readouterr() == ('', '')


def test_an_interrupted_preparation_leaves_nothing_that_looks_prepared(tmp_path, monkeypatch):
    builder = datasets.create_builder('synthetic_faces/tiny', str(tmp_path))
    generate = type(builder)._generate_examples

    def interrupted(self, split):
        yield next(generate(self, split))
        if split == 'test':
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(builder), '_generate_examples', interrupted)
        with pytest.raises(KeyboardInterrupt):
            datasets.prepare(builder)
    assert not builder.is_prepared()
    assert list(builder.data_path.parent.glob('*')) == []
    again = prepare_tiny(tmp_path)
    assert again.is_prepared()
    assert len(again.as_data_source('train')) == 67


def test_prepared_data_is_left_alone(tmp_path, monkeypatch):
    builder = prepare_tiny(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(type(builder), '_generate_examples', lambda self, split: pytest.fail(split))
        again = prepare_tiny(tmp_path)
    assert len(again.as_data_source('train')) == 67
    (builder.data_path / 'dataset_info.json').unlink()
    with pytest.raises(ValueError, match='not a prepared dataset: remove it'):
        prepare_tiny(tmp_path)


def test_a_builder_leaves_no_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
    (tmp_path / 'temporary').mkdir()
    for name in ('synthetic_faces', 'utkface/coral_21_60', 'face_csv/mine'):
        datasets.create_builder(name, str(tmp_path / 'data'))
    assert not list((tmp_path / 'temporary').iterdir())


def test_builders_that_are_created_at_once_leave_tfds_as_it_was():
    look = tfds.core.DatasetInfo.initialize_from_bucket
    at_once, most = [], []

    def create(depth=1):
        at_once.append(depth)
        most.append(len(at_once))
        time.sleep(0.05)
        if depth:  # One builder may create another one.
            datasets._create(create, depth=depth - 1)
        at_once.pop()

    threads = [threading.Thread(target=datasets._create, args=(create,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert max(most) == 2
    assert tfds.core.DatasetInfo.initialize_from_bucket is look


def test_what_a_killed_preparation_left_is_removed_after_an_hour(tmp_path):
    folder = tmp_path / 'synthetic_faces' / 'tiny'
    left_over, new_file = 'incomplete.AAAAAA_1.0.0', 'incomplete.BBBBBB_1.0.0'
    others = ['incomplete.CCCCCC_2.0.0', '0.9.0', '../default/incomplete.DDDDDD_1.0.0']
    two_hours_ago = time.time() - 7200
    for name in (left_over, new_file, *others):
        path = folder / name
        path.mkdir(parents=True)
        (path / 'shard').touch()
        os.utime(path / 'shard', (two_hours_ago, two_hours_ago))
        os.utime(path, (two_hours_ago, two_hours_ago))
    os.utime(folder / new_file / 'shard')  # another process is writing it
    prepare_tiny(tmp_path)
    assert not (folder / left_over).exists()
    for name in (new_file, *others, '1.0.0'):
        assert (folder / name).is_dir(), name


def test_of_two_preparations_at_once_the_slower_one_takes_what_the_other_wrote(tmp_path, capsys):
    parameters = {'num_train': 3, 'num_validation': 2, 'num_test': 2}
    first, second = (
        datasets.create_builder('synthetic_faces', str(tmp_path), parameters) for _ in range(2)
    )

    def overtaken(**_):
        datasets.prepare(first)
        raise FileExistsError('Directory not empty')

    second.download_and_prepare = overtaken
    datasets.prepare(second)
    assert second.info.splits['train'].num_examples == 3
    assert capsys.readouterr().out.count('prepared: train 3') == 2
