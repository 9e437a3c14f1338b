"""The network and its parts. Importing any of them registers the encoders, see `encoders.py`."""

from hybrid.models import dlib_resnet, efficientnet, resnet

__all__ = ['dlib_resnet', 'efficientnet', 'resnet']
