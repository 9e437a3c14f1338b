r"""WIKI, the smaller part of IMDB-WIKI, aligned: ResNet-18 + bidirectional LSTM, 96 px, 8 epochs.

    python launch.py --config=configs/wiki_resnet18_lstm.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

FILE is as for utkface_resnet18_lstm_imagenet. Aligning the faces takes the face detector.

Scores (results/wiki_resnet18_lstm.json):

    validation  MAE 6.24 (6.06 to 6.45) years, CS@5 53.8 %, gender 95.8 (95.2 to 96.4) %
    test        MAE 6.13 (5.94 to 6.33) years, CS@5 54.9 %, gender 95.1 (94.4 to 95.8) %
    constant    MAE 13.26 years, gender 75.0 % (test)
    c036f3ae017a, seed 0, in bfloat16, 80 of 100 tensors pretrained, 2 cores of AMD EPYC (shared
    with other work), 22 min
"""

import ml_collections

from hybrid import recipes


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that of UTKFace, with fewer epochs of more images."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.data.dataset = 'imdb_wiki/wiki'
    config.data.parameters = {'align': True}
    config.train.num_epochs = 8.0
    return config
