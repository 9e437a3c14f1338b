"""Fine-tuning: which parameters of the encoder learn, how fast, and from which step on.

`config.finetune` speaks of the encoder's stages, which it counts from the image on (see
`models/encoders.py`). The recurrent network and the heads belong to no stage: they always learn, at
the full rate.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from hybrid.models import encoders

BATCH_NORMS = ('train', 'frozen')


def check(config: ConfigDict) -> None:
    """Checks the stage in `config.finetune`; `config_checks.check_config` knows the other limits.

    Raises:
      ValueError: Naming the key, its value and what it may be.
    """
    finetune, name = config.finetune, config.model.encoder.name
    stages = encoders.computed(config.model).stages

    if finetune.freeze and finetune.freeze not in stages:
        raise ValueError(
            f"config.finetune.freeze={finetune.freeze!r} is not one of '', {', '.join(stages)}, "
            f'the stages of {name}'
        )
    if finetune.freeze_steps and not finetune.freeze:
        raise ValueError(
            f'config.finetune.freeze_steps={finetune.freeze_steps} needs config.finetune.freeze, '
            'the last stage that is frozen'
        )


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """What `config.finetune` means for one encoder.

    Attributes:
      config: `config.finetune`.
      encoder: The encoder.
    """

    config: ConfigDict
    encoder: encoders.Encoder

    @property
    def changes_updates(self) -> bool:
        """Whether the optimiser does anything else than without fine-tuning."""
        c = self.config
        return bool(c.freeze) or c.encoder_rate != 1 or c.layer_decay != 1

    @property
    def frozen_stages(self) -> int:
        """How many stages are frozen, from the first on, for some steps or for good."""
        names = list(self.encoder.stages)
        return names.index(self.config.freeze) + 1 if self.config.freeze else 0

    def rate(self, stage: int | None) -> float:
        """By what the learning rate of a stage is multiplied; None is whatever has no stage."""
        if stage is None:
            return 1.0
        last = len(self.encoder.stages) - 1
        return self.config.encoder_rate * self.config.layer_decay ** (last - stage)

    def describe(self, stage: int | None) -> str:
        """Says that rate, and whether the stage is frozen, in a cell of a table."""
        text = f'{self.rate(stage):.3g}'
        if not self._is_frozen(stage):
            return text
        steps = self.config.freeze_steps
        return f'frozen {steps} steps, {text}' if steps else 'frozen'

    def stage_of(self, path: tuple[Any, ...]) -> int | None:
        """The stage of a parameter, by its path in a tree; None outside of the encoder.

        Raises:
          ValueError: When the encoder says of no stage that the parameter is part of it.
        """
        return self.encoder.stage_of(path[1].key) if path[0].key == 'encoder' else None

    def split(self, params: dict[str, Any], stages: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parts parameters into those that learn and those of the first stages.

        Args:
          params: Of the network.
          stages: How many stages, from the first on, are frozen.

        Returns:
          The parameters without the modules of the encoder that are frozen, and those modules.
        """
        modules = params['encoder'].items()
        frozen = {name: x for name, x in modules if self.encoder.stage_of(name) < stages}
        learning = {name: x for name, x in modules if name not in frozen}
        return {**params, 'encoder': learning}, frozen

    def hold(self) -> optax.GradientTransformation:
        """Zeroes the gradients of what is frozen, so that they count for nothing that follows."""
        if not self.config.freeze:
            return optax.identity()
        steps = self.config.freeze_steps
        closed = (
            optax.scale_by_schedule(lambda step: step >= steps) if steps else optax.set_to_zero()
        )
        return optax.masked(closed, self._mask(self._is_frozen))

    def learn(self, update: optax.GradientTransformation) -> optax.GradientTransformation:
        """Confines an update to what learns, and multiplies it by the rates.

        Args:
          update: Makes the update of a parameter of its gradient, weight decay included.

        Returns:
          A transformation that leaves frozen parameters and their moments alone. What is frozen for
          some steps only begins after them as at the first step of a training.
        """
        steps = self.config.freeze_steps
        if self.config.freeze:
            later = optax.conditionally_mask(update, lambda step: step >= steps)
            update = optax.partition(
                {'learning': update, 'frozen': later if steps else optax.set_to_zero()},
                lambda params: jax.tree.map(
                    lambda frozen: 'frozen' if frozen else 'learning',
                    self._mask(self._is_frozen)(params),
                ),
            )
        rates = [
            optax.masked(
                optax.scale(self.rate(stage)), self._mask(functools.partial(operator.eq, stage))
            )
            for stage in range(len(self.encoder.stages))
            if self.rate(stage) != 1
        ]
        return optax.chain(update, *rates)

    def _is_frozen(self, stage: int | None) -> bool:
        return stage is not None and stage < self.frozen_stages

    def _mask(self, wanted: Callable[[int | None], bool]) -> Callable[[Any], Any]:
        """A mask for optax: True for the parameters whose stage is wanted."""
        return lambda params: jax.tree_util.tree_map_with_path(
            lambda path, _: wanted(self.stage_of(path)), params
        )


def create(config: ConfigDict) -> Finetuning:
    """What the config of a run with one model says."""
    return Finetuning(config.finetune, encoders.computed(config.model))


def merge(learning: dict[str, Any], frozen: dict[str, Any]) -> dict[str, Any]:
    """Puts together what `Finetuning.split` parted."""
    return {**learning, 'encoder': {**learning['encoder'], **frozen}}
