"""UTKFace, three small members from scratch in one run: two hybrids with LSTM, one CNN alone.

    python launch.py --config=configs/utkface_ensemble.py --config.data.manual_dir=DIR

Half-width ResNet-18s at 64 px, 8 epochs: what two CPU cores can train in well under an hour. Scores
are in README.md, from results/utkface_ensemble.json.
"""

import ml_collections

from configs import utkface_resnet18_lstm


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = utkface_resnet18_lstm.get_config()
    config.data.resize_size = 72
    config.data.image_size = 64
    config.train.num_epochs = 8.0
    config.ensemble.groups = {
        'lstm': {'size': 2, 'model': {}},
        'cnn': {'size': 1, 'model': {'recurrent': {'cell': 'none'}}},
    }
    return config
