r"""UTKFace, the CNN of dlib's face recognition + bidirectional LSTM, 150 px, 16 epochs.

    python launch.py --config=configs/utkface_dlib_resnet_lstm.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

FILE is what tools/convert_dlib_resnet.py makes. The LSTM reads the 4 x 4 positions of layer4, and
the peak learning rate is 1e-4. All else is as in utkface_resnet18_lstm_imagenet.py.

Scores (results/utkface_dlib_resnet_lstm.json):

    validation  MAE 4.26 (4.07 to 4.45) years, CS@5 68.7 %, gender 94.5 (93.5 to 95.4) %
    test        MAE 4.33 (4.15 to 4.53) years, CS@5 68.7 %, gender 94.5 (93.6 to 95.4) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    2eb92f0430ea, seed 0, in bfloat16, 1 core of AMD EPYC (another training on the other, tests on
    both), 65 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.model.encoder.name = 'dlib_resnet'
    config.model.encoder.pretrained = 'dlib_resnet.safetensors'
    config.model.sequence.stages = 'layer4'
    # The weights were trained at this size, on crops that show about as much of the head.
    config.data.resize_size = 156
    config.data.image_size = 150
    # On validation 1e-4 was as good after 4 epochs as 3e-4 after 8 (results/experiments.md).
    config.optimizer.learning_rate = 1e-4
    return config
