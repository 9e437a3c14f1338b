"""What a config may say: everything that would otherwise fail late, or not at all."""

import math
from typing import Any

from ml_collections import ConfigDict

from hybrid import devices
from hybrid.data import augment
from hybrid.models import heads
from hybrid.scores import combination
from hybrid.training import finetuning

# Key to lowest and highest value; models and optimisers check their own names.
_RANGES: dict[str, tuple[float, float]] = {
    'seed': (0, 2**32 - 1),
    'data.num_threads': (1, 1024),
    'data.prefetch': (1, 1024),
    'data.cache_bytes': (0, math.inf),
    'ensemble.size': (1, 1024),
    'loss.huber_delta': (1e-9, math.inf),
    'loss.age_weight': (0, math.inf),
    'loss.gender_weight': (0, math.inf),
    'loss.label_smoothing': (0, 1),
    'optimizer.learning_rate': (0, math.inf),
    'optimizer.weight_decay': (0, math.inf),
    'optimizer.momentum': (0, 1),
    'optimizer.gradient_clip': (0, math.inf),
    'optimizer.ema_decay': (0, 1),
    'train.num_epochs': (0, 1e9),
    'train.num_steps': (0, 2**31 - 1),
    'train.log_every_steps': (1, math.inf),
    'train.eval_every_steps': (0, math.inf),
    'train.checkpoint_every_steps': (0, math.inf),
}


def check_config(config: ConfigDict) -> None:
    """Raises ValueError naming key, value and what it may be."""
    for key, (low, high) in _RANGES.items():
        value = _get(config, key)
        if not low <= value <= high:
            wanted = f'{low} or more' if high == math.inf else f'in {low}..{high}'
            raise ValueError(f'config.{key}={value} must be {wanted}')
    choices = {
        'data.normalization': augment.NORMALIZATIONS,
        'model.encoder.pretrained_normalization': augment.NORMALIZATIONS,
        'loss.age': heads.AGE_LOSSES,
        'ensemble.weights': combination.WEIGHTINGS,
    }
    for key, known in choices.items():
        if (value := _get(config, key)) not in known:
            raise ValueError(f'config.{key}={value!r} is not one of {", ".join(known)}')
    finetuning.check(config.finetune)
    if not config.data.train_split:
        raise ValueError("config.data.train_split='' must name a split")
    for key in ('train.batch_size', 'evaluate.batch_size'):
        devices.check_batch_size(_get(config, key), f'config.{key}')
    size, resized = config.data.image_size, config.data.resize_size
    if not 0 < size <= resized or (resized - size) % 2:
        raise ValueError(
            f'config.data.image_size={size} must be at most config.data.resize_size={resized}, out '
            'of whose middle it is cropped, and less by an even number'
        )


def _get(config: Any, key: str) -> Any:
    for name in key.split('.'):
        config = config[name]
    return config
