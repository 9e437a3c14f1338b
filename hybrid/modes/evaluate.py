"""Evaluation of whole splits with one model or several: combination, scores, report."""

import hashlib
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from hybrid import datasets, devices
from hybrid.config_checks import check_config
from hybrid.data import input_pipeline
from hybrid.runs import leaks, trained, workdir
from hybrid.runs.trained import Trained
from hybrid.scores import combination, report
from hybrid.training.eval_step import predict_split

_LOG = logging.getLogger(__name__)


def create_builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
    """The dataset that a config names, not necessarily prepared."""
    return datasets.create_builder(
        config.data.dataset, config.data.data_dir, config.data.parameters.to_dict()
    )


def create_prepared_builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
    """The dataset that a config names, prepared if it was not; one process goes first."""
    builder = create_builder(config)
    if devices.is_main_process():
        datasets.prepare(builder, config.data.manual_dir)
    devices.wait_for_all('dataset')
    if not devices.is_main_process():
        builder = create_builder(config)
        datasets.prepare(builder, config.data.manual_dir)  # on a disk of its own
    return builder


def predict_members(
    models: Sequence[Trained], builder: tfds.core.DatasetBuilder, split: str
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Predicts every example of a split with every member of every model.

    Returns:
      The columns of `create_eval_step` and the members' numbers: of one model [N] and none, of an
      ensemble or several models [N, K] and K numbers. Members that were frozen are left out, and
      those that predict no finite numbers, unless all do.
    """
    predicted = [
        predict_split(model.learner.eval_step, model.variables, builder, split, model.config)
        for model in models
    ]
    for rows in predicted:
        del rows['index']
    if len(models) == 1 and not models[0].learner.is_ensemble:
        return predicted[0], []
    numbers = trained.member_numbers(models)
    joined: dict[str, np.ndarray] = {}
    for name in predicted[0]:
        if not all(name in rows for rows in predicted):
            continue  # only some heads predict it
        columns = [rows[name].reshape(len(rows[name]), -1) for rows in predicted]
        joined[name] = np.concatenate(columns, axis=1)
    kept = np.array([number is not None for number in numbers])
    finite = np.isfinite(joined['predicted_age']) & np.isfinite(joined['female_probability'])
    for place in np.flatnonzero(kept & ~finite.all(axis=0)):
        _LOG.warning('member %d predicts no finite number: left out', numbers[place])
    if (kept & finite.all(axis=0)).any():
        kept &= finite.all(axis=0)
    members = [n for n, keep in zip(numbers, kept, strict=True) if keep and n is not None]
    return {name: column[:, kept] for name, column in joined.items()}, members


def report_rows(
    rows: dict[str, np.ndarray],
    columns: dict[str, np.ndarray],
    record: dict[str, Any],
    features: tfds.features.FeaturesDict,
    members: Sequence[int] = (),
    weights: combination.Weights | None = None,
) -> dict[str, np.ndarray]:
    """Joins predictions with labels and with what the constant predictor says.

    Args:
      rows: From `predict_members`.
      columns: From `input_pipeline.read_columns`, of the same split.
      record: The workdir's dataset.json.
      features: Of the dataset; its class labels other than gender become subgroups.
      members: Numbers of the members if the rows are of several.
      weights: With which they are combined.

    Returns:
      The rows of `report.write_report`.
    """
    count = len(columns['id'])
    constant_age = record['constant_age']
    of_heads = ('predicted_age', 'female_probability', 'age_width')
    predictions = {name: rows[name] for name in of_heads if name in rows}
    if members:
        ages, female = predictions['predicted_age'], predictions['female_probability']
        predictions = combination.combine(ages, female, weights, rows.get('age_width'))
        for place, number in enumerate(members):
            predictions[f'member_{number}_age'] = ages[:, place]
            predictions[f'member_{number}_female_probability'] = female[:, place]
    result = {
        'id': columns['id'],
        'age': columns['age'],
        'gender': columns['gender'],
        **predictions,
        'constant_age': np.full(
            count, np.nan if constant_age is None else constant_age, np.float32
        ),
        'constant_gender': np.full(count, record['constant_gender']),
    }
    for name, feature in features.items():
        if isinstance(feature, tfds.features.ClassLabel) and name != 'gender':
            names = np.array([*feature.names, ''])  # -1, unknown, is the last
            result[name] = names[columns[name]]
    if 'leak' in columns:
        result['leak'] = columns['leak'].astype(bool)
    return result


def evaluate_split(
    models: Sequence[Trained],
    builder: tfds.core.DatasetBuilder,
    split: str,
    folder: pathlib.Path,
    other: bool = False,
) -> dict[str, Any]:
    """Evaluates one split and writes `evaluation/<split>/`.

    Args:
      models: One, or several to be combined.
      builder: Prepared.
      split: Its split.
      folder: The workdir, or where else to write.
      other: Whether the dataset is another than the training's: then
        `evaluation/<dataset>/<split>/` is written, and what was trained on counts as a leak.

    Returns:
      The metrics; empty on processes that do not write.

    Raises:
      ValueError: when the split does not hold the examples that the training saw under its name.
    """
    columns = input_pipeline.read_columns(builder, split)
    name = split.replace('/', '_')
    if other:
        name = f'{leaks.file_name(builder)}/{name}'
    configs, folders = [model.config for model in models], [model.folder for model in models]
    # What a run is trained and chosen on never overlaps its own test split; what the runs saw that
    # it started from may.
    seen = leaks.seen_in_training(columns, configs, folders, None if other else split)
    if other or seen.any():
        columns['leak'] = columns.get('leak', np.zeros_like(seen)) | seen
    for model in () if other else models:
        record = workdir.load_dataset(model.folder)
        known = record['splits'].get(split)
        if known and known['sha256'] != workdir.examples_hash(columns):
            raise ValueError(
                f'{builder.info.full_name}: split {split!r} does not hold the examples that '
                f'{model.folder / workdir.DATASET} names; is it another version of '
                f'{record["name"]}?'
            )
    rows, members = predict_members(models, builder, split)
    weights = None
    if other:
        weights = fitted_weights(models, [model.folder for model in models])
    elif members and models[0].config.ensemble.weights == 'validation':
        weights = _weights(models, builder, split, rows, members, folder)
    record = workdir.load_dataset(models[0].folder)
    rows = report_rows(rows, columns, record, builder.info.features, members, weights)
    metrics = {}
    if devices.is_main_process():
        output = folder / 'evaluation' / name
        title = f'{builder.info.full_name}, {split}, {_describe(models)}'
        best = trained.best_member(models, members) if members else None
        metrics = report.write_report(rows, output, title, best)
        about = _about(models) | {'dataset': builder.info.full_name, 'split': split}
        if members:
            about |= {'members': members, 'best_member_on_validation': best}
        if weights:
            about['weights'] = {'age': weights.age.tolist(), 'gender': weights.gender.tolist()}
        workdir.write_json(output / 'evaluation.json', about | models[0].config.evaluate.to_dict())
        print(report.format_table(metrics, title))
        print(f'{output}: metrics.json, predictions.csv and pictures')
    devices.wait_for_all(f'evaluated {split}')
    return metrics


def _describe(models: Sequence[Trained]) -> str:
    if len(models) == 1:
        return f'{models[0].checkpoint} checkpoint (step {models[0].step})'
    names = ' + '.join(model.folder.name for model in models)
    return f'{names}, {models[0].checkpoint} checkpoints'


def _about(models: Sequence[Trained]) -> dict[str, Any]:
    if len(models) == 1:
        return models[0].source
    return {'workdirs': [{'workdir': str(m.folder), **m.source} for m in models]}


def weights_source(models: Sequence[Trained], members: Sequence[int]) -> dict[str, Any]:
    """What weights are of: runs that replaced these in their folders had other scores."""
    scores = [dict(model.scores) for model in models]
    return _about(models) | {'members': list(members), 'scores': scores}


def _weights(
    models: Sequence[Trained],
    builder: tfds.core.DatasetBuilder,
    split: str,
    rows: dict[str, np.ndarray],
    members: list[int],
    folder: pathlib.Path,
) -> combination.Weights:
    """Weights fitted on validation; kept in the folder for prediction and other splits."""
    validation = models[0].config.data.validation_split
    if not validation:
        raise ValueError("config.ensemble.weights='validation' needs config.data.validation_split")
    source = weights_source(models, members)
    found = workdir.load_weights(folder, source) if split != validation else None
    # To predict takes all processes, so all of them have to agree.
    if not devices.any_process(found is None):
        assert found is not None
        return found
    if split != validation:
        rows, on_validation = predict_members(models, builder, validation)
        if on_validation != members:
            raise ValueError(f'members {members} predict {split}, {on_validation} {validation}')
    labels = input_pipeline.read_columns(builder, validation)
    weights = combination.fit_weights(
        rows['predicted_age'], rows['female_probability'], labels['age'], labels['gender']
    )
    if devices.is_main_process():
        workdir.save_weights(folder, source, weights)
    return weights


def evaluate(
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    split: str,
    checkpoint: str,
    output: pathlib.Path | None = None,
) -> dict[str, Any]:
    """`--mode=evaluate`: evaluates a split with a checkpoint of a workdir, or of several combined.

    Args:
      configs: The workdirs', with overrides, which may name another dataset.
      folders: The workdirs.
      split: Of the dataset.
      checkpoint: `best` or `last`.
      output: Where to write; None for the workdir, or beside the first of several.

    Returns:
      The metrics.
    """
    for config in configs:
        check_config(config)
    pairs = zip(configs, folders, strict=True)
    others = [leaks.is_other(config, folder) for config, folder in pairs]
    builder = create_prepared_builder(configs[0])
    input_pipeline.check_split(builder, split)
    models = trained.restore_all(configs, folders, checkpoint)
    return evaluate_split(models, builder, split, output or combined_folder(folders), any(others))


def fitted_weights(
    models: Sequence[Trained], folders: Sequence[pathlib.Path]
) -> combination.Weights | None:
    """The weights that an evaluation has left, if the config asks for any.

    Raises:
      ValueError: when there are none for these checkpoints, or not of all members that count.
    """
    if models[0].config.ensemble.weights != 'validation':
        return None
    members = [number for number in trained.member_numbers(models) if number is not None]
    folder = combined_folder(folders)
    weights = workdir.load_weights(folder, weights_source(models, members))
    if weights is None and (len(models) > 1 or models[0].learner.is_ensemble):
        raise ValueError(
            f"config.ensemble.weights='validation', but {folder / workdir.WEIGHTS} has none for "
            'this checkpoint; --mode=evaluate on any split with the same --workdir and '
            '--checkpoint, without --output, fits them'
        )
    return weights


def combined_folder(folders: Sequence[pathlib.Path]) -> pathlib.Path:
    """Where the results of workdirs go: the only one, or beside the first, named after all."""
    if len(folders) == 1:
        return folders[0]
    paths = [folder.resolve() for folder in folders]
    name = '+'.join(path.name for path in paths)
    # Names that others may share, or longer than file systems allow.
    if len({path.parent for path in paths}) > 1 or len(name.encode()) > 200:
        digest = hashlib.sha256('\n'.join(map(str, paths)).encode()).hexdigest()[:8]
        name = f'{paths[0].name}+{len(paths) - 1}_more_{digest}'
    return folders[0].parent / name
