"""The datasets that a run is trained on, as dataset.json and shared.csv record them."""

import csv
import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from hybrid import devices, files
from hybrid.data import parts, prepared, records, several, shared
from hybrid.data.parts import Part
from hybrid.data.shared import Finding
from hybrid.datasets import geometry, origin
from hybrid.runs import dataset_record, workdir

_LOG = logging.getLogger(__name__)

SHARED = 'shared.csv'


def open_parts(config: ConfigDict, folder: pathlib.Path) -> tuple[list[Part], list[Finding]]:
    """Opens the datasets of a run, and leaves out of them what must not be trained or chosen on.

    Args:
      config: The config of the run.
      folder: Its workdir. If it has begun, what was left out then is left out now.

    Returns:
      The datasets, and why examples of them are left out, for shared.csv; nothing is left out of a
      single dataset.

    Raises:
      ValueError: as `parts.open_all`, or when nothing is left of a split.
    """
    found = parts.open_all(config)
    if len(found) == 1:
        return found, []
    findings: list[Finding] = []
    # One process searches: another might round otherwise, and then train in another order.
    if devices.is_main_process():
        recorded = (folder / SHARED).exists() and workdir.has_begun(folder)
        findings = load(folder) if recorded else shared.find(found)
        for line in shared.summarize(found, findings):
            _LOG.info('%s', line)
    masks = [shared.masks(part, findings) for part in found]
    masks = devices.from_main_process(masks)
    return [part.leave_out(mask) for part, mask in zip(found, masks, strict=True)], findings


def describe(found: Sequence[Part], train_split: str) -> dict[str, Any]:
    """Describes the datasets of a run for dataset.json.

    Args:
      found: From `open_parts`.
      train_split: The split that is trained on.

    Returns:
      What `dataset_record.describe` says, and `pictures`, see `origin.pictures`; of several
      datasets what it says of them together, without what is left out, and `datasets`, a list of
      all this for each, whole.
    """
    records = [
        dataset_record.describe(
            part.builder.info.full_name, part.columns, train_split, geometry.of(part.builder)
        )
        | {'pictures': origin.pictures(part.builder.data_path)}
        for part in found
    ]
    if len(found) == 1:
        return records[0]
    name = ','.join(record['name'] for record in records)
    together = dataset_record.describe(name, parts.join(found), train_split)
    del together['geometry']
    return together | {'datasets': records}


def save(folder: pathlib.Path, findings: Sequence[Finding]) -> None:
    """Writes shared.csv: what was left out of the training on several datasets, and why."""
    files.replace(folder / SHARED, files.to_csv(Finding._fields, *findings))


def remove(folder: pathlib.Path) -> None:
    """Removes shared.csv, if it is there."""
    (folder / SHARED).unlink(missing_ok=True)


def load(folder: pathlib.Path) -> list[Finding]:
    """Reads shared.csv; nothing if there is none.

    Raises:
      ValueError: when it is damaged.
    """
    path = folder / SHARED
    if not path.exists():
        return []
    try:
        with path.open(newline='', encoding='utf-8') as file:
            header, *rows = csv.reader(file)
        if tuple(header) == Finding._fields:
            return [_finding(row) for row in rows]
    except ValueError:
        pass
    raise ValueError(f'{path} is damaged: it is no table of {", ".join(Finding._fields)}')


def _finding(row: Sequence[str]) -> Finding:
    dataset, split, name, reason, other, other_split, other_name, measure = row
    of_other = other, other_split, other_name
    return Finding(dataset, split, name, reason, *of_other, float(measure) if measure else None)


def open_splits(
    folder: pathlib.Path, name: str, builder: tfds.core.DatasetBuilder, splits: Sequence[str]
) -> Part:
    """Reads the labels of what a run was trained or chosen on, and what it left out of it.

    Args:
      folder: The run's workdir.
      name: Of the dataset, as the run's config names it.
      builder: It, prepared.
      splits: Some of its splits.
    """
    columns = {split: records.read_columns(builder, split) for split in splits}
    part = Part(name, builder, columns, {})
    return dataclasses.replace(part, left_out=shared.masks(part, load(folder)))


def open_validation(config: ConfigDict, folder: pathlib.Path) -> list[Part]:
    """Opens the validation splits that a run on several datasets was chosen on.

    Args:
      config: The run's config with overrides.
      folder: Its workdir.

    Raises:
      ValueError: when one of the datasets is not prepared here.
    """
    own = workdir.load_config(folder).data
    split = own.validation_split  # Whatever flags say.
    found = []
    for data in several.sections(own):
        builder = prepared.find_prepared(data, (config.data.data_dir, own.data_dir))
        if builder is None:
            raise ValueError(f'{folder}: its dataset {data.dataset} is not prepared here')
        found.append(open_splits(folder, data.dataset, builder, [split]))
    return found
