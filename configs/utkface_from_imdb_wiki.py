"""UTKFace, fine-tuned from a network that imdb_wiki_resnet18_lstm.py has trained on IMDB-WIKI.

    python launch.py --config=configs/imdb_wiki_resnet18_lstm.py --config.data.manual_dir=DIR
    python launch.py --config=configs/utkface_from_imdb_wiki.py --config.data.manual_dir=DIR

Not measured yet: IMDB's images were not available to the authors.
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that from scratch, with a lower rate and fewer epochs."""
    config = recipes.get_config('utkface_resnet18_lstm')
    config.init_from = 'runs/imdb_wiki_resnet18_lstm'
    config.optimizer.learning_rate = 3e-4
    config.train.num_epochs = 6.0
    return config
