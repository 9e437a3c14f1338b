import numpy as np
import tensorflow_datasets as tfds

from hybrid.data import prepared


def test_a_prepared_dataset_is_found_in_the_first_folder_that_has_it(
    tiny_config, tiny_data_dir, tmp_path
):
    data = tiny_config.data
    folders = [str(tmp_path), str(tiny_data_dir), str(tmp_path / 'never looked into')]
    found = prepared.find_prepared(data, folders)
    assert found is not None
    assert str(found.data_dir_root) == str(tiny_data_dir)
    assert prepared.find_prepared(data, folders[:1]) is None
    data.parameters = {'num_test': 30}
    assert prepared.find_prepared(data, [str(tmp_path)]) is None


def test_what_a_config_names_is_prepared(tiny_config, tmp_path, capsys):
    tiny_config.data.data_dir = str(tmp_path)
    tiny_config.data.parameters = {'num_train': 3, 'num_validation': 2, 'num_test': 2}
    assert prepared.find_prepared(tiny_config.data, [str(tmp_path)]) is None
    builder = prepared.create_prepared_builder(tiny_config)
    assert builder.info.splits['train'].num_examples == 3
    assert 'train 3' in capsys.readouterr().out
    prepared.create_prepared_builder(tiny_config)
    assert capsys.readouterr().out == ''


def test_class_labels_other_than_gender_are_subgroups():
    features = tfds.features.FeaturesDict(
        {
            'age': tfds.features.Scalar(np.float32),
            'gender': tfds.features.ClassLabel(names=['male', 'female']),
            'ethnicity': tfds.features.ClassLabel(names=['x', 'y']),
            'id': tfds.features.Text(),
        }
    )
    assert prepared.subgroup_names(features) == {'ethnicity': ['x', 'y']}
