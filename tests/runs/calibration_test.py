import dataclasses
import json

import numpy as np
import pytest

from hybrid.runs import calibration, dataset_record, workdir
from hybrid.runs.calibration import Calibration
from hybrid.scores import intervals
from hybrid.scores.intervals import Intervals
from hybrid.scores.rows import create
from tests.modes.evaluate_test import fixed


@pytest.fixture
def model(tiny_config, tmp_path):
    workdir.save_config(tmp_path, tiny_config)
    dataset_record.save(tmp_path, {'name': 'faces'})
    return dataclasses.replace(fixed(tiny_config, tmp_path), scores={0: 1.5})


def predicted(count=400, **columns):
    rng = np.random.default_rng(0)
    return create(
        {
            'id': np.arange(count),
            'age': rng.uniform(0, 90, count),
            'gender': rng.integers(0, 2, count),
            'predicted_age': rng.uniform(0, 90, count),
            'female_probability': rng.uniform(0, 1, count),
            'constant_age': np.full(count, 30),
            'constant_gender': np.zeros(count, int),
        }
        | columns
    )


def find_or_fit(model, rows, split, other=False):
    return calibration.find_or_fit([model], rows, split, other, [], None, model.folder)


def fingerprint(model):
    found = calibration.find([model], None)
    assert found is not None
    return found.fingerprint


def test_it_is_fitted_on_the_own_validation_split_alone_and_then_found(model):
    rows = predicted()
    assert find_or_fit(model, rows, 'test') is None
    assert find_or_fit(model, rows, 'validation', other=True) is None
    fitted = find_or_fit(model, rows, 'validation')
    found = find_or_fit(model, predicted(10), 'test')
    assert found.fingerprint == fitted.fingerprint == calibration.fit(rows).fingerprint
    assert fingerprint(model) == fitted.fingerprint
    # Another checkpoint, other views, or a run that has replaced this one had other errors.
    views = model.config.copy_and_resolve_references()
    views.evaluate.flip_average = not views.evaluate.flip_average
    overrides = {'overrides': {'data.image_size': 16}}
    for changes in ({'step': 4}, {'scores': {0: 1.0}}, {'config': views}, overrides):
        other = dataclasses.replace(model, **changes)
        assert calibration.find([other], None) is None
        # What is fitted for these takes nothing from the first.
        find_or_fit(other, predicted(200), 'validation')
        assert fingerprint(other) == calibration.fit(predicted(200)).fingerprint
        assert fingerprint(model) == fitted.fingerprint
    record = json.loads((model.folder / calibration.FILE).read_text())
    assert len(record['others']) == 4
    # By whatever name a checkpoint was asked for, it is the one of its step.
    assert fingerprint(dataclasses.replace(model, checkpoint='3')) == fitted.fingerprint
    assert not any('others' in one for one in record['others'])


def test_of_models_that_are_combined_each_has_its_own_views(model, tmp_path):
    other = dataclasses.replace(model, folder=tmp_path / 'other')
    views = model.config.copy_and_resolve_references()
    views.evaluate.flip_average = not views.evaluate.flip_average
    workdir.save_config(other.folder, views)  # As trained, it looks at other views than the first.
    own = dataclasses.replace(other, config=views)
    fitted = calibration.find_or_fit(
        [model, own], predicted(), 'validation', False, [0, 1], None, tmp_path
    )
    found = calibration.find([model, own], None, tmp_path)
    assert fitted is not None
    assert found is not None
    assert found.fingerprint == fitted.fingerprint
    assert calibration.find([model, other], None, tmp_path) is None  # A flag made both alike.


@pytest.mark.parametrize('split', ['train', 'test', 'validation[:50%]'])
def test_no_flag_has_it_fitted_on_what_is_not_the_validation_split(model, split):
    config = model.config.copy_and_resolve_references()
    config.data.validation_split = split
    other = dataclasses.replace(model, config=config)
    assert find_or_fit(other, predicted(), split) is None
    assert not (model.folder / calibration.FILE).exists()
    assert find_or_fit(other, predicted(), 'validation') is not None


def test_a_member_of_an_ensemble_finds_its_own(model):
    member = dataclasses.replace(model, member=2)
    fitted = calibration.find_or_fit(
        [member], predicted(), 'validation', False, [], None, member.results
    )
    assert fitted is not None
    assert calibration.find([model], None) is None
    assert fingerprint(member) == fitted.fingerprint


def test_what_the_training_has_seen_does_not_count(model):
    leak = np.arange(400) < 290
    found = find_or_fit(model, predicted(leak=leak), 'validation')
    assert sum(map(len, found.absolute.errors)) == 110
    assert find_or_fit(model, predicted(leak=leak | True), 'validation').absolute is None


def test_a_prediction_gets_its_interval_and_its_temperature(model):
    settings = model.config.evaluate
    absolute = Intervals((), (np.full(100, 5, np.float32),))
    scaled = Intervals((), (np.full(100, 2, np.float32),), scaled=True)
    columns = {'predicted_age': np.array([40.0]), 'female_probability': np.array([0.8])}
    found = Calibration(2.0, absolute).apply(columns, settings)
    assert (found['age_low'], found['age_high']) == (35, 45)
    assert found['female_probability'] == pytest.approx(2 / 3)
    columns['age_width'] = np.array([3.0])
    both = Calibration(2.0, absolute, scaled)
    assert both.apply(columns, settings)['age_high'] == 46
    settings.interval_errors = 'absolute'
    assert both.apply(columns, settings)['age_high'] == 45
    settings.interval_errors = 'scaled'
    with pytest.raises(ValueError, match='predicts a distribution of age'):
        Calibration(2.0, absolute).apply(columns, settings)
    settings.interval_level, settings.calibrate_gender = 0.0, False
    assert both.apply(columns, settings) == {}
    # A model of gender alone.
    settings.interval_level = 0.9
    assert Calibration(2.0).apply({'female_probability': np.array([0.5])}, settings) == {}


def test_what_is_missing_is_said(model):
    (line,) = calibration.why_no_intervals([model], None)
    assert '--mode=evaluate --split=validation with the same flags, but without --output' in line
    (line,) = calibration.why_no_intervals([model], Calibration())
    assert line == 'ages have no intervals: validation has fewer than 100 exact ages'
    rows = predicted()
    whole = Calibration(1.0, intervals.fit(rows['age'], rows['predicted_age']))
    assert calibration.why_no_intervals([model], whole) == []
    model.config.evaluate.interval_level = 0.999
    (line,) = calibration.why_no_intervals([model], whole)
    assert line.startswith('some intervals are 0 to 125 years: ')
    assert ': 99.9 % takes more than the ' in line
    model.config.evaluate.interval_level = 0.9
    model.config.data.validation_split = ''
    workdir.save_config(model.folder, model.config)
    (line,) = calibration.why_no_intervals([model], None)
    assert 'no validation split' in line
    model.config.evaluate.interval_level = 0.0
    assert calibration.why_no_intervals([model], None) == []


def test_a_damaged_file_is_named(model):
    find_or_fit(model, predicted(), 'validation')
    path = model.folder / calibration.FILE
    path.write_text(path.read_text().replace('"edges"', '"ages"'))
    with pytest.raises(ValueError, match=r'calibration\.json holds no calibration'):
        calibration.find([model], None)
    path.write_text('{"sour')
    with pytest.raises(ValueError, match=r'calibration\.json is not.*remove it, and evaluate'):
        calibration.find([model], None)
    assert find_or_fit(model, predicted(), 'validation') is not None
    assert calibration.find([model], None) is not None


def test_scaled_intervals_are_refused_before_a_training_whose_head_has_no_width(tiny_config):
    config = tiny_config
    calibration.check_errors(config, ('age', 'gender'))
    config.evaluate.interval_errors = 'scaled'
    with pytest.raises(
        ValueError, match=r"interval_errors='scaled' needs .*model\.head\.age other"
    ):
        calibration.check_errors(config, ('age', 'gender'))
    calibration.check_errors(config, ('gender',))
    config.model.head.age = 'dex'
    calibration.check_errors(config, ('age', 'gender'))
    config.ensemble.groups = {'a': {'size': 2}, 'b': {'model': {'head': {'age': 'regression'}}}}
    with pytest.raises(ValueError, match='scaled'):
        calibration.check_errors(config, ('age', 'gender'))
