"""What dataset.json of a run says of the examples that the run learns from and is scored on."""

import hashlib
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrid import __version__, files
from hybrid.datasets import geometry
from hybrid.runs import workdir as workdir_lib
from hybrid.scores.outcomes import age_bounds, median_age

_LOG = logging.getLogger(__name__)
FILE = 'dataset.json'
# The types of what dataset.json says of a dataset.
_RECORD = {
    **{'name': str, 'constant_age': int | float | None, 'constant_gender': int, 'splits': dict},
    **{'geometry': dict, 'datasets': list, 'balance': dict, 'pictures': str},
}


def examples_hash(columns: Mapping[str, np.ndarray]) -> str:
    """Returns the sha256 of a split's ids and labels, which does not depend on their order."""
    bounds = age_bounds(columns)
    rows = zip(columns['id'], columns['age'], columns['gender'], *bounds, strict=True)
    lines = sorted(
        f'{name} {np.float32(age)} {int(gender)}'
        # Nothing more for exact ages: the hash is what it was before ages could be ranges.
        + (f' {np.float32(low)} {np.float32(high)}' if low < high else '')
        for name, age, gender, low, high in rows
    )
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def _images_hash(columns: Mapping[str, np.ndarray]) -> str:
    """Returns the sha256 of a split's ids and images, which does not depend on their order."""
    rows = zip(columns['id'], columns['image_digest'].tolist(), strict=True)
    lines = sorted(f'{name} {digest:016x}' for name, digest in rows)
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def describe(
    name: str,
    columns: dict[str, dict[str, np.ndarray]],
    train_split: str,
    cut: geometry.Geometry | None = None,
) -> dict[str, Any]:
    """Describes a dataset for dataset.json.

    Args:
      name: Full TFDS name.
      columns: For each split what `records.read_columns` gives.
      train_split: The split that tells the constant predictor what to say.
      cut: How its faces were cut; None for what `geometry.of_name` says.

    Returns:
      `name`, `geometry`, `constant_age` (median of the training split in years, None without
      labels; see `outcomes.median_age`), `constant_gender` (its majority, -1 without labels), and
      `splits`: for each its `num_examples`, the `sha256` of `examples_hash`, and one of the
      `images`, if `columns` know them.
    """
    gender = columns[train_split]['gender']
    gender = gender[gender >= 0]
    return {
        'name': name,
        'geometry': dict(cut or geometry.of_name(name)),
        'constant_age': median_age(*age_bounds(columns[train_split])),
        'constant_gender': int(np.bincount(gender).argmax()) if gender.size else -1,
        'splits': {
            split: {'num_examples': len(values['id']), 'sha256': examples_hash(values)}
            | ({'images': _images_hash(values)} if 'image_digest' in values else {})
            for split, values in columns.items()
        },
    }


def learnt(record: dict[str, Any], loss: Mapping[str, Any]) -> tuple[str, ...]:
    """What a training learns, and its model predicts, of 'age' and 'gender'.

    Args:
      record: From `describe`.
      loss: `config.loss`.

    Returns:
      Those of which the training split has labels, and whose weight in the loss is not 0.
    """
    labelled = {'age': record['constant_age'] is not None, 'gender': record['constant_gender'] >= 0}
    return tuple(kind for kind, known in labelled.items() if known and loss[f'{kind}_weight'])


def check_continues(workdir: pathlib.Path, record: dict[str, Any]) -> None:
    """Checks that a run that has begun goes on with the examples that it began with.

    Args:
      workdir: The run's folder.
      record: From `describe`; with `pictures`, or those of each of its `datasets`, if it is known
        what the images were made of. From the same pictures, another machine or version may make
        slightly other images.

    Raises:
      ValueError: when the dataset, or a split of it, is another.
    """
    path = workdir / FILE
    if not path.exists() or not workdir_lib.has_begun(workdir):
        return
    old = load(workdir)
    if old['name'] != record['name']:
        raise ValueError(
            f'{path}: this run began with {old["name"]}, not {record["name"]}; take another '
            '--workdir'
        )
    for split, now in record['splits'].items():
        before = old['splits'].get(split, now)
        if before['sha256'] != now['sha256']:
            raise ValueError(
                f'{path}: split {split!r} of {old["name"]} had {before["num_examples"]} examples '
                f'when this run began; now it has {now["num_examples"]}, and they or their labels '
                'are not the same. Take another --workdir'
            )
        # Runs from before this was recorded do not know their images.
        if before.get('images', now.get('images')) == now.get('images'):
            continue
        changed = (
            f'{path}: split {split!r} of {old["name"]} had other image files under the same ids '
            'and labels when this run began'
        )
        of_old, of_new = _made_of(old), _made_of(record)
        if not of_old or not of_new:
            _LOG.warning('%s; if they show other pictures, take another --workdir', changed)
        elif of_old != of_new:
            raise ValueError(f'{changed}. Take another --workdir')


def _made_of(record: dict[str, Any]) -> list[Any]:
    """The pictures of each dataset, and how faces were cut out of them; empty if not known."""
    parts = record.get('datasets', [record])
    made = [[part.get('pictures'), part.get('geometry')] for part in parts]
    return made if all(pictures for pictures, _ in made) else []


def check_examples(
    workdir: pathlib.Path, name: str, split: str, columns: dict[str, np.ndarray]
) -> None:
    """Checks that a split holds the examples that a run saw under its name, if it saw such a split.

    Args:
      workdir: The run's folder.
      name: Full TFDS name of the dataset.
      split: The split.
      columns: From `records.read_columns`, of that split.

    Raises:
      ValueError: when it holds others, or other labels.
    """
    record = of_one(load(workdir), name)
    known = record['splits'].get(split)
    if known and known['sha256'] != examples_hash(columns):
        raise ValueError(
            f'{name}: split {split!r} does not hold the examples that {workdir / FILE} names; '
            f'is it another version of {record["name"]}?'
        )


def save(workdir: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes dataset.json: `record`, from `describe`, and the version of this program."""
    files.write_json(workdir / FILE, record | {'hybrid_version': __version__})


def load(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads dataset.json.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it is damaged, or not what `describe` and trainings write.
    """
    path = workdir / FILE
    return _Record(path, workdir_lib.read_json(path))


class _Record(dict[str, Any]):
    """What dataset.json says of a dataset; what it lacks, or what has another type, is an error."""

    def __init__(self, path: pathlib.Path, entries: Any) -> None:
        self._path = path
        if not isinstance(entries, dict):
            raise self._error(f'a dataset is {entries!r:.60}')
        super().__init__(entries)
        for key, kind in _RECORD.items():
            if key in self and not isinstance(self[key], kind):
                raise self._error(f'{key!r} is {self[key]!r:.60}')
        for split, entry in self.get('splits', {}).items():
            if not isinstance(entry, dict) or not isinstance(entry.get('sha256'), str):
                raise self._error(f'the split {split!r} is {entry!r:.60}')
        if 'datasets' in self:
            self['datasets'] = [_Record(path, one) for one in self['datasets']]

    def __missing__(self, key: str) -> Any:
        raise self._error(f'it lacks {key!r}')

    def _error(self, what: str) -> ValueError:
        return ValueError(f'{self._path} is damaged: {what}; put a copy of it in its place')


def of_one(record: dict[str, Any], name: str) -> dict[str, Any]:
    """What dataset.json says of one of a run's datasets, or of all together if it has no such one.

    Args:
      record: From `load`.
      name: Full TFDS name of the dataset.
    """
    datasets = {dataset['name']: dataset for dataset in record.get('datasets', ())}
    return datasets.get(name, record)


def warn_of_photographs(workdir: pathlib.Path) -> None:
    """As `geometry.warn_of_photographs`, of the faces that a run was trained on."""
    geometry.warn_of_photographs(workdir, load_geometry(workdir, geometry.UTKFACE_CHIPS))


def load_geometry(
    workdir: pathlib.Path, shown: geometry.Geometry | None = None
) -> geometry.Geometry:
    """Reads how the faces were cut that a run was trained on; raises as `load`.

    Args:
      workdir: The run's folder.
      shown: Of faces that the run is shown: of several datasets, those count that are cut alike.
    """
    record = load(workdir)
    of_each = [
        one.get('geometry') or geometry.of_name(one['name'])
        for one in record.get('datasets', [record])
    ]
    return next((one for one in of_each if shown and not geometry.differ(one, shown)), of_each[0])
