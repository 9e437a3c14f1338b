"""UTKFace, a half-width ResNet-18 + bidirectional LSTM from scratch, 96 px, 12 epochs.

    python launch.py --config=configs/utkface_resnet18_lstm.py --config.data.manual_dir=DIR

Scores (results/utkface_resnet18_lstm.json):

    validation  MAE 5.15 (4.91 to 5.38) years, CS@5 62.4 %, gender 90.8 (89.7 to 92.0) %
    test        MAE 5.57 (5.33 to 5.81) years, CS@5 59.6 %, gender 90.8 (89.6 to 91.9) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    cbc802bd537a, seed 0, in bfloat16, 1 core of AMD EPYC (another training on the other), 22 min
"""

import ml_collections

from hybrid import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = default_config.get_config()
    config.data.dataset = 'utkface'
    config.data.resize_size = 112
    config.data.image_size = 96
    config.model.encoder.width = 32
    config.model.recurrent.bidirectional = True
    config.model.recurrent.reduce = 'mean'
    # Its median was among the best on validation (results/experiments.md, Age heads).
    config.model.head.age = 'dex'
    config.evaluate.age_estimate = 'median'
    config.train.batch_size = 64
    config.train.num_epochs = 12.0
    config.train.checkpoint_every_steps = 100
    config.evaluate.flip_average = True
    return config
