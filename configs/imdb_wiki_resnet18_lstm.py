"""IMDB-WIKI, a half-width ResNet-18 + bidirectional LSTM from scratch, to start from elsewhere.

    python launch.py --config=configs/imdb_wiki_resnet18_lstm.py --config.data.manual_dir=DIR

Not measured yet: the images cannot be had where this was written.
"""

import ml_collections

from configs import utkface_resnet18_lstm


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that of UTKFace, with fewer epochs of more images."""
    config = utkface_resnet18_lstm.get_config()
    config.data.dataset = 'imdb_wiki'
    config.train.num_epochs = 4.0
    return config
