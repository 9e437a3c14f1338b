"""Fixed features of faces, for `traditional.py`: HOG, and the stages of frozen ResNets."""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from skimage.color import rgb2gray
from skimage.feature import hog

from hybrid.data import augment, input_pipeline
from hybrid.models import encoders, network
from hybrid.runs import workdir
from hybrid.training import learners
from hybrid.weights import initialization

ORIENTATIONS, BLOCK, BATCH = 9, 2, 64

# Crops uint8 [B, S, S, 3] -> features float32 [B, F].
Extract = Callable[[np.ndarray], np.ndarray]
# (split, settings, places in the split or None for all) -> features [N, F]
Load = Callable[..., np.ndarray]


def hog_features(crops: np.ndarray, cell: int) -> np.ndarray:
    """Computes HOG of uint8 [B, S, S, 3], with cells of that many pixels: float32 [B, F]."""
    layout = {'pixels_per_cell': (cell, cell), 'cells_per_block': (BLOCK, BLOCK)}
    of_each = [hog(rgb2gray(crop), ORIENTATIONS, block_norm='L2-Hys', **layout) for crop in crops]
    return np.array(of_each, np.float32)


def mirror_hog(features: np.ndarray) -> np.ndarray:
    """Turns HOG of faces, [N, F], into that of their mirror images."""
    side = math.isqrt(features.shape[1] // (BLOCK**2 * ORIENTATIONS))
    blocks = features.reshape(-1, side, side, BLOCK, BLOCK, ORIENTATIONS)
    return blocks[:, :, ::-1, :, ::-1, ::-1].reshape(features.shape)


def create_resnet(config: ConfigDict, folder: pathlib.Path) -> tuple[Extract, dict[str, slice]]:
    """Creates the frozen network that a config describes.

    Args:
      config: Of a training that would start from the weights.
      folder: The workdir, which is told what became of the weights.

    Returns:
      What computes the means of the outputs of the stages, and which features are whose.
    """
    learner = learners.create(config, optax.constant_schedule(0.0))
    state, sources = initialization.start(config, learner.create_state())
    workdir.save_sources(folder, sources)
    variables = {name: tree['encoder'] for name, tree in state.eval_variables.items()}
    stages = [n for n in ('layer3', 'layer4') if n not in sources[0]['incomplete_stages']]
    encoder = encoders.create_module(
        config.model.encoder,
        tuple(stages),
        dtype=network.DTYPES[config.model.dtype],
        axis_name=None,
        frozen_stages=0,
        frozen_statistics=True,
        kernels=config.model.kernels,
    )

    @jax.jit
    def apply(variables, images):
        images = augment.normalize(augment.to_unit(images), config.data.normalization)
        maps: Any = encoder.apply(variables, images, train=False)
        return [x.mean((1, 2)) for x in maps]

    images = jnp.zeros((1, 64, 64, 3), jnp.uint8)
    ends = np.cumsum([0, *(x.shape[1] for x in jax.eval_shape(apply, variables, images))])
    places = {stage: slice(*ends[k : k + 2]) for k, stage in enumerate(stages)}
    variables = jax.device_put(variables)

    def extract(crops: np.ndarray) -> np.ndarray:
        filled = np.resize(crops, (BATCH, *crops.shape[1:]))
        return np.concatenate(apply(variables, filled), axis=1).astype(np.float32)[: len(crops)]

    return extract, {**places, 'layer3 and layer4': slice(None)} if len(stages) > 1 else places


class Features:
    """Features of the faces of a dataset, each computed once and kept in a folder."""

    def __init__(self, builder: Any, folder: pathlib.Path):
        self._builder = builder
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def load(
        self, split: str, name: str, size: int, extract: Extract, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns the features [len(rows), F] that `extract` gives of crops of that size.

        Args:
          split: The split.
          name: What the features are called.
          size: Side of the crops in pixels.
          extract: Computes those that are not kept.
          rows: Places in the split; None for all.
        """
        examples = input_pipeline.Examples(self._builder, split, size * 7 // 6)
        path = self._folder / f'{name}.{split}.npy'
        kept = np.load(path, allow_pickle=False) if path.exists() else None
        rows = np.arange(len(examples)) if rows is None else rows
        missing = rows if kept is None else rows[np.isnan(kept[rows, 0])]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            images = jnp.asarray(examples.load(part)['image'])
            found = extract(np.asarray(augment.center_crop(images, size)))
            if kept is None:
                kept = np.full((len(examples), found.shape[1]), np.nan, np.float32)
            kept[part] = found
        assert kept is not None, f'{split} has no faces'
        if len(missing):
            np.save(path, kept, allow_pickle=False)
        return kept[rows]


def hog_method(features: Features) -> Load:
    """Returns what loads HOG by its settings: `size`, `cell`, `mirrored`."""

    def load(split: str, settings: Mapping[str, Any], rows: np.ndarray | None = None) -> np.ndarray:
        size, cell = settings['size'], settings['cell']
        x = features.load(
            split, f'hog_{size}_{cell}', size, lambda crops: hog_features(crops, cell), rows
        )
        return (x + mirror_hog(x)) / 2 if settings['mirrored'] else x

    return load


def resnet_method(features: Features, extract: Extract, places: Mapping[str, slice]) -> Load:
    """Returns what loads a network's features by their settings: `size`, `stage`, `mirrored`."""

    def load(split: str, settings: Mapping[str, Any], rows: np.ndarray | None = None) -> np.ndarray:
        size = settings['size']
        x = features.load(split, f'resnet_{size}', size, extract, rows)
        if settings['mirrored']:
            name = f'resnet_{size}_mirrored'
            x = x + features.load(split, name, size, lambda crops: extract(crops[:, :, ::-1]), rows)
            x /= 2
        return x[:, places[settings['stage']]]

    return load
