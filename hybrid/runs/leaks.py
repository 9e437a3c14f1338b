"""Evaluation on another dataset than the one that a model was trained on."""

import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from hybrid import datasets
from hybrid.data import input_pipeline
from hybrid.runs import address, workdir

_LOG = logging.getLogger(__name__)


def is_other(config: ConfigDict, folder: pathlib.Path) -> bool:
    """Whether a workdir's config with overrides names another dataset than the workdir's own.

    Parameters of the own dataset that are still in the config are taken out of it: they are not
    those of the other one.
    """
    own = workdir.load_config(folder).data
    same = config.data.parameters.to_dict() == own.parameters.to_dict()
    if config.data.dataset == own.dataset:
        return not same
    if same:
        config.data.parameters = ConfigDict()
    return True


def seen_in_training(
    columns: dict[str, np.ndarray],
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    own_split: str | None = None,
) -> np.ndarray:
    """Finds the examples that models were trained or chosen on, by id and by group, and warns.

    Runs that they started from by `config.init_from` count too.

    Args:
      columns: From `input_pipeline.read_columns`, of what is evaluated.
      configs: The workdirs', with overrides.
      folders: The workdirs.
      own_split: The split, when it is of the models' own dataset: then only the runs count that
        they started from. The same examples, if these were chosen on them too, are no leak.

    Returns:
      bool [N]; False where it cannot be told because a training's dataset is not prepared here.
    """
    seen = np.zeros(len(columns['id']), bool)
    pairs = zip(configs, folders, strict=True)
    first = 0 if own_split is None else 1
    runs = [(config, run) for config, folder in pairs for run in _with_earlier_runs(folder)[first:]]
    for config, folder in runs:
        own = workdir.load_config(folder).data
        builder = _find_prepared(own, (config.data.data_dir, own.data_dir))
        if builder is None:
            _LOG.warning(
                '%s: whether it was trained on some of these examples cannot be told: %s is not '
                'prepared here',
                folder,
                own.dataset,
            )
            continue
        splits = [own.train_split]
        if own_split is None or own_split != config.data.validation_split:
            splits.append(own.validation_split)
        for split in filter(None, splits):
            trained_on = input_pipeline.read_columns(builder, split)
            shared = np.isin(columns['id'], trained_on['id'])
            shared |= np.isin(columns['group'], trained_on['group'])
            if shared.any():
                _LOG.warning(
                    '%s: %d of these %d examples, or others of their groups, are in %s of %s, '
                    'which it was trained on; see the scores without leaks',
                    folder,
                    shared.sum(),
                    len(shared),
                    split,
                    builder.info.full_name,
                )
            seen |= shared
    return seen


def _with_earlier_runs(folder: pathlib.Path) -> list[pathlib.Path]:
    """A workdir, those that it started from, and so on: what one saw all have learnt from."""
    found = [folder]
    for run in found:  # which grows
        for text in filter(None, workdir.load_config(run).get('init_from', '').split(',')):
            try:
                earlier = address.parse(text.strip()).folder
            except FileNotFoundError as error:
                _LOG.warning('%s: what it learnt from cannot be told: %s', run, error)
                continue
            if earlier not in found:
                found.append(earlier)
    return found


def _find_prepared(data: ConfigDict, data_dirs: Sequence[str]) -> tfds.core.DatasetBuilder | None:
    for data_dir in dict.fromkeys(map(os.path.expanduser, data_dirs)):
        builder = datasets.create_builder(data.dataset, data_dir, data.parameters.to_dict())
        if builder.data_path.exists() and builder.is_prepared():
            return builder
    return None


def file_name(builder: tfds.core.DatasetBuilder) -> str:
    """The full name of a dataset as the name of a folder."""
    return builder.info.full_name.replace('/', '_')
