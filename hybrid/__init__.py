"""Age and gender from faces: the hybrid CNN-RNN in JAX, alone or as an ensemble."""

__version__ = '0.1.0'
