"""The files that say what a run is: its config and what it started from."""

import contextlib
import errno
import json
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import filelock
import ml_collections

from hybrid import files
from hybrid.default_config import SCHEMA
from hybrid.schema import flatten

_LOG = logging.getLogger(__name__)
CONFIG, SOURCES, LOCK = 'config.json', 'pretrained.json', 'lock'
# What every run's config says, even that of the oldest.
_ALWAYS = ('data.dataset', 'data.validation_split')
# Keys that say where and how fast something is computed, not what: a run may continue with others.
MACHINE_KEYS = {
    *('data.data_dir', 'data.manual_dir', 'data.num_threads', 'data.prefetch'),
    *('data.cache_bytes', 'ensemble.at_once', 'model.kernels'),
    *('detect.model', 'detect.threshold', 'detect.max_size', 'detect.min_face', 'detect.turns'),
    *('crop.size', 'crop.format', 'video.every', 'video.max_frames', 'video.max_seconds'),
}
# What a run did before there was a key for it, where that is not the key's default.
FORMER_VALUES = {'model.kernels': 'portable'}
# Keys that decide which examples come in which order, or which checkpoint is the best.
ORDER_KEYS = (
    *('seed', 'train.batch_size', 'data.dataset', 'data.parameters'),
    *('data.weights', 'data.train_split', 'data.validation_split'),
)
# Keys that decide, by whether they are 0, what is learned.
LEARNING_KEYS = ('loss.age_weight', 'loss.gender_weight')
# Keys that say what a run begins with. Later, only evaluations read them, to find what may have
# leaked.
BEGINNING_KEYS = (
    *('init_from', 'init_from_parts'),
    *('model.encoder.pretrained', 'model.encoder.allow_missing'),
)
# What the keys begin with that decide what a trained network makes of an image.
_PREDICTING_KEYS = (
    *('data.image_size', 'data.resize_size', 'data.normalization'),
    *('model.', 'ensemble.groups.'),
)
# Those of them that matter in training alone.
_TRAINING_KEYS = {
    *('model.head.dropout', 'model.head.label_width', 'model.encoder.drop_path'),
    *('model.encoder.zero_init_residual', 'model.encoder.pretrained_normalization'),
}


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


def read_json(path: pathlib.Path, remedy: str = 'put a copy of it in its place') -> dict[str, Any]:
    """Reads an object from a JSON file.

    Args:
      path: The file.
      remedy: What to do about a damaged one.

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
            f'{path} is not valid JSON ({error}); a crash or a full disk may have torn it: {remedy}'
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f'{path} holds no JSON object: {remedy}')
    return value


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads config.json as it is.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it is damaged.
    """
    path = workdir / CONFIG
    remedy = 'put a copy of it in its place, such as checkpoints/STEP/config/metadata beside it'
    config = read_json(path, remedy)
    if missing := [key for key in _ALWAYS if key not in flatten(config)]:
        raise ValueError(f'{path} lacks {missing[0]}: {remedy}')
    return config


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
        the run began with, whether it learns ages and genders, and, of several datasets, the test
        split.

    Raises:
      ValueError: when the workdir holds a config that differs in a key that may not change, naming
        the keys. Those of `MACHINE_KEYS` may always change.
      NotADirectoryError: when it is a file, or lies below one.
    """
    for folder in (workdir, *workdir.parents):
        if folder.is_file():
            raise NotADirectoryError(f'{folder} is a file; name a folder for the training')
    path = workdir / CONFIG
    if not path.exists():
        return
    # By way of JSON, as the old one went, which makes a list of a tuple.
    new_config = json.loads(json.dumps(config.to_dict(), sort_keys=True))
    old, new = FORMER_VALUES | flatten(read_config(workdir)), flatten(new_config)
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
        fixed = [key for key in BEGINNING_KEYS if (old.get(key) or '') != (new.get(key) or '')]
        # Of a model that has not learned ages, the best is the one with the fewest wrong genders.
        fixed += [key for key in LEARNING_KEYS if bool(old.get(key)) != bool(new.get(key))]
        if ',' in old.get('data.dataset', ''):
            # What several datasets have in common was left out before the training.
            fixed.append('data.test_split')
        keys = [key for key in keys if begun and (key.startswith(ORDER_KEYS) or key in fixed)]
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
def lock(
    workdir: pathlib.Path, refusal: str = 'another process is training there'
) -> Iterator[None]:
    """Keeps other processes out of a workdir until the block, or this process, ends.

    Args:
      workdir: The folder; it is made.
      refusal: What to say when another process holds it.

    Raises:
      ValueError: when another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(workdir / LOCK)
    try:
        held.acquire(blocking=False)
    except filelock.Timeout:
        raise ValueError(f'{workdir}: {refusal}') from None
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK):
            raise
        _LOG.warning('%s: this file system has no locks, so start no second process there', workdir)
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
    return (FORMER_VALUES | flatten(read_config(workdir)))['model.kernels']


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
    saved = ml_collections.ConfigDict(read_config(workdir))
    if defaults is None:
        return saved
    config = defaults.copy_and_resolve_references()
    try:
        with config.unlocked():
            config.update(saved)
    except (TypeError, AttributeError) as error:  # such as a number where a section belongs
        raise ValueError(f'{workdir / CONFIG}: {error}') from error
    return config


def overridden(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    keys: tuple[str, ...] = _PREDICTING_KEYS,
) -> dict[str, Any]:
    """What predicts in another way than the run was trained: keys and values of this config.

    Args:
      workdir: The run's folder.
      config: Its config, with overrides.
      keys: What the keys begin with that are compared.
    """
    new = flatten(json.loads(json.dumps(config.to_dict())))
    # Runs are older than some keys, and behaved as the defaults say.
    defaults = {key: known.default for key, known in SCHEMA.keys.items()}
    old = json.loads(json.dumps(defaults)) | flatten(read_config(workdir))
    passed_over = MACHINE_KEYS | _TRAINING_KEYS | {*BEGINNING_KEYS}
    return {
        key: value
        for key, value in new.items()
        if key.startswith(keys) and key not in passed_over and value != old.get(key)
    }


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
