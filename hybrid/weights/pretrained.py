"""Weights of torchvision's and timm's ResNets into the encoder's variables.

With them the encoder computes what PyTorch computes from images of the same normalisation: padding
is explicit, `model.encoder.bottleneck_stride` says where a stage's stride is, and BatchNorm adds
1e-5 to the variance.
PyTorch's BatchNorm momentum of 0.1 is Flax's 0.9. One convention differs: in training PyTorch moves
the running variance towards the unbiased variance of the batch, Flax towards the biased one, which
is 1 / n smaller with n values a channel (0.2 % in the last stage at 96 px and batch 64). It matters
little, and not at all to what was loaded.
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
from hybrid.models import resnet

_LEAVES = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
}
_SHORTCUT = {'downsample_conv': 'downsample.0', 'downsample_bn': 'downsample.1'}
# A tensor of such a name takes part in the encoder's output. One that is not wanted means that the
# file is of another network, such as timm's resnet18d or an SE-ResNet.
_OF_ENCODER = re.compile(r'(conv1|bn1|norm1|stem|maxpool|layer\d+)\.')


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a file's tensors, by their names there, and of the encoder's.

    Attributes:
      loaded: Names of tensors that were taken over.
      missing: Names of tensors of the encoder that are not there and keep their initialisation.
      unused: Names of tensors that have no place in the encoder.
    """

    loaded: list[str]
    missing: list[str]
    unused: list[str]


def torch_name(path: Sequence[str]) -> str:
    """The name that torchvision has for a variable of the encoder.

    Args:
      path: Such as ('params', 'layer2_0', 'downsample_conv', 'kernel').

    Returns:
      Such as 'layer2.0.downsample.0.weight'.
    """
    _, *modules, leaf = path
    names = [_SHORTCUT.get(name, name.replace('_', '.')) for name in modules]
    return '.'.join([*names, _LEAVES[leaf]])


def convert(
    tensors: Mapping[str, np.ndarray], variables: Any, allow_missing: Sequence[str] = ()
) -> tuple[Any, Report]:
    """Takes tensors of PyTorch's over into the encoder's variables.

    Args:
      tensors: By torchvision's names, all of them maybe with a prefix such as `module.`; kernels
        are [N, C, kh, kw].
      variables: `params` and `batch_stats` of the encoder, initialised.
      allow_missing: Prefixes of names that may be missing, such as 'layer4' or 'layer4.0', maybe
        several with commas between; 'stem' is the first convolution and its BatchNorm.

    Returns:
      The variables, float32 NumPy arrays, and a report.

    Raises:
      ValueError: when a tensor is missing or not finite, has another shape, or belongs to another
        architecture; or when a prefix names nothing.
    """
    allow_missing = [block.strip() for text in allow_missing for block in text.split(',')]
    allow_missing = list(filter(None, allow_missing))
    paths, structure = jax.tree_util.tree_flatten_with_path(variables)
    names = [torch_name([key.key for key in path]) for path, _ in paths]
    _check_prefixes(allow_missing, names)
    prefix = _find_prefix(tensors, names)
    found = {n.removeprefix(prefix): n for n in tensors if n.startswith(prefix)}
    # First what says most about the file: it may be of another network altogether.
    unexpected = [n for n in found if n not in names and _OF_ENCODER.match(n)]
    unexpected = [n for n in unexpected if not n.endswith('.num_batches_tracked')]
    if unexpected:
        raise ValueError(
            f'the file has {_listed(unexpected)}, which this encoder has not{_guess(found)}'
        )
    missing = [name for name in names if name not in found]
    bad = [name for name in missing if not any(_is_in(name, block) for block in allow_missing)]
    if bad:
        raise ValueError(
            f'the file lacks {_listed(bad)}{_guess(found)}; what may keep its initialisation is '
            'named in config.model.encoder.allow_missing'
        )
    leaves = [
        _leaf(found[name], tensors[found[name]], leaf.shape, path[-1].key)
        if name in found
        else np.asarray(leaf, np.float32)
        for name, (path, leaf) in zip(names, paths, strict=True)
    ]
    loaded = [found[name] for name in names if name in found]
    unused = sorted(tensors.keys() - set(loaded))
    return jax.tree.unflatten(structure, leaves), Report(loaded, missing, unused)


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


def _check_prefixes(allow_missing: Sequence[str], names: Sequence[str]) -> None:
    for block in allow_missing:
        if not any(_is_in(name, block) for name in names):
            raise ValueError(
                f'config.model.encoder.allow_missing names {block!r}, with which nothing of the '
                'encoder begins; stem, layer1 .. layer4 and such as layer4.0 do'
            )


def _is_in(name: str, block: str) -> bool:
    """Whether a tensor is of a block, 'stem' or the beginning of its name up to a dot."""
    if block == 'stem':
        return _is_in(name, 'conv1') or _is_in(name, 'bn1')
    return name.startswith(f'{block}.') or name == block


def _find_prefix(tensors: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
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
            "the file has no tensor under torchvision's names of a ResNet (conv1.weight, "
            f'layer1.0.conv1.weight, ...); it has {_listed(sorted(tensors)) or "none at all"}'
        )
    most = max(counts.values())
    best = sorted(prefix for prefix, count in counts.items() if count == most)
    if len(best) > 1:
        raise ValueError(
            f'the file has several networks, {best[0]}conv1... and {best[1]}conv1...; leave one'
        )
    return best[0]


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more


def _guess(names: Mapping[str, Any]) -> str:
    """Says which encoder the names would fit, if it is one of ours."""
    blocks = {m.groups() for n in names if (m := re.match(r'layer([1-4])\.(\d+)\.conv1', n))}
    sizes = tuple(sum(stage == str(number) for stage, _ in blocks) for number in range(1, 5))
    kind = 'bottleneck' if 'layer1.0.conv3.weight' in names else 'basic'
    known = [name for name, encoder in resnet.ENCODERS.items() if encoder == (sizes, kind)]
    return f' (its blocks are those of {known[0]})' if known else ''


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
