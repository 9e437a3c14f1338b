r"""For people's own photographs: UTKFace and aligned WIKI, augmented to imitate other cameras.

    python launch.py --config=configs/photos_resnet18_lstm.py \
        --config.data.manual_dir=UTKFACE,WIKI --config.model.encoder.pretrained=FILE

UTKFACE and WIKI are the folders with the files of the two datasets (docs/data.md), FILE is as for
utkface_resnet18_lstm_imagenet. Preparing WIKI aligns its faces, which takes the face detector.

The recipe as it is has not been measured, but a trial was: with WIKI at 64 px, on validation faces
only (no example is left out for the sake of test splits), in bfloat16, for 8 epochs, with the head
`regression`, and without the two zoomed views unless a line says otherwise:

    UTKFace validation  MAE 4.90 (4.69 to 5.09) years, gender 93.8 %; zoomed views too 4.83, 93.6 %
    WIKI validation     MAE 6.70 (6.51 to 6.89) years, gender 95.4 %; zoomed views too 6.62, 95.7 %
    UTKFace alone       4.79 years and 93.5 % on UTKFace, 8.46 and 92.8 % on WIKI
    a72a0e9, seed 0, these flags and --config.model.dtype=bfloat16 --config.data.test_split=
    --config.model.head.age=regression --config.train.num_epochs=8, 80 of 100 tensors pretrained, 2
    cores of AMD EPYC (shared with other work), 67 min
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
