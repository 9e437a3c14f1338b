import dataclasses
import pathlib

import numpy as np
import pytest

from hybrid.runs import dataset_record, fitted, member_weights, workdir
from hybrid.runs.member_weights import combined_folder
from hybrid.scores import combination
from tests.modes.evaluate_test import fixed


def test_weights_of_runs_that_others_have_replaced_are_not_taken(
    tiny_config, tmp_path, monkeypatch
):
    config = tiny_config
    config.ensemble.weights = 'validation'
    folders = [tmp_path / name for name in 'ab']
    models = [
        dataclasses.replace(fixed(config, folder), scores={0: score})
        for folder, score in zip(folders, (1.0, 2.0), strict=True)
    ]
    weights = combination.Weights(np.array([0.25, 0.75]), np.array([1.0, 0.0]))
    source = fitted.source(models, [0, 1])
    member_weights.save(combined_folder(folders), source, weights)
    found = member_weights.find(models)
    assert found is not None
    assert (found.age.tolist(), found.gender.tolist()) == ([0.25, 0.75], [1.0, 0.0])
    # However the paths of the workdirs are written.
    monkeypatch.chdir(tmp_path)
    relative = [
        dataclasses.replace(model, folder=pathlib.Path(model.folder.name)) for model in models
    ]
    assert member_weights.find(relative) is not None
    with pytest.raises(ValueError, match=r'b\+a/ensemble_weights\.json has none'):
        member_weights.find(relative[::-1])
    # Trained anew with another seed; the best checkpoint is of the same step.
    models[1] = dataclasses.replace(models[1], scores={0: 2.5})
    with pytest.raises(ValueError, match=r'ensemble_weights\.json has none for this checkpoint'):
        member_weights.find(models)


def test_weights_are_not_fitted_to_faces_that_the_training_has_seen(tiny_config, tmp_path):
    config = tiny_config
    config.ensemble.weights = 'validation'
    folders = [tmp_path / name for name in 'ab']
    for folder in folders:
        workdir.save_config(folder, config)
        dataset_record.save(folder, {'name': 'faces', 'splits': {}})
    models = [fixed(config, folder) for folder in folders]
    age = np.linspace(10, 60, 20, dtype=np.float32)
    leak = np.arange(20) < 12  # Most of the split: the first member has learned these by heart.
    labels = {'id': age.astype(str), 'age': age, 'gender': np.arange(20) % 2, 'leak': leak}
    labels |= {'age_min': age, 'age_max': age}
    right = np.where(labels['gender'] == 1, 0.9, 0.1)
    predicted = {
        'predicted_age': np.stack([age + 9 * ~leak, age + 9 * leak], axis=1),
        'female_probability': np.stack(
            [np.where(leak, right, 1 - right), np.where(leak, 1 - right, right)], axis=1
        ),
    }
    arguments = models, None, config.data.validation_split, labels, predicted, [0, 1], tmp_path
    weights = member_weights.find_or_fit(*arguments)
    assert weights is not None
    np.testing.assert_allclose(weights.age, [0, 1], atol=1e-6)
    np.testing.assert_allclose(weights.gender, [0, 1], atol=1e-3)
    del labels['leak']
    weights = member_weights.find_or_fit(*arguments)
    assert weights is not None
    assert weights.age[0] > 0.5


def test_results_of_several_workdirs_have_a_folder_of_their_own(tmp_path):
    assert combined_folder([tmp_path / 'a']) == tmp_path / 'a'
    assert combined_folder([tmp_path / 'a', tmp_path / 'b']) == tmp_path / 'a+b'
    # Runs of one name in different folders, and more than the name of a file may be long.
    folders = [
        combined_folder([tmp_path / '0' / 'run', tmp_path / other / 'run']) for other in '12'
    ]
    assert folders[0] != folders[1]
    assert {folder.parent for folder in folders} == {tmp_path / '0'}
    many = [tmp_path / f'utkface_resnet18_lstm_seed_{k}' for k in range(10)]
    combined_folder(many).mkdir()
    assert combined_folder(many) != combined_folder([*many[:9], tmp_path / 'x'])


def test_damaged_weights_are_named(tmp_path):
    path = tmp_path / member_weights.FILE
    assert member_weights.load(tmp_path, {}) is None
    path.write_text('{"source": {}, "weights": {"age": [1.0]}}')
    assert member_weights.load(tmp_path, {'members': [0]}) is None
    with pytest.raises(ValueError, match=rf"{member_weights.FILE} holds no weights \('gender'\)"):
        member_weights.load(tmp_path, {})
    for weights, said in (
        ('{"age": [[1], [1, 2]], "gender": [1, 2]}', 'inhomogeneous shape'),
        ('{"age": [1.0], "gender": ["x"]}', 'could not convert string to float'),
        ('{"age": [1.0], "gender": [0.5, 0.5]}', 'of 1 and 2 members'),
        ('{"age": [1.0], "gender": [1.0]}', 'of 1 and 1 members'),
    ):
        path.write_text(f'{{"source": {{"members": [0, 1]}}, "weights": {weights}}}')
        with pytest.raises(ValueError, match=rf'{member_weights.FILE} holds no weights .*{said}'):
            member_weights.load(tmp_path, {'members': [0, 1]})
