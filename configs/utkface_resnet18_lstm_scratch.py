r"""UTKFace, ResNet-18 + bidirectional LSTM from scratch, else as utkface_resnet18_lstm_imagenet.py.

    python launch.py --config=configs/utkface_resnet18_lstm_scratch.py --config.data.manual_dir=DIR

What ImageNet weights are worth at the same budget, seed and settings.

Scores (results/utkface_resnet18_lstm_scratch.json):

    not run yet
"""

import ml_collections

from configs import utkface_resnet18_lstm_imagenet


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = utkface_resnet18_lstm_imagenet.get_config()
    config.model.encoder.pretrained = ''
    return config
