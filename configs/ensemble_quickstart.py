"""An ensemble of four on drawn faces: two CNN-RNN hybrids with LSTM, one with GRU, one CNN alone.

    python launch.py --config=configs/ensemble_quickstart.py

Test MAE 4.55 years (members 4.91, 5.09, 5.16, 5.41), gender accuracy 99.6 %: commit 2b3e1b1f6044,
seed 0, 12 minutes on two cores of an AMD EPYC (Zen 4) that did other work, too; all scores are in
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
