r"""UTKFace, ResNet-18 + bidirectional GRU over two stages, from ImageNet weights.

    python launch.py --config=configs/utkface_resnet18_gru_imagenet.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

The GRU reads the positions of layer3 (6 x 6) and then those of layer4 (3 x 3). All else is as in
utkface_resnet18_lstm_imagenet.py.

Scores (results/utkface_resnet18_gru_imagenet.json):

    validation  MAE 4.25 (4.06 to 4.46) years, CS@5 69.0 %, gender 93.8 (92.8 to 94.7) %
    test        MAE 4.44 (4.26 to 4.64) years, CS@5 67.5 %, gender 94.1 (93.2 to 95.1) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    d667264397d2, seed 0, in bfloat16, 80 of 100 tensors pretrained, 2 cores of AMD EPYC (shared
    with other work), 27 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.model.sequence.stages = 'layer3,layer4'
    config.model.recurrent.cell = 'gru'
    return config
