"""Evaluation on another dataset than the training's; the whole of it is in transfer_test.py."""

import json
import logging

import numpy as np
import pytest

from hybrid import datasets
from hybrid.data import parts, records, several, shared
from hybrid.modes import evaluate
from hybrid.runs import (
    dataset_record,
    fitted,
    leaks,
    member_weights,
    trained,
    trained_on,
    workdir,
)
from hybrid.scores import combination
from tests import two_datasets
from tests.datasets.face_csv_test import write_faces
from tests.modes.evaluate_test import fixed
from tests.utkface_archive import jpeg


@pytest.fixture
def trained_on_tiny(tiny_config, tiny_builder, tmp_path):
    """A workdir of synthetic_faces/tiny with a model that says what the first pixel says."""
    config = tiny_config
    config.data.normalization = 'unit'
    config.data.resize_size = config.data.image_size = 8
    folder = tmp_path / 'run'
    workdir.save_config(folder, config)
    columns = {
        split: records.read_columns(tiny_builder, split)
        for split in ('train', 'validation', 'test')
    }
    record = dataset_record.describe(tiny_builder.info.full_name, columns, 'train')
    dataset_record.save(folder, record)
    return config, folder


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == leaks.__name__]


def test_a_dataset_is_another_one_by_its_name_or_its_parameters(trained_on_tiny):
    config, folder = trained_on_tiny
    config.data.parameters = {'seed': 3}
    workdir.save_config(folder, config)
    assert not leaks.is_other(config.data, folder)
    other = config.copy_and_resolve_references()
    other.data.dataset = 'utkface'
    assert leaks.is_other(other.data, folder)
    same = config.copy_and_resolve_references()
    same.data.parameters = {'seed': 4}
    assert leaks.is_other(same.data, folder)
    config.data.dataset = 'utkface,synthetic_faces/tiny'
    config.data.parameters = {'synthetic_faces/tiny': {'seed': 4}}
    workdir.save_config(folder, config)
    assert not leaks.is_other(same.data, folder)
    assert [leaks.is_other(one, folder) for one in several.sections(config.data)] == [False] * 2
    other.data.parameters = {}
    assert not leaks.is_other(other.data, folder)


@pytest.mark.long
def test_results_are_kept_apart_and_what_was_trained_on_is_a_leak(
    trained_on_tiny, tiny_data_dir, monkeypatch, caplog
):
    config, folder = trained_on_tiny
    model = fixed(config, folder)
    monkeypatch.setattr(trained, 'restore_all', lambda *_: [model])
    monkeypatch.setattr(evaluate, 'check_config', lambda _: None)
    own = evaluate.evaluate([config], [folder], 'test', 'best')
    before = (folder / 'evaluation/test/metrics.json').read_bytes()

    # The same faces under other sizes: the first 67 of train are those that were trained on.
    config.data.parameters = {'num_train': 80, 'num_test': 30}
    caplog.set_level(logging.WARNING, 'hybrid')
    logging.getLogger('hybrid').propagate = True
    name = datasets.create_builder(
        'synthetic_faces/tiny', str(tiny_data_dir), config.data.parameters.to_dict()
    ).info.full_name.replace('/', '_')
    evaluate.evaluate([config], [folder], 'test', 'best')
    assert warnings(caplog) == []
    scores = json.loads((folder / f'evaluation/{name}/test/metrics.json').read_text())
    assert scores['num_examples'] == 30
    assert 'without_leaks/num_examples' not in scores
    about = json.loads((folder / f'evaluation/{name}/test/evaluation.json').read_text())
    assert about['dataset'].replace('/', '_') == name

    scores = evaluate.evaluate([config], [folder], 'train', 'best')
    assert '67 of these 80 examples' in warnings(caplog)[0]
    assert scores['without_leaks/num_examples'] == 13
    assert (folder / 'evaluation/test/metrics.json').read_bytes() == before
    assert not (folder / 'evaluation/train').exists()
    assert own['num_examples'] == 41


@pytest.mark.long
def test_several_workdirs_are_combined_on_another_dataset_with_the_weights_of_their_own(
    trained_on_tiny, tmp_path, monkeypatch
):
    config, folder = trained_on_tiny
    second = tmp_path / 'second'
    workdir.save_config(second, config)
    dataset_record.save(second, dataset_record.load(folder))
    configs = [config.copy_and_resolve_references() for _ in range(2)]
    models = [fixed(c, f) for c, f in zip(configs, (folder, second), strict=True)]
    monkeypatch.setattr(trained, 'restore_all', lambda *_: models)
    monkeypatch.setattr(evaluate, 'check_config', lambda _: None)
    for one in configs:
        one.data.parameters = {'num_test': 30}
        one.ensemble.weights = 'validation'
    # Not fitted anew, on the other dataset's validation split.
    with pytest.raises(ValueError, match=r'ensemble_weights\.json has none for this checkpoint'):
        evaluate.evaluate(configs, [folder, second], 'test', 'best')
    source = fitted.source(models, [0, 1])
    weights = combination.Weights(np.array([0.25, 0.75]), np.array([0.5, 0.5]))
    member_weights.save(tmp_path / 'run+second', source, weights)
    scores = evaluate.evaluate(configs, [folder, second], 'test', 'best')
    assert scores['num_examples'] == 30
    (about,) = (tmp_path / 'run+second').glob('evaluation/synthetic_faces_*/test/evaluation.json')
    assert json.loads(about.read_text())['weights']['age'] == [0.25, 0.75]
    assert not (folder / 'evaluation').exists()


def test_what_the_run_learnt_from_that_it_started_from_is_a_leak_too(
    trained_on_tiny, tiny_builder, tiny_data_dir, tmp_path, caplog
):
    config, folder = trained_on_tiny
    columns = records.read_columns(tiny_builder, 'train')
    tuned = config.copy_and_resolve_references()
    tuned.init_from = f'{folder}@last'
    tuned.data.dataset, tuned.data.data_dir = 'face_csv/none', str(tmp_path)
    workdir.save_config(tmp_path / 'tuned', tuned)
    tuned.data.data_dir = str(tiny_data_dir)

    def seen():
        folders = [tmp_path / 'tuned']
        return leaks.seen_in_training(columns, tiny_builder, 'train', [tuned], folders)

    assert seen().all()
    assert [f'{tmp_path / "tuned"}: whether' in x for x in warnings(caplog)] == [True, False]
    assert f'{folder}: 67 of these 67 examples' in warnings(caplog)[1]
    tuned.init_from = str(tmp_path / 'gone')
    workdir.save_config(tmp_path / 'tuned', tuned)
    assert not seen().any()
    assert f'{tmp_path}/gone is not the folder of a training' in warnings(caplog)[2]


def test_what_a_run_began_with_may_leak_into_its_own_test_split(
    trained_on_tiny, tiny_builder, tmp_path
):
    config, folder = trained_on_tiny
    tuned = config.copy_and_resolve_references()
    tuned.init_from = f'{folder}@last'
    workdir.save_config(tmp_path / 'tuned', tuned)

    def seen(split):
        columns = records.read_columns(tiny_builder, split)
        return leaks.seen_in_training(
            columns, tiny_builder, split, [tuned], [tmp_path / 'tuned'], split
        )

    # Both were chosen on the same validation split; neither has seen the test split.
    assert not seen('validation').any()
    assert not seen('test').any()
    earlier = config.copy_and_resolve_references()
    earlier.data.train_split, earlier.data.validation_split = 'test', ''
    workdir.save_config(folder, earlier)
    assert seen('test').all()
    # What the run itself was trained on is no leak where it is asked for by name.
    assert not seen('train').any()


def test_a_split_that_holds_part_of_the_training_marks_it(trained_on_tiny, tiny_builder):
    config, folder = trained_on_tiny

    def seen(split):
        columns = records.read_columns(tiny_builder, split)
        found = leaks.seen_in_training(columns, tiny_builder, split, [config], [folder], split)
        return [name.split('_')[0] for name in columns['id'][found]]

    assert seen('test') == seen('train') == seen('validation') == []
    assert seen('train[:5]+test') == ['train'] * 5
    assert seen('test+validation') == ['validation'] * 23


def test_it_is_said_when_the_training_data_are_not_there(
    trained_on_tiny, tiny_builder, tmp_path, caplog
):
    config, folder = trained_on_tiny
    config.data.data_dir = str(tmp_path / 'nowhere')
    workdir.save_config(folder, config)
    columns = {'id': np.array(['a']), 'group': np.array(['a'])}
    logging.getLogger('hybrid').propagate = True
    assert not leaks.seen_in_training(columns, tiny_builder, 'test', [config], [folder]).any()
    assert 'synthetic_faces/tiny is not prepared here' in warnings(caplog)[0]


def test_what_is_in_several_splits_is_a_leak_for_who_has_seen_it(tiny_config, tmp_path):
    config = tiny_config
    config.data.dataset, config.data.data_dir = 'face_csv/own', str(tmp_path / 'data')
    groups = {'train': 'abcx', 'validation': 'bdex', 'test': 'adfx'}
    rows = [
        (jpeg(10 * k + j), f'{split}_{group}.jpg', 30, 'f', split, group)
        for k, (split, names) in enumerate(groups.items())
        for j, group in enumerate(names)
    ]
    folder = write_faces(tmp_path / 'own', rows, 'path,age,gender,split,group')
    builder = datasets.create_builder('face_csv/own', str(tmp_path / 'data'))
    datasets.prepare(builder, str(folder))
    workdir.save_config(tmp_path / 'run', config)
    alone = config.copy_and_resolve_references()
    alone.data.train_split, alone.data.validation_split = 'test', ''
    workdir.save_config(tmp_path / 'alone', alone)
    elsewhere = config.copy_and_resolve_references()
    elsewhere.data.dataset, elsewhere.data.data_dir = 'synthetic_faces/tiny', str(tmp_path)
    workdir.save_config(tmp_path / 'elsewhere', elsewhere)

    def marked(name, config, split, other=False):
        labels = records.read_columns(builder, split)
        assert labels['leak'].any()
        labels = leaks.mark(labels, builder, split, [fixed(config, tmp_path / name)], other)
        return [name[-5] for name in sorted(labels['id'][labels['leak']])]

    assert marked('run', config, 'train') == []
    assert marked('run', config, 'validation') == ['b', 'x']
    assert marked('run', config, 'test') == ['a', 'd', 'x']
    assert marked('run', config, 'test+validation') == ['a', 'd', 'x', 'b', 'd', 'e', 'x']
    assert marked('alone', alone, 'validation') == ['d', 'x']
    # Another dataset's model has seen none of them, wherever else they are.
    assert marked('elsewhere', elsewhere, 'test', other=True) == []


@pytest.mark.long
def test_of_other_datasets_the_images_are_compared(tiny_config, two_datasets_dir, tmp_path):
    config = tiny_config
    config.data.data_dir = str(two_datasets_dir)
    config.data.dataset = 'face_csv/a'
    workdir.save_config(tmp_path / 'of_a', config)

    def seen(name, split, run, own_split=None, data_dir=two_datasets_dir):
        builder = datasets.create_builder(f'face_csv/{name}', str(data_dir))
        columns = records.read_columns(builder, split)
        folders = [tmp_path / run]
        found = leaks.seen_in_training(columns, builder, split, [config], folders, own_split)
        return sorted(columns['id'][found].tolist())

    # As two_datasets.LEFT_OUT says; what is in a test split of a has not been seen.
    assert seen('b', 'train', 'of_a') == ['b1.jpg', 'b41.jpg']
    assert seen('b', 'validation', 'of_a') == ['b15.jpg']
    assert seen('b', 'test', 'of_a') == ['b20.jpg', 'b21.jpg']
    config.data.dataset = 'face_csv/b'
    workdir.save_config(tmp_path / 'of_b', config)
    config.data.dataset, config.init_from = 'face_csv/a', str(tmp_path / 'of_b')
    (tmp_path / 'of_b/checkpoints').mkdir()
    workdir.save_config(tmp_path / 'tuned', config)
    assert seen('a', 'test', 'tuned', 'test') == ['a26.jpg', 'a27.jpg']
    # Of b's train its first row is left out, so others are counted from there.
    config.data.dataset, config.init_from = 'face_csv/a,face_csv/b', ''
    workdir.save_config(tmp_path / 'of_both', config)
    both = parts.open_all(config)
    trained_on.save(tmp_path / 'of_both', shared.find(both))
    faces = [('c0.jpg', two_datasets.face(3, seed=1)), ('c1.jpg', two_datasets.face(40))]
    faces += [('c2.jpg', two_datasets.face(0, seed=1))]
    rows = [
        (two_datasets.cut_otherwise(face), name, 30, 'f', 'train', group)
        for (name, face), group in zip(faces, ['p', 'p', 'q'], strict=True)
    ]
    folder = write_faces(tmp_path / 'c', rows, 'path,age,gender,split,group')
    datasets.prepare(datasets.create_builder('face_csv/c', str(tmp_path / 'data')), str(folder))
    # c1.jpg is of the group of c0.jpg, and b0.jpg was left out.
    assert seen('c', 'train', 'of_both', data_dir=tmp_path / 'data') == ['c0.jpg', 'c1.jpg']


def test_of_two_own_tables_the_same_names_are_the_same_faces_only_if_the_images_are(
    tiny_config, tmp_path
):
    tables = {
        'mine': {name: jpeg(k) for k, name in enumerate(['1.jpg', '2.jpg', '3.jpg', 'x.jpg'])},
        'theirs': {
            name: jpeg(k) for k, name in [(0, '1.jpg'), (8, '2.jpg'), (9, '3.jpg'), (3, 'y.jpg')]
        },
    }
    builders = {}
    for table, pictures in tables.items():
        rows = [(content, name, 30, 'f', 'train') for name, content in pictures.items()]
        folder = write_faces(tmp_path / table, rows, 'path,age,gender,split')
        builders[table] = datasets.create_builder(f'face_csv/{table}', str(tmp_path / 'data'))
        datasets.prepare(builders[table], str(folder))
    config = tiny_config
    config.data.dataset, config.data.data_dir = 'face_csv/mine', str(tmp_path / 'data')
    config.data.validation_split = ''
    workdir.save_config(tmp_path / 'run', config)

    def seen(name, parameters=None):
        builder = datasets.create_builder(name, str(tmp_path / 'data'), parameters)
        if parameters:
            datasets.prepare(builder, str(tmp_path / 'mine'))
        columns = records.read_columns(builder, 'train')
        found = leaks.seen_in_training(columns, builder, 'train', [config], [tmp_path / 'run'])
        return sorted(columns['id'][found].tolist())

    # 2.jpg and 3.jpg of theirs are other people, whose groups are called so, too; y.jpg is x.jpg.
    assert seen('face_csv/theirs') == ['1.jpg', 'y.jpg']
    # Cut in another way, or with other labels, the faces of a table are still its faces.
    assert seen('face_csv/mine', {'train_fraction': 0.7}) == ['1.jpg', '2.jpg', '3.jpg', 'x.jpg']
