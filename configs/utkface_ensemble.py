"""UTKFace, three small members from scratch in one run: two hybrids with LSTM, one CNN alone.

    python launch.py --config=configs/utkface_ensemble.py --config.data.manual_dir=DIR

The members are half-width ResNet-18s at 64 px, trained for 8 epochs: two CPU cores can do that in
well under an hour.

Scores (results/utkface_ensemble.json):

    validation  MAE 5.84 (5.63 to 6.09) years, CS@5 55.7 %, gender 90.4 (89.2 to 91.6) %
    test        MAE 6.03 (5.78 to 6.27) years, CS@5 55.8 %, gender 90.8 (89.6 to 91.9) %
    constant    MAE 15.05 years, gender 53.7 % (test)
    871ff92b6725, seed 0 with --config.evaluate.age_estimate=mean
    --config.model.head.age=regression, as the recipe was, 2 cores of AMD EPYC (shared with other
    work), 43 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = recipes.get_config('utkface_resnet18_lstm')
    config.data.resize_size = 72
    config.data.image_size = 64
    config.train.num_epochs = 8.0
    config.ensemble.groups = {
        'lstm': {'size': 2, 'model': {}},
        'cnn': {'size': 1, 'model': {'recurrent': {'cell': 'none'}}},
    }
    return config
