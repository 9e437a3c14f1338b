r"""UTKFace, the CNN alone: ResNet-18 from ImageNet weights, global average pooling.

    python launch.py --config=configs/utkface_resnet18_imagenet.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

All else is as in utkface_resnet18_lstm_imagenet.py, to see whether the recurrent part helps.

Scores (results/utkface_resnet18_imagenet.json):

    not run yet
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.model.recurrent.cell = 'none'
    return config
