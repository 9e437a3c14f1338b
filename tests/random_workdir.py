"""Workdirs whose models are random, and faces of noise, for tests of prediction."""

import dataclasses
import pathlib

import jax
import numpy as np
from PIL import Image

from hybrid import devices
from hybrid.runs import checkpoints, dataset_record, workdir
from hybrid.training import learners
from hybrid.training.optimizer import create_learning_rate_fn


def create(config, folder: pathlib.Path, scores=None) -> pathlib.Path:
    """Makes a workdir with one checkpoint, of step 1, whose model or members are random."""
    workdir.save_config(folder, config)
    record = {'name': 'synthetic_faces/tiny/1.0.0', 'constant_age': 40.0, 'constant_gender': 0}
    dataset_record.save(folder, record | {'splits': {}})
    state = learners.create(config, create_learning_rate_fn(config.optimizer, 1)).create_state()
    rng = np.random.default_rng(0)

    def disturb(x):
        return np.asarray(x + 0.3 * rng.normal(size=x.shape), np.float32)

    # Outputs that say something else of every face.
    state = jax.tree.map(
        lambda one: dataclasses.replace(one, params=jax.tree.map(disturb, one.params)),
        state,
        is_leaf=lambda node: hasattr(node, 'params'),
    )
    with checkpoints.Checkpoints(folder) as saved:
        scores = {None: 1.0} if scores is None else scores
        saved.save(1, devices.replicate(state), {}, config.to_dict(), scores)
    return folder


def face(seed=0, size=(40, 40)) -> Image.Image:
    """A picture of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
