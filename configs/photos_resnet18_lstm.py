r"""For people's own photographs: UTKFace and aligned WIKI, augmented to imitate other cameras.

    python launch.py --config=configs/photos_resnet18_lstm.py \
        --config.data.manual_dir=UTKFACE,WIKI --config.model.encoder.pretrained=FILE

UTKFACE and WIKI are the folders with the files of the two datasets (docs/data.md), FILE is as for
utkface_resnet18_lstm_imagenet. Preparing WIKI aligns its faces, which takes the face detector.

The scores below are those of WIKI with 64 x 64 pixels a face; the archive as it is published has
more.

Scores (results/elsewhere.json):

    validation, UTKFace   MAE 4.32 (4.13 to 4.51) years, gender 94.0 (93.0 to 95.0) %
    validation, WIKI      MAE 6.19 (6.01 to 6.37) years, gender 96.0 (95.4 to 96.6) %
    test, UTKFace         MAE 4.47 (4.28 to 4.67) years, gender 94.1 (93.1 to 95.0) %
    test, WIKI            MAE 6.01 (5.83 to 6.20) years, gender 95.6 (94.9 to 96.2) %
    d017d2bd4402, seed 0, in bfloat16, 80 of 100 tensors pretrained, 2 cores of AMD EPYC (shared
    with other work), 70 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that of UTKFace alone, with more data and more augmentation."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.data.dataset = 'utkface,imdb_wiki/wiki'
    config.data.parameters = {'imdb_wiki/wiki': {'align': True}}
    # Half of every batch from each: WIKI is larger, but has hardly any children and noisier labels.
    config.data.weights = '1,1'
    config.augment.rotation = 15.0
    config.augment.brightness = 0.3
    config.augment.scale = 0.2
    config.augment.shift = 0.06
    config.augment.resample = 20
    config.augment.blur = 0.02
    config.augment.motion_blur = 0.05
    config.augment.sharpen = 2.0
    config.augment.white_balance = 0.3
    config.augment.contrast = 0.3
    config.augment.saturation = 0.4
    config.augment.hue = 10.0
    config.augment.gamma = 0.5
    config.augment.grey = 0.1
    config.augment.erase = 0.1
    config.augment.noise = 0.05
    config.augment.jpeg = 20
    return config
