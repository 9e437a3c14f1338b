"""An ensemble of four on drawn faces: two CNN-RNN hybrids with LSTM, one with GRU, one CNN alone.

    python launch.py --config=configs/ensemble_quickstart.py

Test MAE 5.48 years (members 6.26, 5.89, 6.43, 6.21), gender 99.2 %: commit 93ea6cd, seed 0,
9 minutes on two cores of an AMD EPYC (Zen 4) that did other work for half of it; all scores are in
results/ensemble_quickstart.json.
"""

import ml_collections

from configs import quickstart


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = quickstart.get_config()
    config.train.num_epochs = 5.0
    config.ensemble.groups = {
        'lstm': {'size': 2, 'model': {}},
        'gru': {'size': 1, 'model': {'recurrent': {'cell': 'gru'}}},
        'cnn': {'size': 1, 'model': {'recurrent': {'cell': 'none'}}},
    }
    return config
