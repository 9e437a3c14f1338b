r"""UTKFace's published CORAL split, ages 21-60: ResNet-18 + bidirectional LSTM, ImageNet weights.

    python launch.py --config=configs/utkface_coral_21_60.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

The settings and the number of epochs are those of utkface_resnet18_lstm_imagenet.py. It trains on
all of `train`, without validation, and evaluates the last step. To choose settings here, train with
`--config.data.train_split=train_fit --config.data.validation_split=validation`.

Scores (results/utkface_coral_21_60_mse.json):

    test        MAE 4.57 (4.42 to 4.72) years, CS@5 65.9 %, gender 97.3 (96.7 to 97.8) %
    constant    MAE 8.69 years, gender 53.2 % (test)
    15f1827598cb, seed 0, with the settings that the recipe had then, 80 of 100 tensors pretrained,
    2 cores of Intel(R) Xeon(R) Processor, 23 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.data.dataset = 'utkface/coral_21_60'
    config.data.validation_split = ''
    return config
