r"""WIKI, the smaller part of IMDB-WIKI, aligned: ResNet-18 + bidirectional LSTM, 96 px, 8 epochs.

    python launch.py --config=configs/wiki_resnet18_lstm.py \
        --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

FILE is as for utkface_resnet18_lstm_imagenet. Aligning the faces takes the face detector.

Scores (results/wiki_resnet18_lstm.json):

    not run yet
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
