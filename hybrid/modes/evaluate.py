"""Evaluation of a whole split: predict, combine, join with the labels, score, report."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from hybrid import devices, files
from hybrid.data import prepared, records, several, split_names
from hybrid.datasets import geometry
from hybrid.modes import conditions
from hybrid.runs import (
    calibration,
    dataset_record,
    leaks,
    member_weights,
    predictions,
    trained,
    workdir,
)
from hybrid.runs.trained import Trained
from hybrid.scores import combination, joining, report, rows, subgroups
from hybrid.training.config_checks import check_config


def evaluate(
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    split: str,
    checkpoint: str,
    output: pathlib.Path | None = None,
    under_conditions: bool = False,
) -> dict[str, Any]:
    """Does `--mode=evaluate`: evaluates a split with one workdir's checkpoint, or several combined.

    Args:
      configs: The workdirs' configs with overrides, which may name another dataset.
      folders: The workdirs.
      split: The split of the dataset.
      checkpoint: `best` or `last`.
      output: Where to write; None for the workdir, or for a folder beside the first of several.
      under_conditions: As for `evaluate_split`.

    Returns:
      The metrics; empty on processes that do not write.

    Raises:
      ValueError: for what is wrong with a config or a workdir, or as `evaluate_split`; when
        `output` is the workdir of another run.
      FileNotFoundError: when a workdir has no such checkpoint.
      NotADirectoryError: when `output` is a file.
    """
    for config in configs:
        check_config(config)
    check(configs, folders, output)
    opened = open_datasets(configs, folders, split)
    models = trained.restore_all(configs, folders, checkpoint)
    output = output or member_weights.combined_folder(folders)
    return evaluate_datasets(models, opened, split, output, under_conditions)


def check(
    configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path], output: pathlib.Path | None
) -> None:
    """Checks where the results are to go, and that the devices can share the batches.

    Args:
      configs: Those of the workdirs.
      folders: The workdirs.
      output: Where to write; None for the workdir.

    Raises:
      ValueError: when `output` is the workdir of another run, or a batch cannot be shared.
      NotADirectoryError: when `output` is a file.
    """
    if output:
        files.check_folder(output)
        own = {folder.resolve() for folder in folders}
        if (output / workdir.CONFIG).exists() and output.resolve() not in own:
            raise ValueError(f'--output={output} is the workdir of another run: name a new folder')
    for config in configs:
        devices.check_batch_size(config.evaluate.batch_size, 'config.evaluate.batch_size')


class Opened(NamedTuple):
    """A dataset that is to be evaluated, and whether it is another one than those of a training."""

    name: str
    builder: tfds.core.DatasetBuilder
    other: bool


def open_datasets(
    configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path], split: str
) -> list[Opened]:
    """Prepares the datasets that are to be evaluated, if they were not.

    Args:
      configs: The workdirs' configs with overrides.
      folders: The workdirs.
      split: The split that each dataset has to have.

    Returns:
      Those that the first config names, usually one.

    Raises:
      ValueError: when there is no such dataset, or no such split in it.
    """
    opened = []
    for of_each in zip(*(several.sections(config.data) for config in configs), strict=False):
        other = any(map(leaks.is_other, of_each, folders))
        builder = prepared.create_prepared_builder(several.with_section(configs[0], of_each[0]))
        split_names.check(builder, split)
        opened.append(Opened(of_each[0].dataset, builder, other))
    return opened


def evaluate_datasets(
    models: Sequence[Trained],
    opened: Sequence[Opened],
    split: str,
    folder: pathlib.Path,
    under_conditions: bool = False,
) -> dict[str, Any]:
    """Evaluates a split of one dataset, or of several one after the other, as `evaluate_split`.

    Returns:
      The metrics; of several datasets those of each begin with its name, as in `utkface/age/mae`.
    """
    found = [
        evaluate_split(models, one.builder, split, folder, one.other, under_conditions)
        for one in opened
    ]
    if len(found) == 1:
        return found[0]
    return {
        f'{one.name}/{name}': value
        for one, metrics in zip(opened, found, strict=True)
        for name, value in metrics.items()
    }


def evaluate_split(
    models: Sequence[Trained],
    builder: tfds.core.DatasetBuilder,
    split: str,
    folder: pathlib.Path,
    other: bool = False,
    under_conditions: bool = False,
) -> dict[str, Any]:
    """Evaluates one split and writes `evaluation/<split>/`.

    Args:
      models: One, or several to be combined.
      builder: The prepared dataset.
      split: The split of it.
      folder: The workdir, or where else to write.
      other: Whether the dataset is another than those of the training: then what was trained on
        counts as a leak. Then, and after a training on several datasets, the results go to
        `evaluation/<dataset>/<split>/`.
      under_conditions: Whether to evaluate the split under `data.conditions`, too.

    Returns:
      The metrics; empty on processes that do not write.

    Raises:
      ValueError: when the split does not hold the examples that the training saw under its name.
    """
    labels = records.read_columns(builder, split)
    labels = leaks.mark(labels, builder, split, models, other)
    for model in () if other else models:
        dataset_record.check_examples(model.folder, builder.info.full_name, split, labels)
    for model in models:
        shown = geometry.of(builder)
        trained_on = dataset_record.load_geometry(model.folder, shown)
        geometry.warn(model.folder, trained_on, builder.info.full_name, shown)
    predicted, members = predictions.predict_members(models, builder, split)
    for kind in trained.predicted(models):
        name = 'predicted_age' if kind == 'age' else 'female_probability'
        if np.isnan(predicted[name]).all():
            raise ValueError(f'{models[0].folder}: no {name} of {split} is a finite number')
    if other:
        weights = member_weights.find(models)
    else:
        weights = member_weights.find_or_fit(
            models, builder, split, labels, predicted, members, folder
        )
    record = dataset_record.load(models[0].folder)
    constant = dataset_record.of_one(record, builder.info.full_name)
    subgroups = prepared.subgroup_names(builder.info.features)

    def join(predicted: Mapping[str, np.ndarray], found: Sequence[int]) -> rows.Rows:
        if list(found) != members:
            raise ValueError(f'members {members} predict {split}, but {found} under a condition')
        estimate = models[0].config.evaluate.age_estimate
        return joining.join(predicted, labels, constant, subgroups, members, weights, estimate)

    joined = join(predicted, members)
    calibrated = calibration.find_or_fit(models, joined, split, other, members, weights, folder)
    joined = calibration.apply_to_rows(calibrated, joined, models[0].config.evaluate)
    name = ''.join(split.split()).replace('/', '_')
    if other or 'datasets' in record:
        name = f'{builder.info.full_name.replace("/", "_")}/{name}'
    output = folder / 'evaluation' / name
    metrics = {}
    if devices.is_main_process():
        metrics = _write(
            models, joined, members, weights, calibrated, builder.info.full_name, split, output
        )
    devices.wait_for_all(f'evaluated {split}')
    if under_conditions:
        title = f'{builder.info.full_name}, {split}, {_describe(models)}'
        conditions.evaluate(models, builder, split, join, output, title)
    return metrics


def _write(
    models: Sequence[Trained],
    joined: rows.Rows,
    members: Sequence[int],
    weights: combination.Weights | None,
    calibrated: calibration.Calibration | None,
    dataset: str,
    split: str,
    output: pathlib.Path,
) -> dict[str, Any]:
    """Writes the report and evaluation.json, which says of what it is; prints the table."""
    title = f'{dataset}, {split}, {_describe(models)}'
    best = trained.best_member(models, members) if members else None
    settings = models[0].config.evaluate
    cells, level = subgroups.cross_table(joined), settings.interval_level
    metrics = report.write_report(joined, output, title, best, settings.unsure_below, level, cells)
    about = member_weights.predictor(models, weights) | {'dataset': dataset, 'split': split}
    if members:
        about |= {'members': members, 'best_member_on_validation': best}
    if calibrated:
        about['temperature'] = calibrated.temperature
    files.write_json(output / 'evaluation.json', about)
    print(report.format_table(metrics, title, cells, level))
    for line in (
        *trained.not_predicted(models),
        *calibration.why_no_intervals(models, calibrated),
    ):
        print(line)
    print(f'{output}: metrics.json, predictions.csv and pictures')
    return metrics


def _describe(models: Sequence[Trained]) -> str:
    if len(models) == 1:
        return f'{models[0].checkpoint} checkpoint (step {models[0].step})'
    names = ' + '.join(model.folder.name for model in models)
    return f'{names}, {models[0].checkpoint} checkpoints'
