"""UTKFace, a half-width ResNet-18 + bidirectional LSTM from scratch: an hour on two CPU cores.

    python launch.py --config=configs/utkface_resnet18_lstm.py --config.data.manual_dir=DIR

Measured at commit 71c9486, seed 0, on two cores of an AMD EPYC (Zen 4) shared with other work: 58
minutes. Default split (18,507 / 2,261 / 2,323), the best checkpoint by validation MAE (step 2,890
of 3,470), flip averaging, 95 % bootstrap intervals:

                       validation             test
    age MAE (years)    5.57  5.35 .. 5.81     5.81  5.58 .. 6.05     constant predictor 15.05
    CS@5               58.9 %                 57.4 %  55.3 .. 59.3
    gender accuracy    91.2 %                 90.9 %  89.7 .. 92.0   constant predictor 53.7 %
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = default.get_config()
    config.data.dataset = 'utkface'
    config.data.resize_size = 112
    config.data.image_size = 96
    config.model.encoder.width = 32
    config.model.recurrent.bidirectional = True
    config.model.recurrent.reduce = 'mean'
    config.train.batch_size = 64
    config.train.num_epochs = 12.0
    config.train.checkpoint_every_steps = 100
    config.evaluate.flip_average = True
    return config
