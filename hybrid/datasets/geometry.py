"""How the faces of a dataset were cut, as it is recorded with the dataset and with a run."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

_LOG = logging.getLogger(__name__)

FILE = 'geometry.json'
# `geometry` is one of these, or `aligned` or `box`; the other entries say more.
AS_GIVEN = {'geometry': 'as_given'}
UTKFACE_CHIPS = {'geometry': 'utkface_chips'}

Geometry = Mapping[str, Any]


def write(folder: epath.PathLike, geometry: Geometry) -> None:
    """Writes a record into the folder of a prepared dataset, or of faces that were cut."""
    (epath.Path(folder) / FILE).write_text(json.dumps(dict(geometry), indent=2) + '\n')


def read(folder: epath.PathLike) -> Geometry | None:
    """Reads the record of a folder; None if there is none.

    Raises:
      ValueError: when it is damaged.
    """
    path = epath.Path(folder) / FILE
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if isinstance(record['geometry'], str):
            return record
    except (ValueError, TypeError, KeyError):
        pass
    raise ValueError(f'{path} is damaged: it does not say how the faces were cut')


def of_name(dataset: str) -> Geometry:
    """What holds for datasets, and runs on them, that have no record: they are from before it."""
    return UTKFACE_CHIPS if dataset.split('/')[0] == 'utkface' else AS_GIVEN


def of(builder: tfds.core.DatasetBuilder) -> Geometry:
    """How the faces of a prepared dataset were cut."""
    return read(builder.data_path) or of_name(builder.name)


def describe(geometry: Geometry) -> str:
    """How such faces were cut, for people."""
    if geometry['geometry'] == 'box':
        return f'cut by boxes with a margin of {geometry["margin"]}'
    if _framing(geometry) == _framing(UTKFACE_CHIPS):
        return "aligned as UTKFace's are"
    return {'as_given': 'taken as they came'}.get(geometry['geometry'], 'cut in another way')


def differ(one: Geometry, other: Geometry) -> bool:
    """Whether faces are framed in two ways.

    The template of alignment is fitted to UTKFace's chips, so these are framed as what it aligns.
    Neither the detector nor the size in pixels matters.
    """
    return _framing(one) != _framing(other)


def warn(run: object, trained_on: Geometry, name: str, shown: Geometry) -> None:
    """Warns, in one line, if a run is shown faces that are framed in another way than its own.

    Args:
      run: The folder of the run.
      trained_on: The record of the faces that it was trained on.
      name: Of the dataset that it is shown now.
      shown: The record of that.
    """
    if differ(trained_on, shown):
        _LOG.warning(
            '%s was trained on faces %s; those of %s are %s. Expect worse predictions; '
            'config.data.parameters={"align": true} aligns the faces of face_csv and imdb_wiki',
            run,
            describe(trained_on),
            name,
            describe(shown),
        )


def warn_of_photographs(run: object, trained_on: Geometry) -> None:
    """Warns if a run that was trained on boxes is shown faces that were found and aligned."""
    if trained_on['geometry'] == 'box':  # Of faces that came as they were, nobody knows.
        warn(run, trained_on, 'photographs', UTKFACE_CHIPS)


def _framing(geometry: Geometry) -> tuple[Any, ...]:
    kind = geometry['geometry']
    if kind in ('aligned', 'utkface_chips'):
        return 'aligned', geometry.get('template', 1)
    return kind, geometry.get('margin')
