"""Parameters of an earlier run, read from its workdir: what `config.init_from` names."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid import default_config
from hybrid.data import prepared, several
from hybrid.datasets import geometry
from hybrid.models import encoders
from hybrid.runs import checkpoints, dataset_record, workdir
from hybrid.runs.address import Address, parse
from hybrid.schema import flatten
from hybrid.training.groups import Group, all_groups, is_ensemble

_LOG = logging.getLogger(__name__)

PARTS = ('all', 'encoder')
# Keys that give the same parameters another meaning: of all encoders, and of all but the encoder.
_OF_ENCODER = ('data.normalization', 'model.encoder.name')
_OF_REST = (
    *('model.sequence.order', 'model.sequence.stages'),
    *('model.recurrent.cell', 'model.recurrent.reduce'),
    *('model.head.age_offset', 'model.head.age_scale'),
)


def check(text: str) -> None:
    """Checks, without reading parameters, that there is what `parse` reads an address of.

    Raises:
      FileNotFoundError: when there is no such workdir, or no such checkpoint in it.
    """
    address = parse(text)
    try:
        with checkpoints.Checkpoints(address.folder, read_only=True) as saved:
            saved.step(address.checkpoint)
    except FileNotFoundError as error:
        reason = str(error).replace('--checkpoint=last', f'{address.folder}@last')
        raise FileNotFoundError(f'config.init_from={text!r}: {reason}') from None


@dataclasses.dataclass(frozen=True)
class EarlierRun:
    """A run at one of its checkpoints.

    Attributes:
      address: As it was named.
      step: Of the checkpoint.
      groups: Its members by group; one group, named '', for a single model.
      states: By group, what `Checkpoints.variables` gives.
    """

    address: Address
    step: int
    groups: list[Group]
    states: dict[str, Any]

    @property
    def members(self) -> list[int]:
        """Numbers of its members; [0] for a single model."""
        return [number for group in self.groups for number in group.members]


def read(address: Address, config: ConfigDict) -> EarlierRun:
    """Reads an earlier run.

    Args:
      address: Where it is.
      config: Of this run.

    Raises:
      FileNotFoundError: when it has no such checkpoint.
      ValueError: when its config is damaged.
    """
    folder = address.folder
    earlier = workdir.load_config(folder, default_config.get_config())
    with checkpoints.Checkpoints(folder, read_only=True) as saved:
        step = saved.step(address.checkpoint)
        states = saved.variables(step)
    _warn_of_splits(folder, earlier, config)
    _warn_of_geometry(folder, config)
    states = states if is_ensemble(earlier) else {'': states}
    return EarlierRun(address, step, all_groups(earlier), states)


def _warn_of_splits(folder: pathlib.Path, earlier: ConfigDict, config: ConfigDict) -> None:
    """Points out that the earlier run may have been trained on what this one is tested on."""
    keys = ('dataset', 'parameters', 'train_split')
    there, here = several.sections(earlier.data), several.sections(config.data)
    for name in dict.fromkeys(one.dataset.split('/')[0] for one in there):
        ours, theirs = (
            [[one[key] for key in keys] for one in data if one.dataset.split('/')[0] == name]
            for data in (here, there)
        )
        if ours and any(one not in ours for one in theirs):
            _LOG.warning(
                '%s was trained on other splits of %s, which may hold examples that this run is '
                'validated and tested on',
                folder,
                name,
            )


def _warn_of_geometry(folder: pathlib.Path, config: ConfigDict) -> None:
    """Points out that the earlier run was trained on faces that are framed in another way."""
    for data in several.sections(config.data):
        builder = prepared.find_prepared(data, (data.data_dir,))
        if builder and (folder / dataset_record.FILE).exists():
            shown = geometry.of(builder)
            trained_on = dataset_record.load_geometry(folder, shown)
            geometry.warn(folder, trained_on, builder.info.full_name, shown)


def take(
    run: EarlierRun, member: int, members: Sequence[int], config: ConfigDict, variables: Any
) -> tuple[Any, dict[str, Any]]:
    """What a member of this run starts from.

    Args:
      run: The earlier run.
      member: Number of the member.
      members: Of all members of this run.
      config: Of this run, with the member's model.
      variables: Its `params` and `batch_stats`, initialised.

    Returns:
      The variables, float32 NumPy arrays, and a record of where they are from. They are the moving
      averages, with which the earlier run was evaluated, if it kept any.

    Raises:
      ValueError: when it is not clear which member of the earlier run is meant, or its parameters
        do not fit, naming the array or the key.
    """
    folder, chosen = run.address.folder, run.address.member
    if chosen is None:
        chosen = member if list(members) == run.members else None
        if len(run.members) == 1:
            chosen = run.members[0]
    if chosen not in run.members:
        if not run.groups[0].name:
            raise ValueError(f'{folder} is a single model: leave #{chosen} out')
        numbers = ', '.join(map(str, run.members))
        raise ValueError(
            f'{folder} is an ensemble of the members {numbers}; config.init_from={folder}#NUMBER '
            'takes one of them'
        )
    group = next(group for group in run.groups if chosen in group.members)
    state = run.states[group.name]
    if group.name:
        place = group.members.index(chosen)
        state = jax.tree.map(lambda x: x[place], state)
    if state['nonfinite_step'] >= 0:
        raise ValueError(f'{folder}: member {chosen} was not finite in training; take another one')
    averaged = 'ema' in state
    source = state['ema'] if averaged else state
    parts = config.init_from_parts
    where = f'{folder}, step {run.step}'
    loaded, kept, new = [], [], {}
    for collection in ('params', 'batch_stats'):
        # A checkpoint leaves out a collection that is empty.
        wanted, there = variables[collection], source.get(collection, {})
        if parts == 'encoder':
            wanted, there = (
                {name: x for name, x in tree.items() if name == 'encoder'}
                for tree in (wanted, there)
            )
            kept += _names({collection: {**variables[collection], 'encoder': {}}})
            if encoders.read_stages(config.model):  # The others are not computed.
                modules = wanted.get('encoder', {}).keys()
                there = {n: {m: x[m] for m in modules & x.keys()} for n, x in there.items()}
        _check_arrays(where, {collection: there}, {collection: wanted}, parts)
        loaded += _names({collection: wanted})
        new[collection] = {**variables[collection], **there}
    _check_settings(where, group.config, config, parts)
    record = {
        'source': str(folder),
        'step': run.step,
        'member': chosen if group.name else None,
        'moving_averages': averaged,
        'parts': parts,
        'loaded': loaded,
        'missing': kept,
    }
    return jax.tree.map(lambda x: np.asarray(x, np.float32), new), record


def _arrays(tree: Any) -> dict[str, list[int]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): list(x.shape) for path, x in leaves
    }


def _names(tree: Any) -> list[str]:
    return sorted(_arrays(tree))


def _check_arrays(where: str, there: Any, wanted: Any, parts: str) -> None:
    shapes, needed = _arrays(there), _arrays(wanted)
    for name in sorted(shapes.keys() | needed.keys()):
        one, other = shapes.get(name, 'absent'), needed.get(name, 'absent')
        if one != other:
            remedy = 'config.model has to be the same'
            if parts == 'all' and '/encoder/' not in name:
                remedy += ", or config.init_from_parts='encoder' to take the encoder alone"
            raise ValueError(f'{where}: {name} is {one} there, {other} by this config; {remedy}')


def _check_settings(where: str, there: ConfigDict, here: ConfigDict, parts: str) -> None:
    old, new = (flatten(config.to_dict()) for config in (there, here))
    meaning = encoders.get(here.model.encoder.name).meaning
    keys = (*_OF_ENCODER, *(f'model.encoder.{key}' for key in meaning))
    for key in keys if parts == 'encoder' else (*keys, *_OF_REST):
        if old[key] != new[key]:
            raise ValueError(
                f'{where}: its parameters are for config.{key}={old[key]!r}, which is '
                f'{new[key]!r} now; set it to that'
            )
