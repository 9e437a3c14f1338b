"""The views of a face that predictions are averaged over, as what ONNX has: products of matrices.

Cropping, zooming and resampling are linear, and what they do to columns of pixels they do to rows.
So a view but for its mirroring is M x M^T for each colour, with one matrix M.
"""

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrid.training.eval_step import create_views


def describe(config: ConfigDict) -> dict[str, object]:
    """What the views of a model depend on."""
    settings = config.evaluate
    return {
        'crop': config.data.image_size,
        'flip_average': settings.flip_average,
        'scales': [float(value) for value in settings.scales],
        'resolutions': [float(value) for value in settings.resolutions],
    }


def count(config: ConfigDict) -> int:
    """How many views there are."""
    settings = config.evaluate
    upright = (1 + len(settings.scales)) * (1 + len(settings.resolutions))
    return upright * (2 if settings.flip_average else 1)


def matrices(config: ConfigDict) -> list[np.ndarray]:
    """The matrix [S, R] of each view that is not mirrored; that of the first is the centre crop.

    They are found by showing images to `create_views` that are white in one row each.
    """
    resized = config.data.resize_size
    upright = config.copy_and_resolve_references()
    upright.evaluate.flip_average = False
    if count(upright) == 1:
        return [np.eye(resized, dtype=np.float32)]  # Which nobody looks at.
    rows = jnp.broadcast_to(jnp.eye(resized)[:, :, None, None], (resized,) * 3 + (1,))
    return [np.asarray(view)[:, :, 0, 0].T for view in create_views(rows, upright)]
