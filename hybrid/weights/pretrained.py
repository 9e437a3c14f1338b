"""Weights in a file of named tensors, as PyTorch has them, into the variables of an encoder.

The encoder says which names it reads (`encoders.Weights`). With them it computes what PyTorch
computes from images of the same normalisation. PyTorch's BatchNorm momentum of 0.1 is Flax's 0.9.
One convention differs: in training PyTorch moves the running variance towards the unbiased variance
of the batch, Flax towards the biased one, which is 1 / n smaller with n values a channel (0.2 % in
the last stage of a ResNet at 96 px and batch 64). It matters little, and not at all to what was
loaded.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hybrid.data import augment
from hybrid.models import encoders


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a file's tensors, by their names there, and of the encoder's.

    Attributes:
      loaded: Names of tensors that were taken over.
      missing: Names of tensors of the encoder that are not there and keep their initialisation.
      incomplete_stages: The stages that these are part of.
      unused: Names of tensors that have no place in the encoder.
    """

    loaded: list[str]
    missing: list[str]
    incomplete_stages: list[str]
    unused: list[str]


def convert(
    tensors: Mapping[str, np.ndarray],
    variables: Any,
    encoder: encoders.Encoder,
    allow_missing: Sequence[str] = (),
    whole: Any = None,
) -> tuple[Any, Report]:
    """Takes tensors over into the variables of an encoder.

    Args:
      tensors: By the names of `encoder.weights`, all of them maybe with a prefix such as `module.`;
        kernels are [N, C, kh, kw].
      variables: The collections of the encoder, initialised.
      encoder: The encoder.
      allow_missing: What may be missing: stages, or the beginning of names, such as 'layer4' or
        'layer4.0'; maybe several in one text with commas between.
      whole: What `variables` would be of all stages, if they are those of the first ones only
        (`config.model.sequence.stages`); of the others the file may have what it likes.

    Returns:
      The variables, float32 NumPy arrays, and a report.

    Raises:
      ValueError: when the encoder reads no weights; when a tensor is missing or not finite, has
        another shape, or belongs to another architecture; or when `allow_missing` names nothing.
    """
    weights = encoder.weights
    if weights is None:
        raise ValueError('this encoder reads no pretrained weights')
    allow_missing = [block.strip() for text in allow_missing for block in text.split(',')]
    allow_missing = list(filter(None, allow_missing))
    paths, structure = jax.tree_util.tree_flatten_with_path(variables)
    names = [weights.tensor_name([key.key for key in path]) for path, _ in paths]
    stages, stage_of = list(encoder.stages), {}
    for path, _ in jax.tree_util.tree_leaves_with_path(whole or variables):
        name = weights.tensor_name([key.key for key in path])
        stage_of[name] = stages[encoder.stage_of(path[1].key)]
    _check_blocks(allow_missing, stage_of, encoder)
    prefix = _find_prefix(tensors, names, weights)
    found = {n.removeprefix(prefix): n for n in tensors if n.startswith(prefix)}
    families = (other.weights for other in encoders.ENCODERS.values() if other.weights)
    guess = next(filter(None, (family.guess(found) for family in families)), '')
    hint = f' (its blocks are those of {guess})' if guess else ''
    # First what says most about the file: it may be of another network altogether.
    unexpected = [n for n in found if n not in stage_of and re.match(weights.part_of_encoder, n)]
    unexpected = [n for n in unexpected if not n.endswith('.num_batches_tracked')]
    if unexpected:
        raise ValueError(f'the file has {_listed(unexpected)}, which this encoder has not{hint}')
    missing = [name for name in names if name not in found]
    bad = [n for n in missing if not any(_is_in(n, stage_of[n], b) for b in allow_missing)]
    if bad:
        raise ValueError(
            f'the file lacks {_listed(bad)}{hint}; what may keep its initialisation is named in '
            'config.model.encoder.allow_missing'
        )
    leaves = [
        _leaf(found[name], tensors[found[name]], leaf.shape, path[-1].key)
        if name in found
        else np.asarray(leaf, np.float32)
        for name, (path, leaf) in zip(names, paths, strict=True)
    ]
    loaded = [found[name] for name in names if name in found]
    unused = sorted(tensors.keys() - set(loaded))
    incomplete = [stage for stage in encoder.stages if stage in {stage_of[n] for n in missing}]
    return jax.tree.unflatten(structure, leaves), Report(loaded, missing, incomplete, unused)


def _leaf(name: str, tensor: np.ndarray, shape: tuple[int, ...], kind: str) -> np.ndarray:
    is_kernel = kind == 'kernel'
    # Ours are [kh, kw, C, N].
    wanted = (shape[3], shape[2], *shape[:2]) if is_kernel else shape
    if tensor.shape != wanted:
        raise ValueError(
            f'{name} is {list(tensor.shape)} in the file, {list(wanted)} in this encoder'
        )
    if tensor.dtype.kind == 'V' and tensor.dtype.name.startswith('void'):
        raise ValueError(
            f'{name} has lost its type, for npz has none such as bfloat16; save it as float32, or '
            'as .safetensors'
        )
    # By name: NumPy does not count bfloat16 among the floating-point types.
    if 'float' not in tensor.dtype.name or tensor.dtype.itemsize < 2:
        raise ValueError(f'{name} holds {tensor.dtype.name}, not floating-point numbers')
    tensor = np.ascontiguousarray(tensor.transpose(2, 3, 1, 0) if is_kernel else tensor, np.float32)
    if not np.isfinite(tensor).all():
        raise ValueError(f'{name} holds numbers that are not finite')
    if kind == 'var' and (tensor < 0).any():
        raise ValueError(f'{name} holds negative variances')
    return tensor


def _check_blocks(
    allow_missing: Sequence[str], stage_of: Mapping[str, str], encoder: encoders.Encoder
) -> None:
    for block in allow_missing:
        if not any(_is_in(name, stage, block) for name, stage in stage_of.items()):
            raise ValueError(
                f'config.model.encoder.allow_missing names {block!r}, which is no part of the '
                f'encoder; its stages are {", ".join(encoder.stages)}, and the '
                f'name of a tensor up to a dot, such as {min(stage_of).rpartition(".")[0]}, will do'
            )


def _is_in(name: str, stage: str, block: str) -> bool:
    """Whether a tensor is of a block: of its stage, or with it at the beginning up to a dot."""
    return block in (stage, name) or name.startswith(f'{block}.')


def _find_prefix(
    tensors: Mapping[str, np.ndarray], names: Sequence[str], weights: encoders.Weights
) -> str:
    """What stands before the encoder's names in the file, such as '' or 'module.'."""
    counts: dict[str, int] = {}
    wanted = set(names)
    for there in tensors:
        parts = there.split('.')
        for start in range(len(parts)):
            if '.'.join(parts[start:]) in wanted:
                prefix = ''.join(f'{part}.' for part in parts[:start])
                counts[prefix] = counts.get(prefix, 0) + 1
    if not counts:
        raise ValueError(
            f'the file has no tensor under a name that this encoder reads, {weights.described}; it '
            f'has {_listed(sorted(tensors)) or "none at all"}'
        )
    most = max(counts.values())
    best = sorted(prefix for prefix, count in counts.items() if count == most)
    if len(best) > 1:
        raise ValueError(
            f'the file has several networks, whose tensors begin with {best[0]!r} and {best[1]!r}; '
            'leave one'
        )
    return best[0]


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more


def check_description(path: pathlib.Path, encoder: str, normalization: str) -> None:
    """Checks timm's config.json, if there is one beside the weights, as on the hub.

    Networks may differ in what is not seen in their tensors, such as anti-aliasing.

    Args:
      path: Of the weights.
      encoder: `config.model.encoder.name`.
      normalization: `config.model.encoder.pretrained_normalization`.

    Raises:
      ValueError: when it describes another architecture, or another normalisation.
    """
    path = path.with_name('config.json')
    try:
        described = json.loads(path.read_text())
        architecture, settings = described['architecture'], described['pretrained_cfg']
        mean, std = (np.broadcast_to(np.float64(settings[k]), 3) for k in ('mean', 'std'))
    except (OSError, ValueError, KeyError, TypeError):
        return  # of something else
    if architecture != encoder:
        raise ValueError(
            f'{path}: the weights are of a {architecture}, config.model.encoder.name={encoder!r}'
        )
    known = {
        'imagenet': (augment.IMAGENET_MEAN, augment.IMAGENET_STD),
        'unit': ((0, 0, 0), (1, 1, 1)),
        'symmetric': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    }
    fitting = [k for k, wanted in known.items() if np.allclose((mean, std), wanted, atol=1e-3)]
    if normalization not in fitting:
        remedy = 'which is no config.data.normalization; take others'
        if fitting:
            remedy = f'so config.model.encoder.pretrained_normalization={fitting[0]!r}'
        raise ValueError(
            f'{path}: the weights want images normalised by mean {mean.tolist()} and deviation '
            f'{std.tolist()}, {remedy}'
        )
