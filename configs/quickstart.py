"""The default recipe: a small ResNet-18 + LSTM on drawn faces, for any laptop CPU.

    python launch.py --config=configs/quickstart.py

This takes about three minutes on two cores, from drawing the faces to the last picture.

Scores (results/quickstart.json):

    validation  MAE 5.07 (4.71 to 5.47) years, CS@5 61.4 %, gender 99.0 (98.0 to 99.8) %
    test        MAE 5.14 (4.89 to 5.39) years, CS@5 56.7 %, gender 98.6 (97.9 to 99.2) %
    constant    MAE 22.52 years, gender 48.4 % (test)
    2b3e1b1f6044, seed 0, 2 cores of AMD EPYC (shared with other work), 3 min
"""

import ml_collections

from hybrid import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of the quickstart."""
    config = default_config.get_config()
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
