"""What a new run starts from instead of random numbers: weights in files, or an earlier run.

Only here do the two become part of a state; `pretrained.py` and `earlier_run.py` read them.
"""

import dataclasses
import logging
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrid import devices, files
from hybrid.models import encoders
from hybrid.models.network import create_model
from hybrid.training import finetuning
from hybrid.training.groups import Group, all_groups, is_ensemble
from hybrid.training.train_state import TrainState
from hybrid.weights import earlier_run, hub, pretrained, tensor_files

_LOG = logging.getLogger(__name__)

# (variables of a member, its number, its place in its group) -> (variables, record)
Load = Callable[[Any, int, int], tuple[Any, dict[str, Any]]]


def check(config: ConfigDict) -> None:
    """Checks, for a run that has not begun, what it is to start from; reads no parameters.

    Raises:
      ValueError: when the config contradicts itself, a model cannot take weights, or a file is of
        another kind.
      FileNotFoundError: when a file or a workdir is not there.
    """
    runs = _split(config.init_from)
    if config.init_from and not runs:
        raise ValueError(
            f'config.init_from={config.init_from!r} names no run; leave it empty for none'
        )
    for text in runs:
        earlier_run.check(text)
    if config.init_from_parts != 'all' and not runs:
        raise ValueError(
            f'config.init_from_parts={config.init_from_parts!r} without config.init_from, the run '
            'whose parameters are meant'
        )
    models = all_groups(config)
    anything = any(_split(group.config.model.encoder.pretrained) for group in models)
    count = sum(len(group.members) for group in models)
    if len(runs) > count:
        raise ValueError(f'config.init_from={config.init_from!r} are {len(runs)}, for {count}')
    for group in models:
        encoder = group.config.model.encoder
        sources = _split(encoder.pretrained)
        if encoder.pretrained and not sources:
            raise ValueError(
                f'config.model.encoder.pretrained={encoder.pretrained!r} names no file; leave it '
                'empty for none'
            )
        if sources:
            if runs:
                raise ValueError(
                    f'config.init_from={config.init_from!r} and config.model.encoder.pretrained='
                    f'{encoder.pretrained!r}: a run starts from one of them; leave the other empty'
                )
            # Files that all models name are for the members of all.
            own = encoder.pretrained != config.model.encoder.pretrained
            try:
                _check_files(group.config, sources, len(group.members) if own else count)
            except (FileNotFoundError, ValueError) as error:
                raise type(error)(f'{_key(group, config)}{error}') from None
        elif encoder.allow_missing and not anything:
            raise ValueError(
                f'config.model.encoder.allow_missing={tuple(encoder.allow_missing)} without '
                'config.model.encoder.pretrained, the file of the weights'
            )


def _check_files(config: ConfigDict, sources: Sequence[str], members: int) -> None:
    encoder = config.model.encoder
    key = f'config.model.encoder.pretrained={encoder.pretrained!r}'
    weights = encoders.get(encoder.name).weights
    if weights is None:
        raise ValueError(f'{key}: {encoder.name} reads no pretrained weights; leave it empty')
    for name, wanted in weights.needs.items():
        if encoder[name] != wanted:
            raise ValueError(
                f'{key} needs config.model.encoder.{name}={wanted!r}, not {encoder[name]!r}: '
                f'pretrained weights of {encoder.name} have no other'
            )
    if config.data.normalization != encoder.pretrained_normalization:
        raise ValueError(
            f'config.data.normalization={config.data.normalization!r}, but the weights of '
            'config.model.encoder.pretrained were trained with '
            f'{encoder.pretrained_normalization!r}; set that (or, for weights that were not, '
            'config.model.encoder.pretrained_normalization)'
        )
    if len(sources) > members:
        raise ValueError(f'{key} are {len(sources)} files, for a run of {members}')
    for source in sources:
        try:
            if re.match('[a-z]+:/', source, re.IGNORECASE):
                hub.parse(source)
            else:
                tensor_files.check_file(_local(source))
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f'config.model.encoder.pretrained: {error}') from None


def start(config: ConfigDict, state: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Puts what a config names into the state of a run that has not begun.

    Args:
      config: Of the run.
      state: Of a `learner.Learner`, initialised.

    Returns:
      The state, as NumPy arrays where it is new, and a record for `pretrained.json`, one entry a
      source: `source`, `members`, the names of arrays `loaded`, `missing` (they keep their
      initialisation) and, of a file, `unused` and its `sha256`. Empty when nothing is named.

    Raises:
      ValueError: when something is damaged or does not fit.
    """
    models = all_groups(config)
    runs = [earlier_run.read(earlier_run.parse(text), config) for text in _split(config.init_from)]
    everybody = [number for group in models for number in group.members]
    records: list[dict[str, Any]] = []
    states = state if is_ensemble(config) else {'': state}
    started = dict(states)
    for group in models:
        of_model = group.config
        try:
            common = of_model.model.encoder.pretrained == config.model.encoder.pretrained
            load = _from_runs(runs, everybody, of_model) if runs else _from_files(of_model, common)
            if load:
                started[group.name] = _start_members(states[group.name], group, load, records)
        except ValueError as error:
            raise ValueError(f'{_key(group, config)}{error}') from None
    for entry in records:
        _LOG.info('%s', _summary(entry))
    for group in models:
        _warn_of_random(group, records)
    _warn_of_equal(records)
    return (started if is_ensemble(config) else started['']), records


def _warn_of_random(group: Group, records: Sequence[dict[str, Any]]) -> None:
    """Points out where fine-tuning freezes random numbers."""
    finetune = finetuning.create(group.config)
    stages = list(finetune.encoder.stages)
    freezes = finetune.config.batch_norm == 'frozen' and bool(finetune.encoder.collections)
    frozen = stages if freezes else stages[: finetune.frozen_stages]
    key = f'config.finetune.freeze={finetune.config.freeze!r}, batch_norm='
    key += repr(finetune.config.batch_norm)
    started = {number for entry in records for number in entry['members']}
    rest = [number for number in group.members if number not in started]
    if frozen and rest:
        _LOG.warning(
            '%s freezes what is random: for member %s neither config.model.encoder.pretrained nor '
            'config.init_from is set',
            key,
            ', '.join(map(str, rest)),
        )
    for entry in records:
        incomplete = [stage for stage in frozen if stage in entry.get('incomplete_stages', ())]
        if incomplete and set(entry['members']) & set(group.members):
            _LOG.warning(
                '%s freezes what is random: %s lacks tensors of %s',
                key,
                entry['source'],
                ', '.join(incomplete),
            )


def _warn_of_equal(records: Sequence[dict[str, Any]]) -> None:
    """Points out members that start as one network."""
    for entry in records:
        if entry.get('parts') == 'all' and len(entry['members']) > 1:
            _LOG.warning(
                '%s: members %s start as one network, heads too; '
                "config.init_from_parts='encoder' gives each heads of its own",
                entry['source'],
                ', '.join(map(str, entry['members'])),
            )


def _key(group: Group, config: ConfigDict) -> str:
    """What an error about a group begins with; nothing where the config names no groups."""
    return f'config.ensemble.groups.{group.name}: ' if config.ensemble.groups else ''


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(',') if name.strip()]


def _local(source: str) -> pathlib.Path:
    return files.expanded(source)


def _path(source: str) -> pathlib.Path:
    """Where a file is; from the hub it is fetched, by one process first."""
    if not source.startswith(hub.SCHEME):
        return _local(source)
    main = devices.is_main_process()
    if not main:
        devices.wait_for_all(f'fetched {source}')
    path = hub.fetch(source)
    if main:
        devices.wait_for_all(f'fetched {source}')
    return path


def _from_files(config: ConfigDict, common: bool) -> Load | None:
    """Loads a model's encoder; by turns its members take files of its own, all those in common."""
    encoder = config.model.encoder
    paths = [(source, _path(source)) for source in _split(encoder.pretrained)]
    if not paths:
        return None
    sources = []
    for source, path in paths:
        pretrained.check_description(path, encoder.name, encoder.pretrained_normalization)
        sources.append((source, path, tensor_files.read(path), tensor_files.sha256(path)))
    whole = None
    if encoders.read_stages(config.model):
        model = config.model.copy_and_resolve_references()
        model.sequence.stages = ''
        # Shapes of parameters are the same at any size; the stages after may need a larger one.
        size = max([config.data.image_size, *encoders.get(encoder.name).smallest.values()])
        images = jnp.zeros((1, size, size, 3))
        module = create_model(model).encoder
        whole = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))

    def load(variables: Any, member: int, place: int) -> tuple[Any, dict[str, Any]]:
        turn = member if common else place
        source, path, tensors, sha256 = sources[turn % len(sources)]
        initial = {name: tree['encoder'] for name, tree in variables.items() if 'encoder' in tree}
        try:
            new, report = pretrained.convert(
                tensors, initial, encoders.get(encoder.name), encoder.allow_missing, whole
            )
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        record = {'source': source, 'sha256': sha256, 'encoder': encoder.name}
        variables = variables | {n: {**variables[n], 'encoder': tree} for n, tree in new.items()}
        return variables, record | dataclasses.asdict(report)

    return load


def _from_runs(
    runs: Sequence[earlier_run.EarlierRun], everybody: Sequence[int], config: ConfigDict
) -> Load:
    """Loads what earlier runs have learnt; the members of all groups take them by turns."""

    def load(variables: Any, member: int, place: int) -> tuple[Any, dict[str, Any]]:
        del place
        run = runs[member % len(runs)]
        return earlier_run.take(run, member, everybody, config, variables)

    return load


def _start_members(
    state: TrainState, group: Group, load: Load, records: list[dict[str, Any]]
) -> TrainState:
    """Loads one model, or the members of a group, whose arrays have a leading axis."""
    stacked = bool(group.name)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    variables = jax.device_get(variables)
    loaded = []
    for place, member in enumerate(group.members):
        initial = jax.tree.map(lambda x, k=place: x[k], variables) if stacked else variables
        new, record = load(initial, member, place)
        loaded.append(new)
        for entry in records:
            if {k: v for k, v in entry.items() if k != 'members'} == record:
                entry['members'].append(member)
                break
        else:
            records.append(record | {'members': [member]})
    new = jax.tree.map(lambda *x: np.stack(x), *loaded) if stacked else loaded[0]
    return dataclasses.replace(state, **new, ema=new if state.ema is not None else None)


def _summary(entry: dict[str, Any]) -> str:
    """One line of the log."""
    missing, unused = entry['missing'], entry.get('unused', [])
    text = entry['source']
    if 'sha256' in entry:
        text += f' (sha256 {entry["sha256"][:12]})'
    else:
        member = '' if entry['member'] is None else f', member {entry["member"]}'
        averages = ', moving averages' if entry['moving_averages'] else ''
        text += f' (step {entry["step"]}{member}{averages})'
    text += f': {len(entry["loaded"])} arrays loaded'
    if missing:
        blocks = sorted({_block(name) for name in missing})
        text += f', {len(missing)} keep their initialisation ({", ".join(blocks)})'
    if unused:
        kinds = sorted({_block(name) for name in unused})
        text += f', {len(unused)} unused ({", ".join(kinds)})'
    return text


def _block(name: str) -> str:
    """What a tensor belongs to, for the log: layer4.0.bn1, fc, params/age_head, ..."""
    if name.endswith('.num_batches_tracked'):
        return 'num_batches_tracked'
    if '/' in name:
        return name.split('/')[1]
    return name.rpartition('.')[0] or name
