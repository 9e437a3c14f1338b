"""The contract of an encoder, and the register of those that there are.

An encoder turns images into a feature map. The rest of the program (network, fine-tuning, weights,
checkpoints) knows it only by the `Encoder` that it is registered with:

    class Tiny(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return nn.relu(nn.Conv(8, (3, 3), (4, 4), name='conv')(images))

    encoders.register(
        'tiny', encoders.Encoder(create=lambda settings, **_: Tiny(), stages={'all': 'conv'})
    )

From there on `config.model.encoder.name='tiny'` trains, continues, evaluates and predicts.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

# The only collection beside the parameters for which a TrainState, and so a checkpoint, has room.
BATCH_STATS = 'batch_stats'
# What PyTorch calls the variables of convolutions and BatchNorms.
TORCH_LEAVES = {
    **{'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'},
    **{'mean': 'running_mean', 'var': 'running_var'},
}


@dataclasses.dataclass(frozen=True)
class Weights:
    """Files of weights that an encoder can start from; `weights/pretrained.py` reads them.

    A convolution's kernel is [N, C, kh, kw] in such a file, as PyTorch has it, and [kh, kw, C, N]
    in the encoder (a depthwise one [C, 1, kh, kw] and [kh, kw, 1, C]).

    Attributes:
      described: What the names in the file are, for an error message.
      tensor_name: Gives the name that a variable of the encoder has in the file; the variable is
        told by its path, such as ('params', 'layer2_0', 'conv1', 'kernel').
      part_of_encoder: A regular expression that the beginning of a tensor's name matches if the
        tensor would take part in the encoder's output. A file with such a tensor that the encoder
        does not want is of another network.
      needs: Keys of `config.model.encoder` with the values that the weights were trained with.
      guess: Says, from the names in a file, which registered encoder they would fit; '' if none.
    """

    described: str
    tensor_name: Callable[[Sequence[str]], str]
    part_of_encoder: str
    needs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    guess: Callable[[Collection[str]], str] = lambda names: ''


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What the rest of the program knows of an encoder.

    Attributes:
      create: Builds the Flax module from `config.model.encoder` and the keywords of
        `create_module`. The module maps images [B, H, W, 3] and the keyword `train` to a feature
        map [B, h, w, C] in the compute dtype. If it has a field `read` (see `create_module`) and
        that is not empty, it gives a tuple of the maps after these stages instead. If it has a
        field `drop_path` that is not 0, it is called with the keyword `dropout_keys`, too: one PRNG
        key per example [B], or None outside of training.
      stages: Its stages, from the image on, each with a regular expression for the names of its
        modules and parameters, the ones directly below the encoder. Fine-tuning goes by stages.
      keys: Keys of `config.model.encoder` that `create` reads, with their defaults. Where another
        encoder is chosen, they must have these defaults.
      meaning: Those of the keys that give the same parameters another meaning. A run that starts
        from another run's parameters must agree with it in them.
      collections: Variable collections beside 'params': () or ('batch_stats',).
      weights: Which files of pretrained weights it can start from; None for none.
      smallest: Of a stage, the least side in pixels of an image from which it can be computed, for
        stages where that is more than 1.
    """

    create: Callable[..., nn.Module]
    stages: Mapping[str, str]
    keys: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    meaning: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    weights: Weights | None = None
    smallest: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if unknown := set(self.collections) - {BATCH_STATS}:
            raise ValueError(
                f'an encoder has the collections {sorted(unknown)}, for which a TrainState has no '
                f'room; it keeps params and {BATCH_STATS}'
            )

    def stage_of(self, module: str) -> int:
        """The number of the stage, from 0, that a module or a parameter of the encoder is part of.

        Raises:
          ValueError: When it is part of none.
        """
        for number, pattern in enumerate(self.stages.values()):
            if re.fullmatch(pattern, module):
                return number
        raise ValueError(
            f'the encoder has a module {module!r}, which is part of none of its stages '
            f'{", ".join(self.stages)}'
        )

    def check_collections(self, variables: Collection[str]) -> None:
        """Checks the names of the collections of a network with this encoder.

        Raises:
          ValueError: When there is one that the encoder does not declare.
        """
        if unknown := sorted(set(variables) - {'params', *self.collections}):
            raise ValueError(
                f'the network has variables in {", ".join(unknown)}, but its encoder is registered '
                f'with collections={self.collections}'
            )


ENCODERS: dict[str, Encoder] = {}


def register(name: str, encoder: Encoder) -> None:
    """Makes an encoder known as `config.model.encoder.name`.

    Raises:
      ValueError: When the name is taken.
    """
    if name in ENCODERS:
        raise ValueError(f'there is an encoder {name!r} already; register yours by another name')
    ENCODERS[name] = encoder


def get(name: str) -> Encoder:
    """The encoder of a name.

    Raises:
      ValueError: When there is none.
    """
    if name not in ENCODERS:
        refuse('name', name, f'must be one of {", ".join(ENCODERS)}')
    return ENCODERS[name]


def read_stages(model: ConfigDict) -> tuple[str, ...]:
    """The stages that `config.model.sequence.stages` names; none for the whole encoder.

    Raises:
      ValueError: When the encoder has no such stage, or one is named twice.
    """
    read = tuple(name.strip() for name in model.sequence.stages.split(',') if name.strip())
    stages = get(model.encoder.name).stages
    if len(set(read)) < len(read) or not set(read) <= set(stages):
        raise ValueError(
            f'config.model.sequence.stages={model.sequence.stages!r} must name stages of '
            f'{model.encoder.name}, each once: {", ".join(stages)}'
        )
    return read


def computed(model: ConfigDict) -> Encoder:
    """The encoder of `config.model`, without the stages after the last one that is read."""
    encoder, read = get(model.encoder.name), read_stages(model)
    if not read:
        return encoder
    names = list(encoder.stages)
    last = max(map(names.index, read))
    return dataclasses.replace(
        encoder, stages={name: encoder.stages[name] for name in names[: last + 1]}
    )


def check(settings: ConfigDict) -> None:
    """Checks that no key is set that only other encoders have than the one that is named.

    Args:
      settings: `config.model.encoder`.

    Raises:
      ValueError: When there is no such encoder, or a key has not the default that it must have.
    """
    encoder = get(settings.name)
    for other in ENCODERS.values():
        for key, default in other.keys.items():
            if key not in encoder.keys and settings.get(key, default) != default:
                own = ', '.join(encoder.keys) or 'none'
                wanted = f'must stay {default!r}: {settings.name} does not have that key'
                refuse(key, settings[key], f'{wanted} (keys of its own: {own})')


def check_size(model: ConfigDict, size: int) -> None:
    """Checks that images are large enough for the stages that are computed.

    Args:
      model: `config.model`.
      size: Side of the images in pixels.

    Raises:
      ValueError: When they are not.
    """
    encoder, smallest = computed(model), get(model.encoder.name).smallest
    last = [*encoder.stages][-1]
    if size >= smallest.get(last, 1):
        return
    possible = [stage for stage in encoder.stages if size >= smallest.get(stage, 1)]
    remedy = ''
    if possible:
        remedy = f', or config.model.sequence.stages must name none after {possible[-1]}'
    raise ValueError(
        f'config.data.image_size={size} must be at least {smallest[last]} for {model.encoder.name} '
        f'up to {last}{remedy}'
    )


def create_module(settings: ConfigDict, read: tuple[str, ...] = (), **keywords: Any) -> nn.Module:
    """Builds the module of the encoder that `config.model.encoder` names.

    Args:
      settings: `config.model.encoder`.
      read: The stages whose feature maps it gives, as a tuple, instead of one feature map. What
        comes after the last of them is neither computed nor has it parameters.
      **keywords: What every encoder is given:
        dtype: Of the computation; parameters and statistics are float32.
        axis_name: Mapped axis over which the statistics of a batch are averaged in training; None
          outside of `pmap`.
        frozen_stages: So many stages, from the first on, normalise by their running statistics in
          training too, and leave them as they are.
        frozen_statistics: All stages do.
        kernels: What convolutions take on CPUs, one of `convolution.KERNELS`.

    Raises:
      ValueError: When a value is unknown, and as `check`.
    """
    check(settings)
    module = get(settings.name).create(settings, **keywords)
    if not read:
        return module
    if not hasattr(module, 'read'):
        raise ValueError(
            f'config.model.sequence.stages={",".join(read)!r} must stay empty: {settings.name} '
            'gives the feature map of its last stage alone'
        )
    return module.clone(read=read)


def refuse(key: str, value: object, wanted: str) -> None:
    """Raises the ValueError for a value of `config.model.encoder`."""
    raise ValueError(f'config.model.encoder.{key}={value!r} {wanted}')
