r"""UTKFace, the CNN alone: ResNet-18 from ImageNet weights, global average pooling.

    python launch.py --config=configs/utkface_resnet18_imagenet.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

All else is as in utkface_resnet18_lstm_imagenet.py: does the recurrent part help?

Scores (results/utkface_resnet18_imagenet.json):

    not run yet
"""

import ml_collections

from configs import utkface_resnet18_lstm_imagenet


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = utkface_resnet18_lstm_imagenet.get_config()
    config.model.recurrent.cell = 'none'
    return config
