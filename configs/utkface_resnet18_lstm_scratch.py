r"""UTKFace, ResNet-18 + bidirectional LSTM from scratch.

    python launch.py --config=configs/utkface_resnet18_lstm_scratch.py --config.data.manual_dir=DIR

All else is as in utkface_resnet18_lstm_imagenet.py, to see what ImageNet weights are worth.

Scores (results/utkface_resnet18_lstm_scratch_mse.json):

    validation  MAE 5.57 (5.35 to 5.80) years, CS@5 56.7 %, gender 91.2 (90.0 to 92.4) %
    test        MAE 5.80 (5.57 to 6.03) years, CS@5 56.3 %, gender 90.7 (89.5 to 91.8) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    331f593df4dc, seed 0, with the settings that the recipe had then, 2 cores of AMD EPYC, 30 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.model.encoder.pretrained = ''
    return config
