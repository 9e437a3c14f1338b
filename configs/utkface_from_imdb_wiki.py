"""UTKFace, from a network that was trained on IMDB-WIKI: imdb_wiki_resnet18_lstm.py comes first.

    python launch.py --config=configs/imdb_wiki_resnet18_lstm.py --config.data.manual_dir=DIR
    python launch.py --config=configs/utkface_from_imdb_wiki.py --config.data.manual_dir=DIR

Not measured yet: IMDB's images cannot be had where this was written.
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: the one from scratch, with smaller and fewer steps."""
    config = recipes.get_config('utkface_resnet18_lstm')
    config.init_from = 'runs/imdb_wiki_resnet18_lstm'
    config.optimizer.learning_rate = 3e-4
    config.train.num_epochs = 6.0
    return config
