r"""UTKFace, four members from ImageNet weights in one run: CNN alone, LSTM, and GRUs in two ways.

    python launch.py --config=configs/utkface_ensemble_imagenet.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

All else is as in utkface_resnet18_lstm_imagenet.py.

Scores (results/utkface_ensemble_imagenet.json):

    not run yet
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    gru = {'recurrent': {'cell': 'gru'}}
    config.ensemble.groups = {
        'cnn': {'model': {'recurrent': {'cell': 'none'}}},
        'gru_layer3': {'model': gru | {'sequence': {'stages': 'layer3'}}},
        'gru_layer34': {'model': gru | {'sequence': {'stages': 'layer3,layer4'}}},
        'lstm': {},
    }
    return config
