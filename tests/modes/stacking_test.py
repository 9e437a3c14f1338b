"""Whole runs taken apart and put together are in ensemble_runs_test.py."""

import pytest

from hybrid import files
from hybrid.models import encoders, resnet
from hybrid.modes import stacking
from hybrid.runs import dataset_record, face_ranges, trained, workdir
from tests.weights.earlier_run_test import create_config, filled, save


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, 'resnet18', resnet.encoder((1,), 'basic'))


def test_runs_that_began_with_other_weights_are_one_group(tmp_path):
    configs, folders = [], []
    for number, source in enumerate(('a.safetensors', 'b.safetensors')):
        config = create_config()
        config.model.encoder.pretrained, config.init_from = source, f'runs/{number}'
        folder = tmp_path / str(number)
        save(folder, config, {1: filled(config, number)})
        record = {'constant_age': 30.0, 'constant_gender': 0, 'splits': {}}
        dataset_record.save(folder, record)
        workdir.save_sources(folder, [{'source': source}, {'source': 'both'}])
        files.write_json(folder / face_ranges.FILE, {'of': number})
        configs.append(config)
        folders.append(folder)
    stacked = stacking.stack(configs, folders, 'last', tmp_path / 'both')
    config = workdir.load_config(stacked, create_config())
    assert (config.ensemble.size, config.ensemble.groups.to_dict()) == (2, {})
    # What they learnt from may leak into an evaluation.
    assert (config.model.encoder.pretrained, config.init_from) == ('', 'runs/0,runs/1')
    began = [entry['source'] for entry in workdir.load_sources(stacked)]
    assert began == ['a.safetensors', 'both', 'b.safetensors']
    assert workdir.read_json(stacked / face_ranges.FILE) == {'of': 0}
    _, state = trained.restore(config, stacked, 'last')
    assert state['members'].params['encoder']['conv1']['kernel'][:, 0, 0, 0, 0].tolist() == [0, 1]
    # The runs themselves are as they were.
    assert configs[0].init_from == 'runs/0'


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_a_parameter_that_one_run_alone_has_is_a_difference(tmp_path, order):
    configs, folders = [create_config(), create_config()], [tmp_path / '0', tmp_path / '1']
    configs[0].data.parameters = {'align': True, 'size': 128}
    configs[1].data.parameters = {'align': True}
    mixed = [configs[k] for k in order], [folders[k] for k in order]
    with pytest.raises(ValueError, match=r'differ in config\.data\.parameters\.size; members of'):
        stacking.stack(*mixed, 'last', tmp_path / 'both')
    assert not (tmp_path / 'both').exists()
