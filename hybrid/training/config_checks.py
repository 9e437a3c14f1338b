"""What is wrong with a config: its values one by one, and those that do not go together."""

from ml_collections import ConfigDict

from hybrid.data import several
from hybrid.default_config import SCHEMA
from hybrid.schema import Key

# Of the entries in `ensemble.groups`, besides what they change of the model.
_GROUP_SIZE = Key('size', 1, 'How many members the group has.', at_least=1, at_most=1024)


def check_config(config: ConfigDict) -> None:
    """Checks everything in a config that needs neither devices nor files nor the built model.

    Raises:
      ValueError: naming the key, its value and what it may be.
    """
    SCHEMA.check(config)
    for name, low, high in (('scales', 0.2, 5), ('resolutions', 1, config.data.image_size)):
        for value in config.evaluate[name]:
            if not (isinstance(value, int | float) and low <= value <= high):
                raise ValueError(
                    f'config.evaluate.{name}={value!r} must be a number from {low} to {high}'
                )
    size, resized = config.data.image_size, config.data.resize_size
    if size > resized or (resized - size) % 2:
        raise ValueError(
            f'config.data.image_size={size} must be at most config.data.resize_size={resized}, out '
            'of whose middle it is cropped, and less by an even number'
        )
    if not config.data.train_split:
        raise ValueError("config.data.train_split='' must name a split")
    _check_forgetting(config)
    # They know encoders, and import JAX.
    from hybrid.models import encoders
    from hybrid.training import finetuning, groups

    several.check(config.data)
    _check_groups(config)
    for group in groups.all_groups(config):
        finetuning.check(group.config)
        try:
            encoders.check(group.config.model.encoder)
            encoders.check_size(group.config.model, group.config.data.image_size)
        except ValueError as error:
            if not group.name:
                raise
            raise ValueError(f'config.ensemble.groups.{group.name}: {error}') from None


def check_training(config: ConfigDict) -> None:
    """Checks what matters to a training alone, beside `check_config`; earlier runs may have it.

    Raises:
      ValueError: naming the key, its value and what it may be.
    """
    data, resample = config.data, config.augment.resample
    if not config.train.num_epochs and not config.train.num_steps:
        raise ValueError('config.train.num_epochs=0 and config.train.num_steps=0: set one of them')
    if config.augment.enabled and resample >= data.image_size:
        raise ValueError(
            f'config.augment.resample={resample} must be less than config.data.image_size='
            f'{data.image_size}, or it would change nothing; 0 switches it off'
        )
    if data.weights and len(several.names(data)) == 1:
        raise ValueError(
            f'config.data.weights={data.weights}, but config.data.dataset={data.dataset} is one '
            'dataset; --config.data.weights= takes them away'
        )


def _check_forgetting(config: ConfigDict) -> None:
    rate, steps, size = config.loss.forget_rate, config.loss.forget_steps, config.train.batch_size
    if steps and not rate:
        raise ValueError(
            f'config.loss.forget_steps={steps} needs config.loss.forget_rate, the share that is '
            'left out after so many steps'
        )
    mixed = config.augment.enabled and (config.augment.mixup or config.augment.cutmix)
    if mixed and config.augment.share:
        size *= 2  # Each image that is mixed has two losses.
    if rate and rate * size < 1 - 1e-4:
        raise ValueError(
            f'config.loss.forget_rate={rate} of config.train.batch_size={config.train.batch_size} '
            'is less than one loss, so nothing would be left out; take a larger rate or batch'
        )


def _check_groups(config: ConfigDict) -> None:
    """Checks `config.ensemble.groups` as `check_config` does."""
    members = 0
    for name, group in config.ensemble.groups.items():
        place = f'config.ensemble.groups.{name}'
        # Checkpoints separate the names of their arrays by /.
        if not isinstance(name, str) or not name or '/' in name:
            raise ValueError(
                f'{place}: the name of a group must be a text without /, and not empty'
            )
        if not isinstance(group, ConfigDict) or not set(group) <= {'size', 'model'}:
            shown = group.to_dict() if isinstance(group, ConfigDict) else group
            raise ValueError(f"{place}={shown!r} must be {{'size': members, 'model': {{...}}}}")
        count, changes = group.get('size', 1), group.get('model', {})
        if problem := _GROUP_SIZE.problem(count):
            raise ValueError(f'{place}.size={count!r} {problem}')
        SCHEMA.check_changes(changes, 'model', f'{place}.model')
        if 'kernels' in changes:
            raise ValueError(
                f'{place}.model.kernels: all groups have those of config.model.kernels'
            )
        members += count
    if members and config.ensemble.size not in (1, members):
        raise ValueError(
            f'config.ensemble.size={config.ensemble.size}, but config.ensemble.groups have '
            f'{members} members; leave the size at 1'
        )
