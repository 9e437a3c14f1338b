"""Trained models that nobody has trained, with random variables, made without compiling."""

import pathlib

import jax
import numpy as np

from hybrid import devices
from hybrid.models import dlib_resnet, efficientnet, encoders, resnet
from hybrid.runs import dataset_record, trained, workdir
from hybrid.training import learners
from hybrid.training.optimizer import create_learning_rate_fn

_BLOCKS = (efficientnet.Stage(1, 3, 1, 1, 4), efficientnet.Stage(2, 5, 2, 3, 8))
# Encoders of two stages after their stems, beside the `tiny` of conftest.py.
ENCODERS = {
    'tiny_bottleneck': resnet.encoder((1, 1), 'bottleneck'),
    'tiny_dlib': dlib_resnet.encoder(((6, 1, 1), (9, 2, 2))),
    'tiny_lite': efficientnet.encoder(_BLOCKS),
}


def register() -> None:
    """Makes `ENCODERS` known."""
    for name, encoder in ENCODERS.items():
        if name not in encoders.ENCODERS:
            encoders.register(name, encoder)


def create(config, folder: pathlib.Path, seed=0, predicts=trained.KINDS) -> trained.Trained:
    """A model, or an ensemble, whose activations are of the size of a trained one's."""
    learner = learners.create(config, create_learning_rate_fn(config.optimizer, 1))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        noise = rng.normal(size=leaf.shape)
        if name == 'kernel':
            inputs = int(np.prod(leaf.shape[-4:-1])) if leaf.ndim > 3 else leaf.shape[-2]
            noise *= np.sqrt(2 / inputs)
        elif name in ('scale', 'var'):
            noise = 1 + 0.3 * np.abs(noise)
        else:
            noise *= 0.3
        return np.asarray(noise, np.float32)

    abstract = learner.eval_variables(learner.abstract_state())
    variables = devices.replicate(jax.tree_util.tree_map_with_path(draw, abstract))
    folder.mkdir(parents=True, exist_ok=True)
    workdir.save_config(folder, config)
    if not (folder / dataset_record.FILE).exists():
        record = {'name': 'synthetic_faces/tiny/1.0.0', 'constant_age': 40.0, 'constant_gender': 0}
        dataset_record.save(folder, record | {'splits': {}})
    return trained.Trained(folder, config, learner, variables, 'best', 7, predicts=predicts)


def faces(count, size, seed=0):
    """Soft noise, uint8 [count, size, size, 3], at several contrasts."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 6, 6, 3)).repeat(-(-size // 6), 1).repeat(-(-size // 6), 2)
    noise = coarse[:, :size, :size] + 0.3 * rng.normal(size=(count, size, size, 3))
    noise = 128 + noise * rng.uniform(5, 80, (count, 1, 1, 1))
    return np.clip(noise, 0, 255).astype(np.uint8)
