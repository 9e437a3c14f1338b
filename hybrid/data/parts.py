"""The datasets that a run is trained on: prepared, their labels read, and their splits checked.

There is one, or several that are trained on together. What must not be trained or chosen on,
because it is in a test split of another dataset, is left out (`shared.py`).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from hybrid.data import prepared, records, several, split_names

ROLES = ('train_split', 'validation_split', 'test_split')
_LABELS = ('id', 'age', 'gender', 'age_min', 'age_max', 'image_digest')

Columns = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the datasets of a run.

    Attributes:
      name: As `config.data.dataset` names it.
      builder: It, prepared.
      columns: For each split that has a role, in the order of `ROLES`, what
        `records.read_columns` gives.
      left_out: For a split where a run does without an example, bool [N]; other splits are whole.
    """

    name: str
    builder: tfds.core.DatasetBuilder
    columns: dict[str, Columns]
    left_out: dict[str, np.ndarray]

    def kept(self, split: str) -> np.ndarray:
        """The places of a split that are not left out, int64 [M]."""
        if split not in self.left_out:
            return np.arange(len(self.columns[split]['id']))
        return np.flatnonzero(~self.left_out[split])

    def kept_columns(self, split: str) -> Columns:
        """The columns of what is not left out of a split."""
        return {name: column[self.kept(split)] for name, column in self.columns[split].items()}

    def leave_out(self, masks: Mapping[str, np.ndarray]) -> 'Part':
        """The same dataset, but for what `masks`, bool [N] for each split, take out of it.

        Raises:
          ValueError: when nothing is left of a split.
        """
        for split, mask in masks.items():
            if mask.all():
                raise ValueError(
                    f'{self.name}: nothing is left of split {split!r}: other datasets have all '
                    f'{len(mask):,} examples, or their persons, in splits that must not share any'
                )
        return dataclasses.replace(self, left_out=dict(masks))


def open_all(config: ConfigDict) -> list[Part]:
    """Opens the datasets that a config names, and prepares those that are not.

    Raises:
      FileNotFoundError: as `prepared.create_prepared_builder`.
      ValueError: as that, or when a dataset has no such split, or two splits of it share examples.
    """
    return [_open(one) for one in several.each(config)]


def _open(config: ConfigDict) -> Part:
    builder = prepared.create_prepared_builder(config)
    data = config.data
    splits = [data[role] for role in ROLES if data[role]]
    for role in ROLES:
        if data[role]:
            split_names.check(builder, data[role], f'config.data.{role}')
    columns = {split: records.read_columns(builder, split) for split in splits}
    if len(columns) < len(splits):
        raise ValueError(f'config.data names a split twice: {", ".join(splits)}')
    split_names.check_disjoint(columns)
    return Part(data.dataset, builder, columns, {})


def join(parts: Sequence[Part]) -> dict[str, Columns]:
    """The columns of all datasets together, without what is left out; of one dataset all of its."""
    if len(parts) == 1:
        return parts[0].columns
    return {
        split: join_labels([part.kept_columns(split) for part in parts])
        for split in parts[0].columns
    }


def join_labels(columns: Sequence[Columns]) -> Columns:
    """The `_LABELS` of several splits, one after the other, and what is known of leaks."""
    leaks = [one.get('leak', np.zeros(len(one['id']), bool)) for one in columns]
    joined = {name: np.concatenate([one[name] for one in columns]) for name in _LABELS}
    return joined | {'leak': np.concatenate(leaks)}
