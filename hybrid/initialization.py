"""What a new run starts from instead of random numbers: weights in files."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid import ensemble, hub, parallel, pretrained, tensor_files
from hybrid.train_state import TrainState

_LOG = logging.getLogger(__name__)


def check(config: ConfigDict) -> None:
    """Checks, for a run that has not begun, what it is to start from; reads no tensors.

    Raises:
      ValueError: when a model cannot take weights, or a file is of another kind.
      FileNotFoundError: when a file is not there.
    """
    for _, members, of_model in _models(config):
        encoder = of_model.model.encoder
        sources = _sources(encoder.pretrained)
        if not sources:
            if encoder.allow_missing:
                raise ValueError(
                    f'config.model.encoder.allow_missing={tuple(encoder.allow_missing)} without '
                    'config.model.encoder.pretrained, the file of the weights'
                )
            continue
        key = f'config.model.encoder.pretrained={encoder.pretrained!r}'
        for name, wanted in (('width', 64), ('stem', 'imagenet')):
            if encoder[name] != wanted:
                raise ValueError(
                    f'{key} needs config.model.encoder.{name}={wanted!r}, not {encoder[name]!r}: '
                    'pretrained ResNets have no other'
                )
        if of_model.data.normalization != encoder.pretrained_normalization:
            raise ValueError(
                f'config.data.normalization={of_model.data.normalization!r}, but the weights of '
                'config.model.encoder.pretrained were trained with '
                f'{encoder.pretrained_normalization!r}; set that (or, for weights that were not, '
                'config.model.encoder.pretrained_normalization)'
            )
        if len(sources) > len(members):
            raise ValueError(f'{key} are {len(sources)} files, for a model of {len(members)}')
        for source in sources:
            try:
                if source.startswith(hub.SCHEME):
                    hub.parse(source)
                else:
                    tensor_files.check_file(_local(source))
            except (FileNotFoundError, ValueError) as error:
                raise type(error)(f'config.model.encoder.pretrained: {error}') from None


def start(config: ConfigDict, state: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Puts the weights that a config names into the state of a run that has not begun.

    Args:
      config: Of the run.
      state: Of a `learner.Learner`, initialised.

    Returns:
      The state, as NumPy arrays where it is new, and a record for `pretrained.json`, one entry a
      file: `source`, `sha256`, `members`, and the names of tensors `loaded`, `missing` and
      `unused`. Empty when nothing is named.

    Raises:
      ValueError: when a file is damaged or does not fit.
    """
    if not ensemble.is_ensemble(config):
        return _load(config, state, (0,), stacked=False)
    record: list[dict[str, Any]] = []
    state = dict(state)
    for name, members, of_model in _models(config):
        try:
            state[name], entries = _load(of_model, state[name], members, stacked=True)
        except ValueError as error:
            group = f'config.ensemble.groups.{name}: ' if config.ensemble.groups else ''
            raise ValueError(f'{group}{error}') from None
        record += entries
    return state, record


def _models(config: ConfigDict) -> list[tuple[str, tuple[int, ...], ConfigDict]]:
    """(name of the group, its members, config) of every model."""
    if not ensemble.is_ensemble(config):
        return [('', (0,), config)]
    return [(group.name, group.members, group.config) for group in ensemble.create_groups(config)]


def _sources(names: str) -> list[str]:
    return [name.strip() for name in names.split(',') if name.strip()]


def _local(source: str) -> pathlib.Path:
    return pathlib.Path(source).expanduser()


def _path(source: str) -> pathlib.Path:
    """Where a file is; from the hub it is fetched, by one process first."""
    if not source.startswith(hub.SCHEME):
        return _local(source)
    main = parallel.is_main_process()
    if not main:
        parallel.wait_for_all(f'fetched {source}')
    path = hub.fetch(source)
    if main:
        parallel.wait_for_all(f'fetched {source}')
    return path


def _load(
    config: ConfigDict, state: TrainState, members: Sequence[int], *, stacked: bool
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Weights of files into the encoders of one model's members, who take the files by turns."""
    encoder = config.model.encoder
    sources = _sources(encoder.pretrained)
    if not sources:
        return state, []
    variables = {'params': state.params['encoder'], 'batch_stats': state.batch_stats['encoder']}
    variables = jax.device_get(variables)
    paths = {source: _path(source) for source in sources}
    files = {source: tensor_files.read(path) for source, path in paths.items()}
    records: dict[str, dict[str, Any]] = {}
    encoders = []
    for place, member in enumerate(members):
        source = sources[place % len(sources)]
        path = paths[source]
        initial = jax.tree.map(lambda x, k=place: x[k], variables) if stacked else variables
        pretrained.check_description(path, encoder.name)
        try:
            new, report = pretrained.convert(files[source], initial, encoder.allow_missing)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        encoders.append(new)
        if source not in records:
            records[source] = {
                'source': source,
                'sha256': tensor_files.sha256(path),
                'encoder': encoder.name,
                'members': [],
                'loaded': report.loaded,
                'missing': report.missing,
                'unused': report.unused,
            }
        records[source]['members'].append(member)
    for entry in records.values():
        _LOG.info('%s', _summary(entry))
    new = jax.tree.map(lambda *x: np.stack(x), *encoders) if stacked else encoders[0]
    return _with_encoder(state, new), list(records.values())


def _with_encoder(state: TrainState, encoder: Any) -> TrainState:
    variables: dict[str, Any] = {
        name: {**getattr(state, name), 'encoder': encoder[name]}
        for name in ('params', 'batch_stats')
    }
    ema = variables if state.ema is not None else None
    return dataclasses.replace(state, **variables, ema=ema)


def _summary(entry: dict[str, Any]) -> str:
    """One line of the log."""
    loaded, missing, unused = (entry[name] for name in ('loaded', 'missing', 'unused'))
    text = f'{entry["source"]} (sha256 {entry["sha256"][:12]}): {len(loaded)} tensors loaded'
    if missing:
        blocks = sorted({name.rpartition('.')[0] for name in missing})
        text += f', {len(missing)} of the encoder missing and initialised ({", ".join(blocks)})'
    if unused:
        counters = {'num_batches_tracked' for name in unused if name.endswith('_tracked')}
        others = {name.split('.')[0] for name in unused if not name.endswith('_tracked')}
        text += f', {len(unused)} unused ({", ".join(sorted(counters | others))})'
    return text
