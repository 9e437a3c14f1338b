"""Exports trained models: as ONNX, StableHLO and plain arrays, with a program that uses them."""

import logging
import os
import pathlib
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from hybrid.runs import trained
from hybrid.runs.export import folder as export_folder
from hybrid.runs.trained import Trained

_LOG = logging.getLogger(__name__)

# What else is written into the folder of an export, when the rest is there: a function of the
# models and the folder each. The place for the model card, README.md.
MORE: list[Callable[[Sequence[Trained], pathlib.Path], None]] = []


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
    for write_more in MORE:
        write_more(models, folder)
    sizes = (f'{path.name} ({path.stat().st_size / 1e6:.1f} MB)' for path in folder.iterdir())
    _LOG.info('%s: %s', folder, ', '.join(sorted(sizes)))
    return folder
