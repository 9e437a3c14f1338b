"""What arrays a state has, written down as text: a checkpoint holds it, and it is checked by it."""

import pathlib
from typing import Any

import jax

Layout = dict[str, str]


def describe(tree: Any) -> Layout:
    """Describes every array of a tree: its path to its type and shape, such as `float32[3, 4]`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): f'{x.dtype}{list(x.shape)}'
        for path, x in leaves
    }


def check(folder: pathlib.Path, saved: Layout, wanted: Layout) -> None:
    """Checks that a checkpoint holds what a config describes.

    Raises:
      ValueError: when it does not, naming the folder and the first array that differs.
    """
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = saved.get(name, 'absent'), wanted.get(name, 'absent')
        if there != here:
            raise ValueError(
                f'{folder} does not fit this config: {name} is {there} there, and {here} by the '
                'config. Leave config.model, config.optimizer and config.finetune as they were, or '
                'train anew'
            )


def without_optimizer(saved: Layout) -> dict[str, Any]:
    """The fields of a TrainState, or of a dict of them, but for the optimiser's state.

    Returns:
      Nested dicts of jax.ShapeDtypeStruct.
    """
    depth = 0 if 'member' in saved else 1  # Where in the path a field's name stands.
    fields: dict[str, Any] = {}
    for name, text in saved.items():
        *parents, leaf = name.split('/')
        if (*parents, leaf)[depth] == 'opt_state':
            continue
        node = fields
        for parent in parents:
            node = node.setdefault(parent, {})
        dtype, shape = text.rstrip(']').split('[')
        node[leaf] = jax.ShapeDtypeStruct([int(n) for n in shape.split(',') if n], dtype)
    return fields
