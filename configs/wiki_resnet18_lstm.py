"""WIKI alone, the smaller part of IMDB-WIKI: a half-width ResNet-18 + bidirectional LSTM.

    python launch.py --config=configs/wiki_resnet18_lstm.py --config.data.manual_dir=DIR

Not measured yet; photos_resnet18_lstm.py says what was measured on WIKI at 64 px.
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that of UTKFace."""
    config = recipes.get_config('utkface_resnet18_lstm')
    config.data.dataset = 'imdb_wiki/wiki'
    return config
