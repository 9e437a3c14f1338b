"""IMDB-WIKI, a half-width ResNet-18 + bidirectional LSTM from scratch, to fine-tune from.

    python launch.py --config=configs/imdb_wiki_resnet18_lstm.py --config.data.manual_dir=DIR

Not measured yet: IMDB's images were not available to the authors.
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that of UTKFace, with fewer epochs of more images."""
    config = recipes.get_config('utkface_resnet18_lstm')
    config.data.dataset = 'imdb_wiki'
    config.train.num_epochs = 4.0
    return config
