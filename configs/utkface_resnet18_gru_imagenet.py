r"""UTKFace, ResNet-18 + bidirectional GRU over two stages, from ImageNet weights.

    python launch.py --config=configs/utkface_resnet18_gru_imagenet.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

The GRU reads the positions of layer3 (6 x 6) and then those of layer4 (3 x 3). All else is as in
utkface_resnet18_lstm_imagenet.py.

Scores (results/utkface_resnet18_gru_imagenet.json):

    not run yet
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.model.sequence.stages = 'layer3,layer4'
    config.model.recurrent.cell = 'gru'
    return config
