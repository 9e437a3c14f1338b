"""The files that say what a run is: its config, its dataset and what it started from."""

import contextlib
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import ml_collections
import numpy as np

from hybrid import __version__, files
from hybrid.datasets import geometry
from hybrid.default_config import SCHEMA
from hybrid.schema import flatten
from hybrid.scores.outcomes import age_bounds, median_age

CONFIG, DATASET, SOURCES = 'config.json', 'dataset.json', 'pretrained.json'
# Keys that say where and how fast something is computed, not what: a run may continue with others.
MACHINE_KEYS = {
    *('data.data_dir', 'data.manual_dir', 'data.num_threads', 'data.prefetch'),
    *('data.cache_bytes', 'ensemble.at_once', 'model.kernels'),
    *('detect.model', 'detect.threshold', 'detect.max_size', 'detect.min_face', 'detect.turns'),
    *('crop.size', 'crop.format', 'video.every', 'video.max_frames', 'video.max_seconds'),
}
# What a run did before there was a key for it.
FORMER_VALUES = {
    'model.encoder.bottleneck_stride': '3x3',
    'model.kernels': 'portable',
    'model.head.age': 'regression',
    'data.weights': '',
}
# The types of what dataset.json says of a dataset.
_RECORD = {
    **{'name': str, 'constant_age': int | float | None, 'constant_gender': int, 'splits': dict},
    **{'geometry': dict, 'datasets': list, 'balance': dict},
}
# Keys that decide which examples come in which order, or which checkpoint is the best.
ORDER_KEYS = (
    *('seed', 'train.batch_size', 'data.dataset', 'data.parameters'),
    *('data.weights', 'data.train_split', 'data.validation_split'),
)
# Keys that say what a run begins with. Later, only evaluations read them, to find what may have
# leaked.
BEGINNING_KEYS = (
    *('init_from', 'init_from_parts'),
    *('model.encoder.pretrained', 'model.encoder.allow_missing'),
)


def what_it_is(folder: pathlib.Path) -> str:
    """Says what is taken for a workdir, if it is an export or a part of one; otherwise ''."""
    from hybrid.runs.export import loaded

    if loaded.holds_export(folder):
        return (
            f'{folder} is an export, not the folder of a training: use it by hybrid.load(FOLDER), '
            'alone, or by the predict.py in it'
        )
    match = re.fullmatch(r'(.+?)(@(?:best|last|\d+))?(#\d+)?', str(folder))
    if match and match[0] != match[1] and (pathlib.Path(match[1]) / CONFIG).exists():
        return (
            f'{folder}: only hybrid.load and config.init_from take parts of a workdir; name '
            f'{match[1]}, with --checkpoint=best or last, or a member that --mode=unstack wrote'
        )
    return ''


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads an object from a JSON file.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(
            what_it_is(path.parent)
            or f'{path} does not exist; --workdir must be the folder of a training'
        )
    try:
        value = json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text
        raise ValueError(
            f'{path} is not valid JSON ({error}); is it from another program?'
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f'{path} holds no JSON object; is it from another program?')
    return value


def _shown(flat: dict[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else 'absent'


def check_continues(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, overwrite: bool = False
) -> None:
    """Checks that a training may go on in this workdir, or begin in it.

    Args:
      workdir: The run's folder.
      config: The config of the training.
      overwrite: Whether the config may differ from the one there. Once there is a checkpoint, what
        decides the order of the examples and which checkpoint is best cannot change, nor can what
        the run began with.

    Raises:
      ValueError: when the workdir holds a config that differs in a key that may not change, naming
        the keys. Those of `MACHINE_KEYS` may always change.
    """
    path = workdir / CONFIG
    if not path.exists():
        return
    # By way of JSON, as the old one went, which makes a list of a tuple.
    new_config = json.loads(json.dumps(config.to_dict(), sort_keys=True))
    old, new = FORMER_VALUES | flatten(read_json(path)), flatten(new_config)
    # A key that the run is older than: it behaved as the default says.
    old |= {key: SCHEMA.keys[key].default for key in new.keys() - old.keys() if key in SCHEMA.keys}
    keys = sorted(
        key
        for key in (old.keys() | new.keys()) - MACHINE_KEYS
        if _shown(old, key) != _shown(new, key)
    )
    if overwrite:
        begun = has_begun(workdir)
        # A key that is absent, in runs of before it was there, is as good as empty.
        changed = [key for key in BEGINNING_KEYS if (old.get(key) or '') != (new.get(key) or '')]
        keys = [key for key in keys if begun and (key.startswith(ORDER_KEYS) or key in changed)]
    if keys:
        shown = ', '.join(
            f'{key} is {_shown(old, key)} there, {_shown(new, key)} now' for key in keys[:3]
        )
        more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
        remedy = 'take another --workdir'
        if not overwrite:
            remedy += ', or --overwrite_config to go on with the new one'
        raise ValueError(f'{path} is of another config ({shown}{more}); {remedy}')


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other trainings out of a workdir until the block, or the process, ends.

    Raises:
      ValueError: when another process trains there.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(workdir / 'lock')
    try:
        held.acquire(blocking=False)
    except filelock.Timeout:
        raise ValueError(f'{workdir}: another process is training there') from None
    try:
        yield
    finally:
        held.release()


def has_begun(workdir: pathlib.Path) -> bool:
    """Whether a run has a checkpoint; one that was not written to its end does not count."""
    return any(path.name.isdecimal() for path in (workdir / 'checkpoints').glob('[0-9]*'))


def save_config(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Writes config.json."""
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(workdir / CONFIG, config.to_dict())


def recorded_kernels(workdir: pathlib.Path) -> str:
    """Returns the `config.model.kernels` of a run's last training; 'auto' if it has not begun."""
    if not (workdir / CONFIG).exists():
        return 'auto'
    return (FORMER_VALUES | flatten(read_json(workdir / CONFIG)))['model.kernels']


def load_config(
    workdir: pathlib.Path, defaults: ml_collections.ConfigDict | None = None
) -> ml_collections.ConfigDict:
    """Reads config.json.

    Args:
      workdir: The run's folder.
      defaults: What holds for keys that were not there yet when the run began, and what types
        values have.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it is damaged, or a value has another type than its default.
    """
    saved = ml_collections.ConfigDict(read_json(workdir / CONFIG))
    if defaults is None:
        return saved
    config = defaults.copy_and_resolve_references()
    try:
        with config.unlocked():
            config.update(saved)
    except (TypeError, AttributeError) as error:  # such as a number where a section belongs
        raise ValueError(f'{workdir / CONFIG}: {error}') from error
    return config


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


def describe_dataset(
    name: str,
    columns: dict[str, dict[str, np.ndarray]],
    train_split: str,
    cut: geometry.Geometry | None = None,
) -> dict[str, Any]:
    """Describes a dataset for dataset.json.

    Args:
      name: Full TFDS name.
      columns: For each split what `input_pipeline.read_columns` gives.
      train_split: The split that tells the constant predictor what to say.
      cut: How its faces were cut; None for what `geometry.of_name` says.

    Returns:
      `name`, `geometry`, `constant_age` (median of the training split in years, None without
      labels; see `outcomes.median_age`), `constant_gender` (its majority, -1 without labels), and
      `splits`: for each its `num_examples` and the `sha256` of `examples_hash`.
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
            for split, values in columns.items()
        },
    }


def learnt(record: dict[str, Any], loss: Mapping[str, Any]) -> tuple[str, ...]:
    """What a training learns, and its model predicts, of 'age' and 'gender'.

    Args:
      record: From `describe_dataset`.
      loss: `config.loss`.

    Returns:
      Those of which the training split has labels, and whose weight in the loss is not 0.
    """
    labelled = {'age': record['constant_age'] is not None, 'gender': record['constant_gender'] >= 0}
    return tuple(kind for kind, known in labelled.items() if known and loss[f'{kind}_weight'])


def check_dataset(workdir: pathlib.Path, record: dict[str, Any]) -> None:
    """Checks that a run that has begun goes on with the examples that it began with.

    Args:
      workdir: The run's folder.
      record: From `describe_dataset`.

    Raises:
      ValueError: when the dataset, or a split of it, is another.
    """
    path = workdir / DATASET
    if not path.exists() or not has_begun(workdir):
        return
    old = load_dataset(workdir)
    if old['name'] != record['name']:
        raise ValueError(
            f'{path}: this run began with {old["name"]}, not {record["name"]}; take another '
            '--workdir'
        )
    for split, now in record['splits'].items():
        before = old['splits'].get(split, now)
        if before != now:
            raise ValueError(
                f'{path}: split {split!r} of {old["name"]} had {before["num_examples"]} examples '
                f'when this run began; now it has {now["num_examples"]}, and they or their labels '
                'are not the same. Take another --workdir'
            )


def check_examples(
    workdir: pathlib.Path, name: str, split: str, columns: dict[str, np.ndarray]
) -> None:
    """Checks that a split holds the examples that a run saw under its name, if it saw such a split.

    Args:
      workdir: The run's folder.
      name: Full TFDS name of the dataset.
      split: The split.
      columns: From `input_pipeline.read_columns`, of that split.

    Raises:
      ValueError: when it holds others, or other labels.
    """
    record = record_of(load_dataset(workdir), name)
    known = record['splits'].get(split)
    if known and known['sha256'] != examples_hash(columns):
        raise ValueError(
            f'{name}: split {split!r} does not hold the examples that {workdir / DATASET} names; '
            f'is it another version of {record["name"]}?'
        )


def save_dataset(workdir: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes dataset.json: `record`, from `describe_dataset`, and the version of this program."""
    files.write_json(workdir / DATASET, record | {'hybrid_version': __version__})


def load_dataset(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads dataset.json.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it is damaged, or not what `describe_dataset` and trainings write.
    """
    path = workdir / DATASET
    return _Record(path, read_json(path))


class _Record(dict[str, Any]):
    """What dataset.json says of a dataset; what it lacks, or what has another type, is an error."""

    def __init__(self, path: pathlib.Path, entries: Any) -> None:
        self._path = path
        if not isinstance(entries, dict):
            raise self._error('a dataset', entries)
        super().__init__(entries)
        for key, kind in _RECORD.items():
            if key in self and not isinstance(self[key], kind):
                raise self._error(repr(key), self[key])
        for split, entry in self.get('splits', {}).items():
            if not isinstance(entry, dict) or not isinstance(entry.get('sha256'), str):
                raise self._error(f'the split {split!r}', entry)
        if 'datasets' in self:
            self['datasets'] = [_Record(path, one) for one in self['datasets']]

    def __missing__(self, key: str) -> Any:
        raise ValueError(f'{self._path} is damaged: it lacks {key!r}')

    def _error(self, what: str, value: object) -> ValueError:
        return ValueError(f'{self._path} is damaged: {what} is {value!r:.60}')


def record_of(record: dict[str, Any], name: str) -> dict[str, Any]:
    """What dataset.json says of one of a run's datasets, or of all together if it has no such one.

    Args:
      record: From `load_dataset`.
      name: Full TFDS name of the dataset.
    """
    datasets = {dataset['name']: dataset for dataset in record.get('datasets', ())}
    return datasets.get(name, record)


def load_geometry(
    workdir: pathlib.Path, shown: geometry.Geometry | None = None
) -> geometry.Geometry:
    """Reads how the faces were cut that a run was trained on; raises as `load_dataset`.

    Args:
      workdir: The run's folder.
      shown: Of faces that the run is shown: of several datasets, those count that are cut alike.
    """
    record = load_dataset(workdir)
    of_each = [
        one.get('geometry') or geometry.of_name(one['name'])
        for one in record.get('datasets', [record])
    ]
    return next((one for one in of_each if shown and not geometry.differ(one, shown)), of_each[0])


def save_sources(workdir: pathlib.Path, sources: list[dict[str, Any]]) -> None:
    """Writes pretrained.json, which says what the run started from, see `initialization.start`.

    A run that starts from random numbers has no such file; one that an earlier attempt left behind
    is removed.
    """
    if sources:
        files.write_json(workdir / SOURCES, {'sources': sources})
    else:
        (workdir / SOURCES).unlink(missing_ok=True)


def load_sources(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Reads what `save_sources` wrote; nothing of a run that started from random numbers."""
    path = workdir / SOURCES
    return read_json(path).get('sources', []) if path.exists() else []
