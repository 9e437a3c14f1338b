"""An ensemble of four on drawn faces: two CNN-RNN hybrids with LSTM, one with GRU, one CNN alone.

python launch.py --config=configs/ensemble_quickstart.py

"""

import ml_collections

from configs import quickstart


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = quickstart.get_config()
    config.ensemble.groups = {
        'lstm': {'size': 2, 'model': {}},
        'gru': {'size': 1, 'model': {'recurrent': {'cell': 'gru'}}},
        'cnn': {'size': 1, 'model': {'recurrent': {'cell': 'none'}}},
    }
    return config
