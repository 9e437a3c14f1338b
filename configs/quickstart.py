"""The embedded default: a small ResNet-18 + LSTM on drawn faces, for any laptop CPU.

    python launch.py

Two or three minutes on two cores, from making the data to the last picture. Test MAE 5.14 years
(constant predictor 22.52), gender accuracy 98.6 %: commit 2b3e1b1f6044, seed 0, two cores of an AMD
EPYC (Zen 4); all scores are in results/quickstart.json.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the quickstart."""
    config = default.get_config()
    config.data.dataset = 'synthetic_faces'
    config.data.resize_size = 72
    config.data.image_size = 64
    config.data.normalization = 'standardize'
    config.model.encoder.width = 16
    config.augment.rotation = 10.0
    config.augment.scale = 0.1
    config.augment.brightness = 0.2
    config.model.recurrent.features = 64
    config.model.recurrent.bidirectional = True
    config.model.recurrent.reduce = 'mean'
    config.model.head.dropout = 0.1
    config.model.head.age_offset = 45.0
    config.model.head.age_scale = 25.0
    config.optimizer.learning_rate = 2e-3
    config.train.batch_size = 64
    config.train.num_epochs = 8.0
    return config
