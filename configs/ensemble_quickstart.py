"""An ensemble of four on drawn faces: two CNN-RNN hybrids with LSTM, one with GRU, one CNN alone.

    python launch.py --config=configs/ensemble_quickstart.py

Scores (results/ensemble_quickstart.json):

    validation  MAE 5.22 (4.87 to 5.60) years, CS@5 57.0 %, gender 99.2 (98.2 to 99.8) %
    test        MAE 5.48 (5.22 to 5.73) years, CS@5 52.2 %, gender 99.2 (98.6 to 99.7) %
    constant    MAE 22.52 years, gender 48.4 % (test)
    93ea6cdfb3b5, seed 0, 2 cores of AMD EPYC (partly shared with other work), 8 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('quickstart')
    config.train.num_epochs = 5.0
    config.ensemble.groups = {
        'lstm': {'size': 2, 'model': {}},
        'gru': {'size': 1, 'model': {'recurrent': {'cell': 'gru'}}},
        'cnn': {'size': 1, 'model': {'recurrent': {'cell': 'none'}}},
    }
    return config
