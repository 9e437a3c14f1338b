r"""UTKFace, ResNet-18 + bidirectional LSTM from scratch, 96 px, 16 epochs.

    python launch.py --config=configs/utkface_resnet18_lstm_scratch.py --config.data.manual_dir=DIR

All else is as in utkface_resnet18_lstm_imagenet.py, to see what ImageNet weights are worth.

Scores (results/utkface_resnet18_lstm_scratch.json):

    validation  MAE 4.73 (4.51 to 4.95) years, CS@5 65.5 %, gender 92.5 (91.4 to 93.5) %
    test        MAE 4.96 (4.75 to 5.17) years, CS@5 64.4 %, gender 92.2 (91.1 to 93.2) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    775d05a2cd77, seed 0, in bfloat16, 1 core of AMD EPYC (another training on the other), 51 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.model.encoder.pretrained = ''
    return config
