"""The files of a run that are neither checkpoints nor figures: config.json and dataset.json."""

import hashlib
import json
import pathlib
from typing import Any

import ml_collections
import numpy as np

CONFIG, DATASET = 'config.json', 'dataset.json'
# Keys that say where and how fast, not what: a run may be continued with others.
MACHINE_KEYS = {'data.data_dir', 'data.manual_dir', 'data.num_threads', 'data.prefetch'}


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON so that a reader finds the old file or the new one, never half of one."""
    partial = path.with_name(path.name + '.partial')
    partial.write_text(json.dumps(value, indent=2, sort_keys=True) + '\n')
    partial.replace(path)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads an object from a JSON file.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(
            f'{path} does not exist; --workdir must be the folder of a training'
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


def flatten(config: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """{'a': {'b': 1}} to {'a.b': 1}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f'{prefix}{name}.')
        else:
            flat[f'{prefix}{name}'] = value
    return flat


def _shown(flat: dict[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else 'absent'


def check_config(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Checks that a training may go on in this workdir, or begin in it.

    Raises:
      ValueError: when it holds a config that differs in more than `MACHINE_KEYS`, naming the keys.
    """
    path = workdir / CONFIG
    if not path.exists():
        return
    # By way of JSON, as the old one went, which makes a list of a tuple.
    new_config = json.loads(json.dumps(config.to_dict(), sort_keys=True))
    old, new = flatten(_read_json(path)), flatten(new_config)
    keys = sorted(
        key
        for key in (old.keys() | new.keys()) - MACHINE_KEYS
        if _shown(old, key) != _shown(new, key)
    )
    if keys:
        shown = ', '.join(
            f'{key} is {_shown(old, key)} there, {_shown(new, key)} now' for key in keys[:3]
        )
        more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
        raise ValueError(
            f'{path} is of another config ({shown}{more}); take another --workdir, or '
            '--overwrite_config to go on with the new one'
        )


def save_config(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Writes config.json."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / CONFIG, config.to_dict())


def load_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """Reads config.json.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it is damaged.
    """
    return ml_collections.ConfigDict(_read_json(workdir / CONFIG))


def ids_hash(ids: np.ndarray) -> str:
    """sha256 of a split's ids, whatever their order: equal hashes mean the same examples."""
    return hashlib.sha256('\n'.join(sorted(ids)).encode()).hexdigest()


def describe_dataset(
    name: str, columns: dict[str, dict[str, np.ndarray]], train_split: str
) -> dict[str, Any]:
    """The record that goes to dataset.json.

    Args:
      name: Full TFDS name.
      columns: For each split what `input_pipeline.read_columns` gives.
      train_split: The one from which the constant predictor is taken.

    Returns:
      `name`, `constant_age` (median of the training split in years, None without labels),
      `constant_gender` (its majority, -1 without labels), and `splits`: for each its `num_examples`
      and `ids_sha256`.
    """
    age, gender = columns[train_split]['age'], columns[train_split]['gender']
    age, gender = age[~np.isnan(age)], gender[gender >= 0]
    return {
        'name': name,
        'constant_age': float(np.median(age)) if age.size else None,
        'constant_gender': int(np.bincount(gender).argmax()) if gender.size else -1,
        'splits': {
            split: {'num_examples': len(values['id']), 'ids_sha256': ids_hash(values['id'])}
            for split, values in columns.items()
        },
    }


def save_dataset(workdir: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes dataset.json, or checks that the examples are those the run began with.

    Args:
      workdir: The run's folder.
      record: From `describe_dataset`.

    Raises:
      ValueError: when dataset.json is there and differs.
    """
    path = workdir / DATASET
    if path.exists():
        old = _read_json(path)
        for split, now in record['splits'].items():
            if old['splits'].get(split, now) != now:
                before = old['splits'][split]['num_examples']
                raise ValueError(
                    f'{path}: split {split!r} of {old["name"]} had {before} examples when this run '
                    f'began; {record["name"]} has {now["num_examples"]}, and they are not the '
                    'same. Take another --workdir'
                )
        return
    write_json(path, record)


def load_dataset(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads dataset.json.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it is damaged.
    """
    return _read_json(workdir / DATASET)
