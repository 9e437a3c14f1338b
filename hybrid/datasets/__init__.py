"""TFDS builders of this project: find one by name, set its parameters, prepare it.

A dataset of this project is a folder in TFDS's own layout, `<name>/<name>_dataset_builder.py`;
nothing else lists it. `register` makes a builder from elsewhere known. Only the builder that is
asked for is imported, and TensorFlow never is.
"""

import dataclasses
import difflib
import hashlib
import importlib
import json
import os
import pathlib
import re
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow_datasets as tfds

from hybrid import files
from hybrid.datasets import cutting, origin

_LEFT_OVER_SECONDS = 3600
_REGISTERED: dict[str, type[tfds.core.DatasetBuilder]] = {}
_LOCK = threading.RLock()


def names() -> list[str]:
    """Returns the names of the datasets that `create_builder` knows, sorted."""
    builders = pathlib.Path(__file__).parent.glob('*/*_dataset_builder.py')
    return sorted({*(path.parent.name for path in builders), *_REGISTERED})


def register(builder: type[tfds.core.DatasetBuilder]) -> None:
    """Makes a builder known as `config.data.dataset`, by its TFDS name.

    Its examples have at least the features `image` (uint8 [H, W, 3], given as a file), `age`
    (float32 years, NaN = unknown), `gender` (ClassLabel of male and female, -1 = unknown), `id`,
    of which two different images never have the same, and `group`, which must not straddle a split.
    If ages may be ranges, also `age_min` and `age_max`, see `scores.outcomes.age_bounds`; `age` of
    a range is NaN.

    Raises:
      ValueError: when the name is taken.
    """
    if builder.name in names():
        raise ValueError(f'there is a dataset {builder.name!r} already; name yours otherwise')
    _REGISTERED[builder.name] = builder


def _builder_class(name: str) -> Any:
    if name in _REGISTERED:
        return _REGISTERED[name]
    return importlib.import_module(f'{__name__}.{name}.{name}_dataset_builder').Builder


def create_builder(
    dataset: str, data_dir: str = '', parameters: Mapping[str, Any] | None = None
) -> tfds.core.DatasetBuilder:
    """Creates the builder of a dataset, prepared or not.

    Args:
      dataset: TFDS name, `name` or `name/config`, such as `utkface/coral_21_60`; for `face_csv` the
        config is any name that tells one's own datasets apart.
      data_dir: where prepared datasets live; TFDS's own default (`~/tensorflow_datasets`) if ''.
      parameters: values for fields of the builder's config. Those that differ from the config's own
        make a config of another name, `<config>_<8 hex digits>`, because TFDS caches by name.

    Raises:
      ValueError: no such dataset, config or parameter, or a value of the wrong type.
    """
    name, _, config_name = dataset.partition('/')
    if name not in names():
        raise ValueError(f'data.dataset={dataset!r}: no dataset {name!r}. {_known(name, names())}')
    builder = _builder_class(name)
    configs = {config.name: config for config in builder.BUILDER_CONFIGS}
    if getattr(builder, 'ANY_CONFIG_NAME', False) and config_name:
        _check_own_name(dataset)
        default = builder.BUILDER_CONFIGS[0]
        configs.setdefault(config_name, dataclasses.replace(default, name=config_name))
    if config_name and config_name not in configs:
        raise ValueError(
            f'data.dataset={dataset!r}: {name} has no config {config_name!r}. '
            f'{_known(config_name, configs)}'
        )
    folder = os.path.expanduser(data_dir) or None
    if not configs and not parameters:
        return _create(builder, data_dir=folder)
    default = next(iter(configs.values()), tfds.core.BuilderConfig(name=''))
    named = configs.get(config_name, default)
    made = _create(builder, config=override_config(named, parameters or {}), data_dir=folder)
    made.named_config = named.name
    return made


def _create(builder: Any, **arguments: Any) -> tfds.core.DatasetBuilder:
    """Creates a builder without looking in a bucket, for which TFDS leaves a folder in /tmp."""
    info = tfds.core.DatasetInfo
    # Two threads would each restore what the other has put there; a builder may create another one.
    with _LOCK:
        look = info.initialize_from_bucket
        info.initialize_from_bucket = lambda self: None
        try:
            return builder(**arguments)
        finally:
            info.initialize_from_bucket = look


def _check_own_name(dataset: str) -> None:
    """Raises ValueError unless a name that somebody chose can be that of a folder."""
    name, _, own = dataset.partition('/')
    # TFDS takes what looks like a version for one.
    if re.fullmatch(r'\w([\w.+-]*\w)?', own) and not re.fullmatch(r'\d+(\.\d+){2}', own):
        return
    better = re.sub(r'\W+', '_', own).strip('_')
    better = f'faces_{better}'.rstrip('_') if better.replace('_', '').isdigit() else better
    raise ValueError(
        f'data.dataset={dataset!r}: a name of your own has letters, digits, and between them '
        f'_ - . or +, and is no version number, such as {name}/{better or "mine"}'
    )


def override_config(
    config: tfds.core.BuilderConfig, parameters: Mapping[str, Any]
) -> tfds.core.BuilderConfig:
    """Returns `config` with `parameters` set, renamed by a hash of the values that changed.

    Raises:
      ValueError: unknown parameter, or a value of another type than the config's.
    """
    inherited = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)}
    known = {field.name for field in dataclasses.fields(config)} - inherited
    changed = {}
    for key, value in parameters.items():
        if key not in known:
            raise ValueError(
                f'builder config {config.name!r} has no parameter {key!r}. '
                f'{_known(str(key), known)}. '
                'What a recipe sets for another dataset is dropped by --config.data.parameters={}'
            )
        default = getattr(config, key)
        value = _as_type_of(default, value, key)
        if value != default:
            changed[key] = value
    if not changed:
        return config
    canonical = json.dumps(changed, sort_keys=True, separators=(',', ':'))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
    return dataclasses.replace(config, name=f'{config.name}_{digest}', **changed)


def config_name(builder: tfds.core.DatasetBuilder) -> str:
    """The name of a builder's config without what `override_config` added to it; '' of none."""
    config = builder.builder_config
    return getattr(builder, 'named_config', config.name if config else '')


def prepare(
    builder: tfds.core.DatasetBuilder,
    manual_dir: str = '',
    create_aligner: cutting.CreateCutter | None = None,
) -> None:
    """Writes the dataset as ArrayRecord files into `builder.data_dir`, unless it is there already.

    The directory appears under its name only when it is complete: a preparation that is interrupted
    leaves nothing that looks prepared, and what a killed one leaves is removed by the next. Prints
    a line before and one after; nothing if the dataset is there.

    Args:
      builder: from `create_builder`.
      manual_dir: where the files lie that must be obtained by hand; `<data_dir>/downloads/manual`
        if ''.
      create_aligner: makes what aligns faces, given their side in pixels; for builders with the
        parameter `align`. It comes from above, because datasets know no detector.

    Raises:
      FileNotFoundError: the files that must be obtained by hand are not there.
      ValueError: they are damaged, or `builder.data_dir` exists without being a prepared dataset,
        or is one made from other files than there are in `manual_dir`, see `origin`.
    """
    folder = files.expanded(manual_dir)
    if manual_dir and folder.is_file():
        raise ValueError(
            f'config.data.manual_dir={manual_dir} is a file; name its folder, {folder.parent}'
        )
    _remove_left_over(builder)
    if builder.data_path.exists():
        if builder.is_prepared():
            if manual_dir:
                origin.check(builder.data_path, folder, getattr(builder, 'read_meaning', None))
            return
        raise ValueError(f'{builder.data_dir} is not a prepared dataset: remove it, then prepare')
    source = folder if manual_dir else pathlib.Path(builder.data_dir_root) / 'downloads/manual'
    instructions = ' '.join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or '').split())
    if instructions and not (source.is_dir() and any(source.iterdir())):
        raise FileNotFoundError(
            f'{source} does not exist or is empty. {instructions} docs/data.md lists the files of '
            'all datasets'
        )
    print(f'preparing {builder.info.full_name} in {builder.data_dir_root}', flush=True)
    # TFDS prints sizes it does not know, and its bars know no totals; the builders show their own.
    for name in ('_log_download_bytes', '_log_download_done'):
        setattr(builder, name, lambda: None)
    tfds.display_progress_bar(False)
    if create_aligner:
        builder.create_aligner = create_aligner
    try:
        builder.download_and_prepare(
            file_format='array_record',
            download_config=tfds.download.DownloadConfig(manual_dir=str(source)),
        )
    except Exception:
        # Another process may have prepared it meanwhile, and only one can move it into place.
        if not builder.data_path.exists():
            raise
        builder.info.read_from_directory(builder.data_path)
    finally:
        tfds.display_progress_bar(True)
    print(f'prepared: {sizes(builder)}', flush=True)


def sizes(builder: tfds.core.DatasetBuilder) -> str:
    """The splits of a prepared dataset and their sizes, for people."""
    splits = builder.info.splits.items()
    return ', '.join(f'{split} {info.num_examples:,}' for split, info in splits) + ' examples'


def _remove_left_over(builder: tfds.core.DatasetBuilder) -> None:
    """Removes what killed preparations of this very dataset left behind.

    A folder in which something happened within the last hour may be another process's.
    """
    folder = pathlib.Path(builder.data_dir)
    for path in folder.parent.glob(f'incomplete.*_{folder.name}'):
        try:
            newest = max(file.stat().st_mtime for file in (path, *path.rglob('*')))
        except FileNotFoundError:  # just now completed or removed by the process it belongs to
            continue
        if newest < time.time() - _LEFT_OVER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _known(wrong: str, known: Iterable[str]) -> str:
    """Says which names exist and which of them is nearest to the wrong one."""
    known = sorted(known)
    nearest = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    hint = f'Did you mean {nearest[0]!r}? ' if nearest else ''
    return f'{hint}There are: {", ".join(known) or "none"}'


def _as_type_of(default: Any, value: Any, key: str) -> Any:
    """Returns `value` as the default's type if nothing is lost (1 -> 1.0, list -> tuple)."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(default, tuple) and isinstance(value, tuple):
        value = tuple(_as_type_of(default[0], one, key) for one in value) if default else value
    if default is not None and type(value) is not type(default):
        expected = type(default).__name__
        raise ValueError(f'parameter {key}={value!r} must be of type {expected}, as {default!r} is')
    return value
