"""UTKFace, a half-width ResNet-18 + bidirectional LSTM from scratch: an hour on two CPU cores.

    python launch.py --config=configs/utkface_resnet18_lstm.py --config.data.manual_dir=DIR

At commit 71c9486, before runs were recorded, with the head `regression`: 58 minutes, test MAE 5.81
(5.58 to 6.05) years, gender 90.9 % (89.7 to 92.0), seed 0, two cores of an AMD EPYC shared with
other work.

Scores (results/utkface_resnet18_lstm.json):

    not run yet
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
