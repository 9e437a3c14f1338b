"""Exports trained models: as ONNX, StableHLO and plain arrays, with a program that uses them."""

import logging
import os
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from hybrid.modes.pages import card
from hybrid.modes.pages.blocks import Listing, Paragraph
from hybrid.runs import member_weights, trained
from hybrid.runs.export import folder as export_folder
from hybrid.runs.trained import Trained

_LOG = logging.getLogger(__name__)

_USAGE = (
    Paragraph(
        'Here are the whole model as ONNX and as StableHLO, its parameters as safetensors, and '
        'a description of inputs, outputs and files, model.json. Images are crops of one face '
        'each, cut as it says. This predicts them, with NumPy, Pillow and onnxruntime:'
    ),
    Listing('python predict.py face1.jpg face2.jpg --output=predictions.csv', 'bash'),
    Paragraph('In Python, with hybrid installed, whole photographs too:'),
    Listing(
        'import hybrid\n\n'
        "model = hybrid.load('.')\n"
        "print(model.predict(['face1.jpg', 'face2.jpg']).age)\n"
        "print(model.predict_photos('party.jpg').age)",
        'python',
    ),
)


def export(
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    checkpoint: str,
    output: pathlib.Path | None,
) -> pathlib.Path:
    """Does `--mode=export`: exports a model, or several that are combined.

    Args:
      configs: The configs of the workdirs. `evaluate` of the first one says which intervals.
      folders: The workdirs.
      checkpoint: `best` or `last`.
      output: The folder to make, or an export that is to be replaced.

    Raises:
      ValueError, OSError, RuntimeError: as `runs.export.folder.write`.
    """
    if output is None:
        raise ValueError('--mode=export needs --output, the folder to make')
    export_folder.check(output)
    models = trained.restore_all(configs, folders, checkpoint)
    for line in trained.not_predicted(models):
        _LOG.info(line)
    return write(models, output)


def write(models: Sequence[Trained], output: str | os.PathLike) -> pathlib.Path:
    """Writes the whole folder; see `runs.export.folder.write`, which raises what goes wrong."""
    folder = export_folder.write(models, output)
    folders = list(dict.fromkeys(model.folder for model in models))
    card.write(
        folder / 'README.md',
        folders,
        evaluated=member_weights.combined_folder([model.results for model in models]),
        source=member_weights.predictor(models, member_weights.find(models)),
        usage=_USAGE,
        tags=['onnx'],
    )
    sizes = (f'{path.name} ({path.stat().st_size / 1e6:.1f} MB)' for path in folder.iterdir())
    _LOG.info('%s: %s', folder, ', '.join(sorted(sizes)))
    return folder
