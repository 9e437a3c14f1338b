"""Writes an export: one folder with the model in three forms, and a program that uses it."""

import hashlib
import importlib.util
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from hybrid import __version__, devices, files
from hybrid.runs import calibration, member_weights
from hybrid.runs.export import members as members_lib
from hybrid.runs.export.members import Member
from hybrid.runs.export.predict import DESCRIPTION, FORMAT, MODEL
from hybrid.runs.trained import Trained

_LOG = logging.getLogger(__name__)

HALF, STABLEHLO, WEIGHTS = 'model_fp16.onnx', 'model.stablehlo', 'weights.safetensors'
PROGRAM = 'predict.py'
# It is there while an export is written.
UNFINISHED = 'unfinished.json'
# What may be in a folder that is written anew, and what `files.replacing` leaves if it is killed.
_WHOLE = {DESCRIPTION, MODEL, HALF, STABLEHLO, WEIGHTS, PROGRAM, 'README.md', UNFINISHED}
_OURS = _WHOLE | {f'{name}.partial' for name in _WHOLE}


def check(output: str | os.PathLike) -> pathlib.Path:
    """The folder of an export.

    Raises:
      RuntimeError: when the package onnx is not installed.
      ValueError, OSError: when nothing may be written there.
    """
    if importlib.util.find_spec('onnx') is None:
        raise RuntimeError(
            "an export needs the package onnx, which is not installed: pip install -e '.[export]'"
        )
    folder = files.expanded(output)
    files.check_folder(folder)
    names = set(files.visible(folder))
    # Somebody else's model.onnx and README.md may have the same names.
    others = names - _OURS - {'__pycache__'} if _is_ours(folder) else names
    if others:
        raise ValueError(
            f'--output={output} holds {min(others)}, which is no part of an export; name a new '
            'folder'
        )
    return folder


def _is_ours(folder: pathlib.Path) -> bool:
    """Whether a folder holds an export of this program, or what an interrupted one has left."""
    if (folder / UNFINISHED).exists() or (folder / f'{UNFINISHED}.partial').exists():
        return True
    try:
        record = json.loads((folder / DESCRIPTION).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get('format') == FORMAT


def write(models: Sequence[Trained], output: str | os.PathLike) -> pathlib.Path:
    """Exports one model, or several that are combined, with all that their predictions take.

    Args:
      models: What is exported. The first one's `config.evaluate` says which intervals.
      output: The folder to make, or an export that is to be replaced.

    Returns:
      The folder.

    Raises:
      RuntimeError: when the package onnx is not installed.
      ValueError, OSError: when nothing may be written there, a part of a model cannot be exported,
        or models want faces of several sizes.
    """
    folder = check(output)
    if devices.process_count() > 1:
        raise ValueError('models are exported in one process, not in several together')
    sizes = sorted({model.config.data.resize_size for model in models})
    if len(sizes) > 1:
        raise ValueError(
            f'these models want faces of several sizes, config.data.resize_size is one of {sizes}; '
            'export each by itself'
        )
    # These import onnx.
    from hybrid.runs.export import description, network, stablehlo
    from hybrid.runs.export.graph import Graph

    weights = member_weights.find(models)
    calibrated = calibration.find(models, weights)
    for line in calibration.why_no_intervals(models, calibrated):
        _LOG.info(line)
    members = members_lib.find(models)
    shares = members_lib.shares(models, members, weights)
    arguments = (members, shares, calibrated, models[0].config.evaluate)
    graphs = {MODEL: Graph()}
    outputs = {MODEL: network.write(graphs[MODEL], *arguments)}
    try:
        half = Graph(half=True)
        outputs[HALF] = network.write(half, *arguments)
        graphs[HALF] = half
    except OverflowError as error:
        _LOG.warning('%s is left out: %s', HALF, error)
    record = description.describe(models, members, shares, calibrated, list(outputs[MODEL]))
    texts = description.metadata(record)
    contents = {}
    for name, graph in graphs.items():
        shapes = network.shapes(list(outputs[name]))
        ends = {output: (value, shapes[output]) for output, value in outputs[name].items()}
        model = graph.finish((network.IMAGE, sizes[0]), ends, texts, __version__)
        contents[name] = model.SerializeToString()
    contents[STABLEHLO] = stablehlo.write(stablehlo.create(*arguments), sizes[0])
    # One text, because the library writes several in any order.
    about = {'hybrid': json.dumps(texts, sort_keys=True)}
    contents[WEIGHTS] = safetensors.numpy.save(arrays(members), about)
    contents[PROGRAM] = pathlib.Path(__file__).with_name(PROGRAM).read_bytes()
    _write_files(folder, contents, record)
    return folder


def arrays(members: Sequence[Member]) -> dict[str, np.ndarray]:
    """The parameters and statistics of members by their names in weights.safetensors.

    Such as `member_0.encoder.layer1_0.conv1.kernel`: the modules of the network, from the outside
    in. Shapes are those of Flax: [height, width, inputs, outputs] of a convolution, [inputs,
    outputs] of a matrix.
    """
    named: dict[str, np.ndarray] = {}
    for member in members:
        for collection in member.variables.values():
            for path, leaf in jax.tree_util.tree_flatten_with_path(collection)[0]:
                name = jax.tree_util.keystr(path, simple=True, separator='.')
                named[f'{member.name}.{name}'] = np.ascontiguousarray(leaf)
    return named


def _write_files(
    folder: pathlib.Path, contents: Mapping[str, bytes], record: Mapping[str, Any]
) -> None:
    """Writes all files, model.json last: without it, a folder is no export."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / UNFINISHED, {'format': FORMAT})
    for name in _OURS - {UNFINISHED}:
        (folder / name).unlink(missing_ok=True)
    for name, content in contents.items():
        files.replace(folder / name, content)
    of_files = {
        name: {'bytes': len(content), 'sha256': hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    files.write_json(folder / DESCRIPTION, {**record, 'files': of_files})
    (folder / UNFINISHED).unlink()
