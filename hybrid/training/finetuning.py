"""Fine-tuning: which parameters of the encoder learn, how fast, and from which step on.

All of it goes by the stages of `resnet.STAGES`, from the image on. The recurrent network and the
heads are of no stage: they always learn, at the full rate.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from hybrid.models import resnet

BATCH_NORMS = ('train', 'frozen')
_LAST = len(resnet.STAGES) - 1


def check(config: ConfigDict) -> None:
    """Checks the stage in `config.finetune`; `default_config.check_config` knows the other limits.

    Raises:
      ValueError: naming the key, its value and what it may be.
    """
    if config.freeze and config.freeze not in resnet.STAGES:
        raise ValueError(
            f"config.finetune.freeze={config.freeze!r} is not one of '', {', '.join(resnet.STAGES)}"
        )
    if config.freeze_steps and not config.freeze:
        raise ValueError(
            f'config.finetune.freeze_steps={config.freeze_steps} needs config.finetune.freeze, the '
            'last stage that is frozen'
        )


def changes_updates(config: ConfigDict) -> bool:
    """Whether `config.finetune` changes what the optimiser does."""
    return bool(config.freeze) or config.encoder_rate != 1 or config.layer_decay != 1


def frozen_stages(config: ConfigDict) -> int:
    """How many stages are frozen, from the stem on, for some steps or for good."""
    return resnet.STAGES.index(config.freeze) + 1 if config.freeze else 0


def rate(config: ConfigDict, stage: int | None) -> float:
    """What the learning rate of a stage is multiplied with; 1 for None, what is of no stage."""
    if stage is None:
        return 1.0
    return config.encoder_rate * config.layer_decay ** (_LAST - stage)


def describe(config: ConfigDict, stage: int | None) -> str:
    """That rate, and whether the stage is frozen, for a table."""
    text = f'{rate(config, stage):.3g}'
    if stage is None or stage >= frozen_stages(config):
        return text
    return f'frozen {config.freeze_steps} steps, {text}' if config.freeze_steps else 'frozen'


def stage_of(path: tuple[Any, ...]) -> int | None:
    """The stage of a parameter, by its path in a tree; None for what is not of the encoder."""
    return resnet.stage_of(path[1].key) if path[0].key == 'encoder' else None


def split(params: dict[str, Any], stages: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts parameters into those that learn and those of the first so many stages.

    Returns:
      The parameters without the modules of the encoder that are frozen, and those modules.
    """
    modules = params['encoder'].items()
    frozen = {name: x for name, x in modules if resnet.stage_of(name) < stages}
    learning = {name: x for name, x in modules if name not in frozen}
    return {**params, 'encoder': learning}, frozen


def merge(learning: dict[str, Any], frozen: dict[str, Any]) -> dict[str, Any]:
    """What `split` was given."""
    return {**learning, 'encoder': {**learning['encoder'], **frozen}}


def hold(config: ConfigDict) -> optax.GradientTransformation:
    """Zeroes the gradients of what is frozen, so that they count for nothing that follows."""
    if not config.freeze:
        return optax.identity()
    steps = config.freeze_steps
    closed = optax.scale_by_schedule(lambda step: step >= steps) if steps else optax.set_to_zero()
    return optax.masked(closed, _mask(lambda stage: _is_frozen(config, stage)))


def learn(config: ConfigDict, update: optax.GradientTransformation) -> optax.GradientTransformation:
    """Confines an update to what learns, and multiplies it with the rates.

    Args:
      config: `config.finetune`.
      update: Of one parameter from its gradient, weight decay included.

    Returns:
      A transformation that leaves frozen parameters and their moments alone. What is frozen for
      some steps only begins after them as at the first step of a training.
    """
    steps = config.freeze_steps
    if config.freeze:
        later = optax.conditionally_mask(update, lambda step: step >= steps)
        update = optax.partition(
            {'learning': update, 'frozen': later if steps else optax.set_to_zero()},
            lambda params: jax.tree_util.tree_map_with_path(
                lambda path, _: 'frozen' if _is_frozen(config, stage_of(path)) else 'learning',
                params,
            ),
        )
    rates = [
        optax.masked(optax.scale(rate(config, stage)), _mask(functools.partial(operator.eq, stage)))
        for stage in range(_LAST + 1)
        if rate(config, stage) != 1
    ]
    return optax.chain(update, *rates)


def _is_frozen(config: ConfigDict, stage: int | None) -> bool:
    return stage is not None and stage < frozen_stages(config)


def _mask(wanted: Callable[[int | None], bool]) -> Callable[[Any], Any]:
    """A mask for optax: True for the parameters whose stage is wanted."""
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: wanted(stage_of(path)), params
    )
