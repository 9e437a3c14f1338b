"""The network and its parts. Importing any of them registers the encoders, see `encoders.py`."""

from hybrid.models import efficientnet, resnet

__all__ = ['efficientnet', 'resnet']
