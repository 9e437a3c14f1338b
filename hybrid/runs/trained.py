"""Trained models and ensembles, read from their workdirs to evaluate and predict with."""

import dataclasses
import hashlib
import itertools
import logging
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.runs import checkpoints, dataset_record, workdir
from hybrid.training import ensemble, learners
from hybrid.training.config_checks import check_config
from hybrid.training.groups import create_groups
from hybrid.training.learner import Learner
from hybrid.training.optimizer import create_learning_rate_fn

_LOG = logging.getLogger(__name__)


KINDS = ('age', 'gender')


def kind_of(column: str) -> str:
    """Of what a column of predictions or losses says something: 'age' or 'gender'."""
    return 'gender' if column == 'female_probability' or 'gender_' in column else 'age'


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model, or an ensemble, of a workdir at one checkpoint.

    Attributes:
      folder: The workdir.
      config: The config of the workdir, with overrides.
      learner: What the run trained.
      variables: What the learner's `eval_step` takes, on every device.
      checkpoint: `best` or `last`.
      step: The number of steps after which the checkpoint was saved.
      frozen: Numbers of the members that became not finite in training, and do not count.
      scores: What validation said of each member at this step; the lower, the better.
      member: Its number in the ensemble, if this is one member that was taken out of it.
      predicts: What the training had labels of: 'age', 'gender' or both. The rest of what its
        heads say means nothing.
      overrides: Keys of the config with values that change what it predicts, see
        `workdir.overridden`.
    """

    folder: pathlib.Path
    config: ConfigDict
    learner: Learner
    variables: Any
    checkpoint: str
    step: int
    frozen: tuple[int, ...] = ()
    scores: Mapping[int, float] = dataclasses.field(default_factory=dict)
    member: int | None = None
    predicts: tuple[str, ...] = KINDS
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def results(self) -> pathlib.Path:
        """Where its results go: the workdir, or a folder in it for a member of an ensemble."""
        return self.folder if self.member is None else self.folder / f'member_{self.member}'

    @property
    def source(self) -> dict[str, Any]:
        """Says where predictions come from, as evaluation.json does."""
        frozen = {'frozen_members': list(self.frozen)} if self.frozen else {}
        member = {} if self.member is None else {'member': self.member}
        overrides = {'overrides': dict(self.overrides)} if self.overrides else {}
        return {'checkpoint': self.checkpoint, 'step': self.step, **frozen, **member, **overrides}


def predicted(models: Sequence[Trained]) -> tuple[str, ...]:
    """What one model or several together predict: 'age', 'gender' or both."""
    return tuple(kind for kind in KINDS if any(kind in model.predicts for model in models))


def not_predicted(models: Sequence[Trained]) -> list[str]:
    """A line about each kind of label that these models do not predict."""
    kinds = [kind for kind in KINDS if kind not in predicted(models)]
    reason = 'the training had none, or gave them no weight'
    return [f'{kind}s are not predicted: {reason}' for kind in kinds]


def fingerprint(model: Trained) -> str:
    """Names a model by its step and a hash of its parameters, wherever its workdir lies."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(model.variables)[0]:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f'step {model.step} {digest.hexdigest()[:16]}'


def sources(models: Sequence[Trained]) -> dict[str, Any]:
    """Says where the predictions of one model, or of several combined, come from."""
    if len(models) == 1:
        return models[0].source
    return {'workdirs': [{'workdir': str(model.folder), **model.source} for model in models]}


def member_numbers(models: Sequence[Trained]) -> list[int | None]:
    """Numbers the members of all models in their order; None stands for a frozen one."""
    numbers: list[int | None] = []
    for model in models:
        first = len(numbers)
        for place, member in enumerate(model.learner.members):
            numbers.append(None if member in model.frozen else first + place)
    return numbers


def best_member(models: Sequence[Trained], members: Sequence[int]) -> int | None:
    """The number of the member that was best on validation; None if some were not validated."""
    if len({model.predicts for model in models}) > 1:
        return None  # Scores of ages and of genders cannot be compared.
    scores: list[float | None] = []
    for model in models:
        scores += [model.scores.get(member) for member in model.learner.members]
    known = [(score, number) for number, score in enumerate(scores) if score is not None]
    of_members = [(score, number) for score, number in known if number in members]
    return min(of_members)[1] if len(of_members) == len(members) else None


def restore(
    config: ConfigDict, folder: pathlib.Path, checkpoint: str, to_evaluate: bool = False
) -> tuple[Trained, Any]:
    """Reads a trained model or ensemble.

    Args:
      config: The config of the workdir.
      folder: The workdir.
      checkpoint: `best` (on validation), `last` or a step, see `Checkpoints.step`.
      to_evaluate: Whether to leave out the optimiser's state, which takes twice the memory of the
        rest.

    Returns:
      What was trained, and its state on every device.

    Raises:
      FileNotFoundError: when there is no such checkpoint.
      ValueError: when it does not fit the config.
    """
    check_config(config)
    learning_rate_fn = create_learning_rate_fn(config.optimizer, 1)
    learner = learners.create(config, learning_rate_fn)
    target = learner.abstract_state()
    with checkpoints.Checkpoints(folder, read_only=True) as saved:
        step = saved.step(checkpoint)
        target = checkpoints.abstract(target, devices.replicated())
        if to_evaluate:
            state = saved.restore_to_evaluate(step, target)
        else:
            state, _ = saved.restore(step, target)
        scores = saved.scores(step)
    checkpoint = checkpoint or ('best' if scores else 'last')
    _LOG.info('%s: %s checkpoint, step %d', folder, checkpoint, step)
    learnt = dataset_record.learnt(dataset_record.load(folder), config.loss)
    model = describe(config, folder, learner, state, checkpoint, step, scores, learnt)
    model = dataclasses.replace(model, overrides=workdir.overridden(folder, config))
    if model.frozen:
        numbers = ', '.join(map(str, model.frozen))
        _LOG.warning('%s: left out, not finite in training: member %s', folder, numbers)
    return model, state


def take_member(model: Trained, state: Any, number: int) -> Trained:
    """Takes one member out of an ensemble, as a model of its own.

    Args:
      model: The ensemble, from `restore`.
      state: Its state, from there too.
      number: The member's number.

    Raises:
      ValueError: when it is no ensemble, has no such member, or the member was not finite.
    """
    if not model.learner.is_ensemble:
        raise ValueError(f'{model.folder} is a single model: leave #{number} out')
    if number not in model.learner.members:
        numbers = ', '.join(map(str, model.learner.members))
        raise ValueError(f'{model.folder} has no member {number}; there are {numbers}')
    if number in model.frozen:
        raise ValueError(
            f'{model.folder}: member {number} was not finite in training; take another one'
        )
    groups = create_groups(model.config)
    config = next(group.config for group in groups if number in group.members)
    learning_rate_fn = create_learning_rate_fn(config.optimizer, 1)
    learner = learners.create(config, learning_rate_fn)
    variables = learner.eval_variables(
        devices.replicate(ensemble.take_member(state, groups, number))
    )
    scores = {0: model.scores[number]} if number in model.scores else {}
    return dataclasses.replace(
        model,
        config=config,
        learner=learner,
        variables=variables,
        frozen=(),
        scores=scores,
        member=number,
    )


def describe(
    config: ConfigDict,
    folder: pathlib.Path,
    learner: Learner,
    state: Any,
    checkpoint: str,
    step: int,
    scores: Mapping[int | None, float] = types.MappingProxyType({}),
    predicts: tuple[str, ...] = KINDS,
) -> Trained:
    """Describes what was trained, given its state.

    Args:
      config: The config of the workdir.
      folder: The workdir.
      learner: What the run trains.
      state: Its state on every device.
      checkpoint: `best` or `last`.
      step: The number of finished steps.
      scores: From `Checkpoints.scores`.
      predicts: From `dataset_record.learnt`.
    """
    frozen: tuple[int, ...] = ()
    if learner.is_ensemble:
        bad = learner.nonfinite_steps(state) >= 0
        frozen = tuple(
            number for number, is_bad in zip(learner.members, bad, strict=True) if is_bad
        )
    # The checkpoint of a single model does not call it member 0.
    if not learner.is_ensemble and None in scores:
        scores = {0: scores[None]}
    of_members = {n: score for n, score in scores.items() if n is not None}
    variables = learner.eval_variables(state)
    return Trained(
        folder,
        config,
        learner,
        variables,
        checkpoint,
        step,
        frozen,
        of_members,
        predicts=predicts,
    )


def restore_all(
    configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path], checkpoint: str
) -> list[Trained]:
    """Reads one workdir, or several that may be combined.

    Raises:
      FileNotFoundError: when there is no such checkpoint.
      ValueError: when one does not fit its config, or their splits differ.
    """
    models = [
        restore(config, folder, checkpoint, to_evaluate=True)[0]
        for config, folder in zip(configs, folders, strict=True)
    ]
    if len(models) > 1:
        check_same_splits(models)
    return models


def check_same_splits(models: Sequence[Trained]) -> None:
    """Checks that models to be combined saw the same splits, by name and by what they were for.

    Otherwise one may have been trained on what another is tested on.

    Raises:
      ValueError: when a split of one holds other examples than that of another.
    """
    records = [dataset_record.load(model.folder) for model in models]
    for one, other in itertools.combinations(range(len(models)), 2):
        first, second = records[one], records[other]
        pairs = {(name, name) for name in first['splits'].keys() & second['splits'].keys()}
        pairs |= {
            (models[one].config.data[role], models[other].config.data[role])
            for role in ('train_split', 'validation_split', 'test_split')
        }
        for name, other_name in sorted(pairs):
            here, there = first['splits'].get(name), second['splits'].get(other_name)
            if here and there and here['sha256'] != there['sha256']:
                names = repr(name) if name == other_name else f'{name!r} and {other_name!r}'
                raise ValueError(
                    f'{models[one].folder} and {models[other].folder} cannot be combined: their '
                    f'splits {names} differ ({first["name"]}, {here["num_examples"]:,} examples, '
                    f'sha256 {here["sha256"][:12]}; {second["name"]}, {there["num_examples"]:,}, '
                    f'{there["sha256"][:12]}), so one may have been trained on what the other is '
                    'tested on'
                )
