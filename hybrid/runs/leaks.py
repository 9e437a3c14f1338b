"""Which examples of an evaluation a training has seen, on its own dataset or on another one."""

import logging
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from hybrid import datasets, devices
from hybrid.data import parts, prepared, several, shared, split_names
from hybrid.runs import address, trained_on, workdir
from hybrid.runs.trained import Trained

_LOG = logging.getLogger(__name__)


def is_other(data: ConfigDict, folder: pathlib.Path) -> bool:
    """Whether a dataset is none of those that a workdir's run was trained on.

    The same dataset with other parameters is another one, too.

    Args:
      data: The `config.data` of this dataset alone, see `several.sections`.
      folder: The workdir.
    """
    return not any(
        data.dataset == own.dataset and data.parameters.to_dict() == own.parameters.to_dict()
        for own in several.sections(workdir.load_config(folder).data)
    )


def mark(
    labels: dict[str, np.ndarray],
    builder: tfds.core.DatasetBuilder,
    split: str,
    models: Sequence[Trained],
    other: bool,
) -> dict[str, np.ndarray]:
    """Adds to labels which examples the models have seen.

    What a dataset itself calls a leak is in several of its splits; whether a model has seen it
    depends on what it was trained on.

    Args:
      labels: From `records.read_columns`, of what is evaluated.
      builder: The dataset that is evaluated.
      split: The split of it.
      models: The models that are evaluated.
      other: Whether it is another dataset than their own.

    Returns:
      The labels with `leak` bool [N]; without it where nothing speaks of leaks.
    """
    configs, folders = [model.config for model in models], [model.folder for model in models]
    own_split = None if other else split
    seen = seen_in_training(labels, builder, split, configs, folders, own_split)
    return labels | {'leak': seen} if other or seen.any() or 'leak' in labels else labels


def seen_in_training(
    columns: dict[str, np.ndarray],
    builder: tfds.core.DatasetBuilder,
    split: str,
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    own_split: str | None = None,
) -> np.ndarray:
    """Finds the examples that models were trained or chosen on, and warns of them.

    Within one dataset, whatever its parameters, and within all configs of UTKFace and of IMDB-WIKI,
    they are found by id and by group. In other datasets, those count whose images have been seen,
    as `shared.same_images` finds them, and others of their groups. What the runs saw that they
    started from, by `config.init_from`, counts, too.

    Args:
      columns: From `records.read_columns`, of what is evaluated.
      builder: The dataset that is evaluated.
      split: The split of it.
      configs: The configs of the workdirs, with overrides.
      folders: The workdirs.
      own_split: The split that is evaluated if it belongs to the models' own dataset, else None.
        On a split that a run was trained, chosen or tested on, of its own splits only those count
        that come before: for validation, train; for test, both. If a run that it started from was
        chosen on the same validation split, that is no leak.

    Returns:
      bool [N]; False, after a warning, where a training's dataset is not prepared on this machine.

    Raises:
      ValueError: when an image that is compared cannot be decoded, naming the example.
    """
    seen = np.zeros(len(columns['id']), bool)
    if devices.is_main_process():  # Another might round otherwise.
        seen = _search(columns, builder, split, configs, folders, own_split)
    return devices.from_main_process(seen)


def _search(
    columns: parts.Columns,
    builder: tfds.core.DatasetBuilder,
    split: str,
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    own_split: str | None,
) -> np.ndarray:
    """Does what `seen_in_training` says, of which it has the arguments."""
    seen = np.zeros(len(columns['id']), bool)
    trainings = []
    for config, started in zip(configs, folders, strict=True):
        role = own_split and _role(own_split, workdir.load_config(started).data)
        for folder in _with_earlier_runs(started):
            for own in several.sections(workdir.load_config(folder).data):
                trainings.append((config, folder, own, role if folder is started else None))
    compared: dict[tuple[str, tuple[str, ...], bytes], np.ndarray] = {}
    for config, folder, own, role in trainings:
        theirs = prepared.find_prepared(own, (config.data.data_dir, own.data_dir))
        if theirs is None:
            _LOG.warning(
                '%s: whether it was trained on some of these examples cannot be told: %s is not '
                'prepared here',
                folder,
                own.dataset,
            )
            continue
        splits = [own.train_split]
        if own_split is None or not split_names.same(own_split, config.data.validation_split):
            splits.append(own.validation_split)
        if role:
            # What its other datasets share with this one, the training has left out.
            before = parts.ROLES.index(role) if _has_same_names(builder, theirs) else 0
            splits = splits[:before]
        if not (splits := list(filter(None, splits))):
            continue
        used = trained_on.open_splits(folder, own.dataset, theirs, splits)
        # By what is left of the splits: several runs have often been trained on the same.
        left = b''.join(used.left_out[name].tobytes() for name in splits)
        key = str(theirs.data_path), tuple(splits), left
        if key not in compared:
            compared[key] = _in_both(columns, builder, split, used)
        found = compared[key]
        if found.any():
            _LOG.warning(
                '%s: %d of these %d examples, or others of their groups, are in %s of %s, '
                'which it was trained on; see the scores without leaks',
                folder,
                found.sum(),
                len(found),
                ' or '.join(splits),
                theirs.info.full_name,
            )
        seen |= found
    return seen


def _in_both(
    columns: parts.Columns, builder: tfds.core.DatasetBuilder, split: str, used: parts.Part
) -> np.ndarray:
    """Which examples of an evaluated split, or others of their groups, are in other splits."""
    if _has_same_names(builder, used.builder):
        kept = [used.kept_columns(name) for name in used.columns]
        ids, groups = (np.concatenate([one[key] for one in kept]) for key in ('id', 'group'))
        found = np.isin(columns['id'], ids)
    else:
        mine = parts.Part(builder.info.full_name, builder, {split: columns}, {})
        found = shared.same_images(shared.rows_of(mine), shared.rows_of(used))
        groups = columns['group'][found]
    return found | np.isin(columns['group'], groups)


def _has_same_names(one: tfds.core.DatasetBuilder, other: tfds.core.DatasetBuilder) -> bool:
    """Whether an id, or a group, is the same picture, or person, in both."""
    if one.name != other.name:
        return False
    of_all_configs = getattr(one, 'GROUPS_OF_ALL_CONFIGS', False)
    return of_all_configs or datasets.config_name(one) == datasets.config_name(other)


def _role(split: str, own: ConfigDict) -> str | None:
    """One of `parts.ROLES`: what a run knows a split as, if it is one that it knows."""
    return next((role for role in parts.ROLES if split_names.same(split, own[role])), None)


def _with_earlier_runs(folder: pathlib.Path) -> list[pathlib.Path]:
    """A workdir, those that it started from, those that these started from, and so on."""
    found = [folder]
    for run in found:  # The loop itself adds to the list.
        for text in filter(None, workdir.load_config(run).get('init_from', '').split(',')):
            try:
                earlier = address.parse(text.strip()).folder
            except FileNotFoundError as error:
                _LOG.warning('%s: what it learnt from cannot be told: %s', run, error)
                continue
            if earlier not in found:
                found.append(earlier)
    return found
