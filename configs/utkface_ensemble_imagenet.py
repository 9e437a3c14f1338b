r"""UTKFace, four members from ImageNet weights in one run: CNN alone, LSTM, and GRUs in two ways.

    python launch.py --config=configs/utkface_ensemble_imagenet.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

All else is as in utkface_resnet18_lstm_imagenet.py.

Scores (results/utkface_ensemble_imagenet.json):

    validation  MAE 4.19 (4.01 to 4.38) years, CS@5 69.8 %, gender 94.2 (93.2 to 95.1) %
    test        MAE 4.36 (4.17 to 4.55) years, CS@5 68.4 %, gender 94.8 (94.0 to 95.7) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    775d05a2cd77, seed 0, in bfloat16, 80 of 100 tensors pretrained, 1 core of AMD EPYC (another
    training on the other), 183 min
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
