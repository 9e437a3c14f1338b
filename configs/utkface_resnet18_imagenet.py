r"""UTKFace, the CNN alone: ResNet-18 from ImageNet weights, global average pooling.

    python launch.py --config=configs/utkface_resnet18_imagenet.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

All else is as in utkface_resnet18_lstm_imagenet.py, to see whether the recurrent part helps.

Scores (results/utkface_resnet18_imagenet.json):

    validation  MAE 4.38 (4.19 to 4.56) years, CS@5 68.2 %, gender 94.1 (93.1 to 95.0) %
    test        MAE 4.50 (4.31 to 4.71) years, CS@5 67.3 %, gender 94.6 (93.7 to 95.4) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    d667264397d2, seed 0, in bfloat16, 80 of 100 tensors pretrained, 2 cores of AMD EPYC (shared
    with other work), 22 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.model.recurrent.cell = 'none'
    return config
