import csv
import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid import devices
from hybrid.data import augment, conditions, input_pipeline, records
from hybrid.datasets import geometry
from hybrid.modes import evaluate, score, train
from hybrid.runs import dataset_record, trained, workdir
from hybrid.scores import joining, metrics, report, validation
from hybrid.scores.predictions_csv import read_predictions
from hybrid.training import config_checks, eval_step, learner


class FixedModel(nn.Module):
    """Says what the first pixel of an image says: red is the age, green the female probability."""

    @nn.compact
    def __call__(self, images, *, train):
        del train
        red, green = images[:, 0, 0, 0], images[:, 0, 0, 1]
        logits = jnp.stack([jnp.log1p(-green), jnp.log(green)], axis=-1)
        return {'age': 100 * red, 'gender': logits}


def fixed(config, folder):
    """A workdir whose model is FixedModel."""

    class Fixed(learner.SingleModel):
        def __init__(self):
            step = eval_step.create_eval_step(FixedModel(), config)
            self.eval_step = devices.compile_eval_step(step)

    return trained.Trained(folder, config, Fixed(), {}, 'best', 3)


@pytest.fixture
def config(tiny_config):
    tiny_config.data.normalization = 'unit'
    tiny_config.data.resize_size = tiny_config.data.image_size = 8
    return tiny_config


def predict(config, builder, split='test', on=None):
    step = eval_step.create_eval_step(FixedModel(), config)
    compiled = jax.pmap(step, axis_name=devices.AXIS, in_axes=(None, 0), out_axes=0, devices=on)
    return eval_step.predict_split(compiled, {}, builder, split, config)


def expected_pixels(builder, split, config):
    source = builder.as_data_source(split)
    return (
        np.stack(
            [input_pipeline.resize(x['image'], config.data.resize_size)[0, 0] for x in source]
        ).astype(np.float64)
        / 255
    )


def test_every_example_gets_its_own_prediction(config, tiny_builder):
    pixels = expected_pixels(tiny_builder, 'test', config)
    for batch_size in (4, 16, 64):
        config.evaluate.batch_size = batch_size
        rows = predict(config, tiny_builder)
        np.testing.assert_array_equal(rows['index'], np.arange(41))
        np.testing.assert_allclose(rows['predicted_age'], 100 * pixels[:, 0], rtol=1e-5)
        np.testing.assert_allclose(rows['female_probability'], pixels[:, 1], rtol=1e-5)


def test_metrics_agree_over_batch_sizes_and_device_counts(config, tiny_builder, monkeypatch):
    columns = records.read_columns(tiny_builder, 'test')
    record = {'constant_age': 40.0, 'constant_gender': 1, 'splits': {}}
    results = []
    for batch_size, count in [(4, 4), (16, 4), (8, 2), (16, 1), (41, 1)]:
        config.evaluate.batch_size = batch_size
        some = jax.local_devices()[:count]
        mesh = jax.sharding.Mesh(np.array(some), (devices.AXIS,))
        monkeypatch.setattr(devices, '_mesh', lambda mesh=mesh: mesh)
        monkeypatch.setattr(jax, 'local_device_count', lambda count=count: count)
        rows = predict(config, tiny_builder, on=some)
        joined = joining.join(rows, columns, record, {})
        results.append(metrics.compute_metrics(joined))
    assert results[0]['num_examples'] == 41
    for result in results[1:]:
        assert result.keys() == results[0].keys()
        for name, value in results[0].items():
            if isinstance(value, int):
                assert result[name] == value, name
            else:
                assert result[name] == pytest.approx(value, rel=1e-5, nan_ok=True), name


def test_losses_are_the_trainings_and_nan_where_unknown(config, tiny_builder):
    columns = records.read_columns(tiny_builder, 'test')
    rows = predict(config, tiny_builder)
    scaled = (rows['predicted_age'] - columns['age']) / config.model.head.age_scale
    np.testing.assert_allclose(rows['age_loss'], scaled**2, rtol=1e-4)
    assert np.isnan(rows['age_loss']).sum() > 0
    female = rows['female_probability']
    right = np.where(columns['gender'] == 1, female, 1 - female)
    entropy = np.where(columns['gender'] < 0, np.nan, -np.log(right))
    np.testing.assert_allclose(rows['gender_loss'], entropy, rtol=1e-4)

    scores = validation.validation_metrics(rows, columns, config)
    known = ~np.isnan(columns['age'])
    assert scores['age/mae'] == pytest.approx(
        np.abs(rows['predicted_age'] - columns['age'])[known].mean(), rel=1e-6
    )
    has_gender = columns['gender'] >= 0
    assert scores['gender/accuracy'] == np.mean(
        (female > 0.5)[has_gender] == columns['gender'][has_gender]
    )
    assert scores['loss'] == pytest.approx(
        config.loss.age_weight * np.nanmean(scaled**2)
        + config.loss.gender_weight * np.nanmean(entropy),
        rel=1e-4,
    )


def test_flip_average_sees_the_mirror_image_too(config):
    config.evaluate.flip_average = True
    step = eval_step.create_eval_step(FixedModel(), config)
    image = np.full((1, 8, 8, 3), 51, np.uint8)
    image[0, 0, -1] = (153, 102, 0)
    batch = {'image': image, 'age': np.ones(1), 'gender': np.zeros(1, int), 'index': np.zeros(1)}
    rows = step({}, {name: jnp.asarray(value) for name, value in batch.items()})
    assert float(rows['predicted_age'][0]) == pytest.approx((20 + 60) / 2, rel=1e-5)
    assert float(rows['female_probability'][0]) == pytest.approx((0.2 + 0.4) / 2, rel=1e-5)


def test_views_of_other_scales_and_resolutions_are_averaged(config):
    config.data.resize_size, config.data.image_size = 16, 8
    config.evaluate.scales, config.evaluate.resolutions = (2.0,), (4,)
    config.evaluate.flip_average = True
    image = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    views = eval_step.create_views(jnp.asarray(image), config)
    assert [view.shape for view in views] == [(2, 8, 8, 3)] * 8
    crop = image[:, 4:12, 4:12]
    np.testing.assert_array_equal(views[0], crop)
    for k in range(4):
        np.testing.assert_array_equal(views[2 * k + 1], views[2 * k][:, :, ::-1])
    # Zoomed by two about the middle: pixel (0, 0) shows (5.75, 5.75).
    corner = image[:, 5:7, 5:7]
    weights = np.array([[0.25], [0.75]]) * np.array([0.25, 0.75])
    expected = np.einsum('bijc,ij->bc', corner, weights)
    np.testing.assert_allclose(views[2][:, 0, 0], expected, rtol=1e-4)
    small = jax.image.resize(crop, (2, 4, 4, 3), 'linear')
    again = jax.image.resize(small, (2, 8, 8, 3), 'linear')
    np.testing.assert_allclose(views[4], again, atol=1e-5)
    config.evaluate.resolutions = (9,)
    with pytest.raises(ValueError, match=r'config\.evaluate\.resolutions=9 .* from 1 to 8'):
        config_checks.check_config(config)


def test_evaluation_only_crops(config):
    """No augmentation, whatever the config says of it."""
    config.data.resize_size, config.data.image_size = 12, 8
    config.augment.rotation, config.augment.flip = 90.0, 1.0
    image = np.random.default_rng(0).integers(1, 255, (4, 12, 12, 3)).astype(np.uint8)
    batch = {'image': image, 'age': np.ones(4), 'gender': np.zeros(4, int), 'index': np.arange(4)}
    step = eval_step.create_eval_step(FixedModel(), config)
    rows = step({}, {name: jnp.asarray(value) for name, value in batch.items()})
    corner = augment.center_crop(jnp.asarray(image), 8)[:, 0, 0] / 255
    np.testing.assert_allclose(rows['predicted_age'], 100 * corner[:, 0], rtol=1e-5)


def test_report_counts_the_split_and_can_be_recomputed(config, tiny_builder, tmp_path, capsys):
    columns = {'train': records.read_columns(tiny_builder, 'train')}
    record = dataset_record.describe(tiny_builder.info.full_name, columns, 'train')
    workdir.save_config(tmp_path, config)
    dataset_record.save(tmp_path, record)
    model = fixed(config, tmp_path)
    result = evaluate.evaluate_split([model], tiny_builder, 'test', tmp_path)
    assert 'test, best checkpoint (step 3): 41 examples' in capsys.readouterr().out

    folder = tmp_path / 'evaluation' / 'test'
    written = json.loads((folder / 'metrics.json').read_text())
    assert written['num_examples'] == 41 == tiny_builder.info.splits['test'].num_examples
    about = json.loads((folder / 'evaluation.json').read_text())
    assert (about['checkpoint'], about['step'], about['split']) == ('best', 3, 'test')
    rows = read_predictions(folder / 'predictions.csv')
    recomputed = report.compute_metrics(rows)
    assert json.loads(report.to_json(recomputed)) == written
    assert json.loads(report.to_json(result)) == written
    score.score(folder / 'predictions.csv', tmp_path / 'again')
    again = (tmp_path / 'again' / 'metrics.json').read_bytes()
    assert again == (folder / 'metrics.json').read_bytes()

    # The constant predictor is the training split's, the error this split's.
    age = records.read_columns(tiny_builder, 'test')['age']
    median = np.nanmedian(columns['train']['age'])
    assert written['constant/age/mae'] == pytest.approx(np.nanmean(np.abs(age - median)), rel=1e-6)


def test_a_split_with_other_examples_is_refused(config, tiny_builder, tmp_path):
    columns = {'test': records.read_columns(tiny_builder, 'test')}
    record = dataset_record.describe('x', columns, 'test')
    record['splits']['test']['sha256'] = '0'
    workdir.save_config(tmp_path, config)
    dataset_record.save(tmp_path, record)
    with pytest.raises(ValueError, match="split 'test' does not hold the examples"):
        evaluate.evaluate_split([fixed(config, tmp_path)], tiny_builder, 'test', tmp_path)


def test_selection_is_by_age_then_gender_and_never_by_what_is_not_finite():
    nan = float('nan')
    ages, no_ages = {'age': np.array([3.0, nan])}, {'age': np.array([nan, nan])}
    scores = {'age/mae': 5.0, 'gender/accuracy': 0.9}
    assert validation.selection_score(scores, ages) == 5.0
    # A diverged state does not pass as one without age labels.
    assert validation.selection_score({**scores, 'age/mae': nan}, ages) is None
    by_gender = validation.selection_score({**scores, 'age/mae': nan}, no_ages)
    assert by_gender == pytest.approx(0.1)
    assert validation.selection_score({'age/mae': nan, 'gender/accuracy': nan}, no_ages) is None


def test_a_prediction_that_is_not_finite_is_not_passed_over(config, tiny_builder):
    columns = records.read_columns(tiny_builder, 'test')
    rows = predict(config, tiny_builder)
    rows['predicted_age'][np.flatnonzero(~np.isnan(columns['age']))[0]] = np.nan
    assert np.isnan(validation.validation_metrics(rows, columns, config)['age/mae'])


def test_a_file_in_place_of_the_output_is_refused_before_anything_is_read(config, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(NotADirectoryError, match=r'--output=.*file is a file; name a folder'):
        evaluate.evaluate([config], [tmp_path / 'none'], 'test', 'best', tmp_path / 'file')
    workdir.save_config(tmp_path / 'other', config)
    with pytest.raises(ValueError, match=r'--output=.*other is the workdir of another run'):
        evaluate.evaluate([config], [tmp_path / 'none'], 'test', 'best', tmp_path / 'other')


@pytest.mark.long
@pytest.mark.parametrize(('learnt', 'other'), [('gender', 'age'), ('age', 'gender')])
def test_what_is_not_learnt_is_not_scored(config, tiny_builder, tmp_path, capsys, learnt, other):
    columns = {'train': records.read_columns(tiny_builder, 'train')}
    config.loss[f'{other}_weight'] = 0.0
    record = dataset_record.describe(tiny_builder.info.full_name, columns, 'train')
    workdir.save_config(tmp_path, config)
    dataset_record.save(tmp_path, record)
    assert dataset_record.learnt(record, config.loss) == (learnt,)
    model = dataclasses.replace(fixed(config, tmp_path), predicts=(learnt,))
    scores = evaluate.evaluate_split([model], tiny_builder, 'test', tmp_path)
    assert f'{other}s are not predicted: the training had none' in capsys.readouterr().out
    assert scores[f'{other}/num_examples'] == 0
    assert scores[f'{learnt}/num_examples'] > 30
    assert np.isnan(scores['age/mae']) == (other == 'age')
    rows = read_predictions(tmp_path / 'evaluation' / 'test' / 'predictions.csv')
    column = 'predicted_age' if other == 'age' else 'female_probability'
    assert np.isnan(rows[column]).all()
    # Twice the same, as an ensemble, and one of each kind.
    both = dataclasses.replace(model, predicts=('age', 'gender'))
    for models, count in (([model, model], 0), ([model, both], 30)):
        scores = evaluate.evaluate_split(models, tiny_builder, 'test', tmp_path / str(count))
        assert (scores[f'{other}/num_examples'] > 0) == (count > 0)
        assert np.isnan(scores[f'member_0/{"age/mae" if other == "age" else "gender/accuracy"}'])


def test_selection_is_by_what_is_learnt():
    scores = {'age/mae': 5.0, 'gender/accuracy': 0.9}
    ages = {'age': np.array([3.0, 4.0])}
    assert validation.selection_score(scores, ages, ('gender',)) == pytest.approx(0.1)


def test_labels_are_looked_for_before_the_first_step(config, caplog):
    nan = np.full(3, np.nan, np.float32)
    no_ages = {'age': nan, 'gender': np.array([0, 1, 1])}
    nothing = {'age': nan, 'gender': np.full(3, -1)}
    only_ages = {'age': np.ones(3, np.float32), 'gender': np.full(3, -1)}

    def check(training, validating):
        columns = {'train': training, 'validation': validating}
        for values in columns.values():
            values['id'] = np.array(['a', 'b', 'c'])
        record = dataset_record.describe('own/1', columns, 'train')
        train.check_labels('own/1', columns, config, dataset_record.learnt(record, config.loss))

    config.data.train_split, config.data.validation_split = 'train', 'validation'
    with pytest.raises(ValueError, match=r"own/1: split 'train' has no age and no gender"):
        check(nothing, no_ages)
    with pytest.raises(
        ValueError, match=r"split 'validation' has no gender, .*validation_split=''"
    ):
        check(no_ages, only_ages)
    check(no_ages, no_ages)
    assert "'train' has no ages: ages are not learnt, and will not be predicted" in caplog.text
    config.loss.gender_weight = 0.0
    with pytest.raises(
        ValueError, match=r'no gender to learn from \(config.loss.gender_weight=0\)'
    ):
        check(no_ages, no_ages)


def test_faces_that_are_cut_otherwise_than_those_of_the_training_are_warned_of(
    config, tiny_builder, tmp_path, caplog
):
    columns = {'train': records.read_columns(tiny_builder, 'train')}
    name = tiny_builder.info.full_name
    workdir.save_config(tmp_path, config)
    for cut, warned in ((geometry.AS_GIVEN, False), (geometry.UTKFACE_CHIPS, True)):
        record = dataset_record.describe(name, columns, 'train', cut)
        dataset_record.save(tmp_path, record)
        caplog.clear()
        evaluate.evaluate_split([fixed(config, tmp_path)], tiny_builder, 'test', tmp_path)
        found = [message for message in caplog.messages if 'was trained on faces' in message]
        assert len(found) == warned
    assert f"{tmp_path} was trained on faces aligned as UTKFace's are; those of {name}" in found[0]


def read_conditions(folder):
    with (folder / 'conditions.csv').open() as file:
        lines = list(csv.DictReader(file))
    return {(x['condition'], x['strength'], x['group']): x for x in lines}, len(lines)


@pytest.mark.long
def test_conditions_are_seen_by_the_model_and_scored_beside_the_clean_split(
    config, tiny_builder, tmp_path, capsys, monkeypatch
):
    some = [one for one in conditions.CONDITIONS if one.name in ('brighter', 'low_resolution')]
    monkeypatch.setattr(conditions, 'CONDITIONS', some)
    columns = {'train': records.read_columns(tiny_builder, 'train')}
    record = dataset_record.describe(tiny_builder.info.full_name, columns, 'train')
    workdir.save_config(tmp_path, config)
    dataset_record.save(tmp_path, record)
    model = fixed(config, tmp_path)
    clean = evaluate.evaluate_split([model], tiny_builder, 'test', tmp_path, under_conditions=True)
    found, count = read_conditions(tmp_path / 'evaluation' / 'test')
    assert count == 3 * (1 + 2 * 5)
    for key, group in (('', 'all'), ('by_gender/female/', 'female'), ('by_gender/male/', 'male')):
        for name in ('age/mae', 'gender/accuracy'):
            score = float(found['clean', '0', group][name])
            assert score == pytest.approx(clean[key + name], rel=1e-5)
    # The model says the first pixel, so that all is known of how it changes.
    labels = records.read_columns(tiny_builder, 'test')
    known = ~np.isnan(labels['age'])
    pixels = (
        np.round(255 * np.clip(1.5 * expected_pixels(tiny_builder, 'test', config), 0, 1)) / 255
    )
    error = np.abs(100 * pixels[:, 0] - labels['age'])[known]
    assert float(found['brighter', '1.5', 'all']['age/mae']) == pytest.approx(
        error.mean(), rel=1e-4
    )
    about = json.loads((tmp_path / 'evaluation' / 'test' / 'conditions.json').read_text())
    assert (about['step'], about['split']) == (3, 'test')
    out = capsys.readouterr().out
    assert 'under conditions' in out
    assert '  low_resolution' in out

    # Several models of other sizes, of which one predicts genders only.
    larger = config.copy_and_resolve_references()
    larger.data.resize_size = larger.data.image_size = 10
    other = dataclasses.replace(fixed(larger, tmp_path), predicts=('gender',))
    both = evaluate.evaluate_split(
        [model, other], tiny_builder, 'test', tmp_path / 'both', under_conditions=True
    )
    again, _ = read_conditions(tmp_path / 'both' / 'evaluation' / 'test')
    assert again['clean', '0', 'all']['age/mae'] == found['clean', '0', 'all']['age/mae']
    assert again['brighter', '1.5', 'all']['age/mae'] == found['brighter', '1.5', 'all']['age/mae']
    accuracy = float(again['clean', '0', 'all']['gender/accuracy'])
    assert accuracy == pytest.approx(both['gender/accuracy'], rel=1e-5)
