r"""For people's own photographs: photos_resnet18_lstm, from the weights of dlib's face recognition.

    python launch.py --config=configs/photos_dlib_resnet_lstm.py \
        --config.data.manual_dir=UTKFACE,WIKI --config.model.encoder.pretrained=FILE

UTKFACE and WIKI are the folders with the files of the two datasets (docs/data.md), FILE is as for
utkface_dlib_resnet_lstm, from which the network, its learning rate and the size of the faces are.
Data and augmentation are those of photos_resnet18_lstm.

The scores below are those of WIKI with 64 x 64 pixels a face; the archive as it is published has
more.

Scores (results/elsewhere.json):

    validation, UTKFace   MAE 4.28 (4.10 to 4.49) years, gender 93.8 (92.8 to 94.8) %
    validation, WIKI      MAE 5.98 (5.81 to 6.17) years, gender 96.5 (95.9 to 97.1) %
    test, UTKFace         MAE 4.33 (4.14 to 4.54) years, gender 94.2 (93.2 to 95.1) %
    test, WIKI            MAE 5.96 (5.78 to 6.13) years, gender 95.9 (95.3 to 96.5) %
    d70f385f5496, seed 0, in bfloat16, 1 core of AMD EPYC (other trainings and tests beside it, the
    end of it beside CI), 165 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('photos_resnet18_lstm')
    dlib = recipes.get_config('utkface_dlib_resnet_lstm')
    config.model = dlib.model
    config.data.resize_size = dlib.data.resize_size
    config.data.image_size = dlib.data.image_size
    config.optimizer.learning_rate = dlib.optimizer.learning_rate
    return config
