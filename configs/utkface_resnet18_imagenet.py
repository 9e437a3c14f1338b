r"""UTKFace, the CNN alone: ResNet-18 from ImageNet weights, global average pooling.

    python launch.py --config=configs/utkface_resnet18_imagenet.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

All else is as in utkface_resnet18_lstm_imagenet.py, to see whether the recurrent part helps.

Scores (results/utkface_resnet18_imagenet.json):

    validation  MAE 4.70 (4.50 to 4.90) years, CS@5 65.0 %, gender 93.9 (92.9 to 94.8) %
    test        MAE 4.79 (4.60 to 4.98) years, CS@5 64.4 %, gender 94.0 (93.0 to 94.9) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    15f1827598cb, seed 0, with the settings that the recipe had then, 80 of 100 tensors pretrained,
    2 cores of Intel(R) Xeon(R) Processor (shared with tests at low priority), 32 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.model.recurrent.cell = 'none'
    return config
