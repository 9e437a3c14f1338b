r"""UTKFace's published CORAL split, ages 21-60: ResNet-18 + bidirectional LSTM, ImageNet weights.

    python launch.py --config=configs/utkface_coral_21_60.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

The settings and the number of epochs are those of utkface_resnet18_lstm_imagenet.py. It trains on
all of `train`, without validation, and evaluates the last step. To choose settings here, train with
`--config.data.train_split=train_fit --config.data.validation_split=validation`.

Scores (results/utkface_coral_21_60.json):

    test        MAE 4.39 (4.24 to 4.54) years, CS@5 67.4 %, gender 97.7 (97.2 to 98.2) %
    constant    MAE 8.69 years, gender 53.2 % (test)
    4169ab366158, seed 0, in bfloat16, 80 of 100 tensors pretrained, 1 core of AMD EPYC (another
    training on the other), 31 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.data.dataset = 'utkface/coral_21_60'
    config.data.validation_split = ''
    return config
