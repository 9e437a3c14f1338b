"""Takes ensembles apart, into one workdir for each member, and makes an ensemble of workdirs."""

import json
import logging
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.runs import checkpoints, dataset_record, face_ranges, trained, trained_on, workdir
from hybrid.schema import flatten
from hybrid.training import ensemble
from hybrid.training.groups import Group, create_groups, is_ensemble
from hybrid.training.train_state import TrainState

_LOG = logging.getLogger(__name__)

# Keys that say what a run began with: an ensemble that is put together does not begin again.
_BEGINNING = {
    **{'init_from': '', 'init_from_parts': 'all'},
    **{'model.encoder.pretrained': '', 'model.encoder.allow_missing': ()},
}


def unstack(
    config: ConfigDict, folder: pathlib.Path, checkpoint: str, output: pathlib.Path | None
) -> list[pathlib.Path]:
    """Does `--mode=unstack`: makes an ordinary workdir `member_<number>` for each member.

    Args:
      config: The config of the ensemble.
      folder: Its workdir.
      checkpoint: `best` or `last`.
      output: Where the workdirs go.

    Returns:
      The workdirs. Members that were frozen are left out.

    Raises:
      ValueError: when it is no ensemble, or one of the workdirs exists already.
    """
    if output is None:
        raise ValueError('--mode=unstack needs --output, the folder for the workdirs of members')
    if not is_ensemble(config):
        raise ValueError(f'{folder} is one model, not an ensemble')
    groups = create_groups(config)
    targets = {n: output / f'member_{n}' for group in groups for n in group.members}
    for target in targets.values():
        _check_new(target)
    model, state = trained.restore(config, folder, checkpoint)
    state = jax.device_get(state)
    data_state = _data_state(folder, model.step)
    made = []
    for group in groups:
        for number in group.members:
            if number in model.frozen:
                continue
            member = ensemble.take_member(state, groups, number)
            score: dict[int | None, float] = {}
            if number in model.scores:
                score[None] = model.scores[number]
            _save(targets[number], group.config, [folder], model.step, member, data_state, score)
            made.append(targets[number])
    _LOG.info('%s: %d members, %s', output, len(made), ', '.join(path.name for path in made))
    return made


def stack(
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    checkpoint: str,
    output: pathlib.Path | None,
) -> pathlib.Path:
    """Does `--mode=stack`: makes one ensemble of the models of several workdirs.

    Members are numbered in the order of the workdirs; consecutive ones that have the same model
    become a group.

    Args:
      configs: The configs of the workdirs, which may differ in `config.model` and `config.seed`
        alone.
      folders: The workdirs.
      checkpoint: `best` or `last`; it must be of the same step in all of them.
      output: The ensemble's workdir, which is made.

    Returns:
      The ensemble's workdir.

    Raises:
      ValueError: when the models do not fit together, or the workdir exists already.
    """
    if output is None or len(folders) < 2:
        raise ValueError('--mode=stack needs --workdir=A,B,... and --output, the workdir to make')
    _check_new(output)
    for config, folder in zip(configs, folders, strict=True):
        if is_ensemble(config):
            raise ValueError(f'{folder} is an ensemble; take it apart first, with --mode=unstack')
    groups, config = _groups(configs, folders)
    restored = [
        trained.restore(config, folder, checkpoint)
        for config, folder in zip(configs, folders, strict=True)
    ]
    models = [model for model, _ in restored]
    trained.check_same_splits(models)
    for model in models[1:]:
        if model.step != models[0].step:
            raise ValueError(
                f'the {checkpoint} checkpoint of {models[0].folder} is of step {models[0].step}, '
                f'that of {model.folder} of step {model.step}; an ensemble has one. '
                '--checkpoint=last, or --mode=evaluate and predict with all of them in --workdir, '
                'do without'
            )
    # Models that were trained alone are all member 0, and would go on with the same random keys.
    states = [
        jax.device_get(state).replace(member=np.int32(number))
        for number, (_, state) in enumerate(restored)
    ]
    state = ensemble.stack_members(states, groups)
    data_state = _data_state(folders[0], models[0].step)
    scores: dict[int | None, float] = {n: m.scores[0] for n, m in enumerate(models) if m.scores}
    if len(scores) == len(models):
        # Nobody has validated the ensemble, but its only checkpoint is its best one.
        scores[None] = min(scores.values())
    _save(output, config, folders, models[0].step, state, data_state, scores)
    _LOG.info('%s: an ensemble of %d members', output, len(models))
    return output


def _groups(
    configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path]
) -> tuple[list[Group], ConfigDict]:
    """Makes groups of consecutive workdirs that have the same model, and the ensemble's config."""
    configs = [config.copy_and_resolve_references() for config in configs]
    earlier = [run.strip() for config in configs for run in config.init_from.split(',')]
    for config in configs:
        config.update_from_flattened_dict(_BEGINNING)
    plain = [json.loads(json.dumps(config.to_dict())) for config in configs]
    for of_model in plain:
        # The ensemble may run on another machine, with other kernels.
        del of_model['model']['kernels']
    rest = [flatten({k: v for k, v in c.items() if k != 'model'}) for c in plain]
    for folder, other in zip(folders[1:], rest[1:], strict=True):
        ignored = {*workdir.MACHINE_KEYS, 'seed'}
        missing = object()
        keys = [
            key
            for key in sorted({*rest[0], *other} - ignored)
            if rest[0].get(key, missing) != other.get(key, missing)
        ]
        if keys:
            raise ValueError(
                f'{folder} and {folders[0]} differ in config.{keys[0]}; members of an ensemble may '
                'differ in config.model alone. --mode=evaluate and predict can combine them, with '
                'both in --workdir'
            )
    described: dict[str, dict[str, Any]] = {}
    last = None
    for config in plain:
        if config['model'] != last:
            # Groups are in the order of their names, which has to be that of the workdirs.
            described[f'group_{len(described):03}'] = {'size': 0, 'model': config['model']}
            last = config['model']
        described[max(described)]['size'] += 1
    config = configs[0]
    with config.unlocked():
        # Nothing is read from there again, but evaluations look there for what may have leaked.
        config.init_from = ','.join(filter(None, dict.fromkeys(earlier)))
        if len(described) == 1:
            config.ensemble.size = len(plain)
        else:
            config.ensemble.groups = ConfigDict(described)
    return create_groups(config), config


def _check_new(folder: pathlib.Path) -> None:
    if devices.process_count() > 1:
        raise ValueError('--mode=stack and unstack run in one process')
    if folder.exists():
        raise ValueError(f'--output: {folder} is there already; name one that is not')


def _data_state(folder: pathlib.Path, step: int) -> dict[str, Any]:
    with checkpoints.Checkpoints(folder, read_only=True) as saved:
        return saved.data_state(step)


def _save(
    folder: pathlib.Path,
    config: ConfigDict,
    sources: Sequence[pathlib.Path],
    step: int,
    state: TrainState | dict[str, TrainState],
    data_state: dict[str, Any],
    scores: Mapping[int | None, float],
) -> None:
    workdir.save_config(folder, config)
    dataset_record.save(folder, dataset_record.load(sources[0]))
    if findings := trained_on.load(sources[0]):
        trained_on.save(folder, findings)
    if (ranges := sources[0] / face_ranges.FILE).exists():
        shutil.copyfile(ranges, folder / face_ranges.FILE)
    # What they began with, whose terms hold for the result, too.
    began = [entry for source in sources for entry in workdir.load_sources(source)]
    workdir.save_sources(folder, [x for k, x in enumerate(began) if x not in began[:k]])
    with checkpoints.Checkpoints(folder) as saved:
        saved.save(step, devices.replicate(state), data_state, config.to_dict(), scores)
