"""Labels of a dataset that look wrong to a model: read from evaluations, and drawn."""

import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np

from hybrid import files
from hybrid.data import records
from hybrid.data.parts import Part
from hybrid.modes import score
from hybrid.scores import plots, suspects

MOST_DRAWN = 25
_LABELS = ('age', 'age_min', 'age_max', 'gender')


def find(paths: Sequence[str], part: Part) -> list[suspects.Suspect]:
    """Finds them by the files predictions.csv of evaluations of splits of a dataset.

    The labels are the dataset's, which may have been corrected since.

    Raises:
      ValueError: when a file is no such table, or is of another dataset, or an example is there
        twice.
    """
    splits = part.columns.values()
    columns = {name: np.concatenate([x[name] for x in splits]) for name in ('id', *_LABELS)}
    places = {name: k for k, name in enumerate(columns['id'].tolist())}
    tables = []
    seen: set[str] = set()
    for path in paths:
        table = score.read_table(files.expanded(path))
        for name in table['id'].tolist():
            if name not in places:
                raise ValueError(
                    f'--input={path}: {name!r} is no example of {part.builder.info.full_name}; '
                    'name the dataset that was evaluated as config.data.dataset'
                )
            if name in seen:
                raise ValueError(
                    f'--input={path}: {name!r} is there or in another file, too; name files of '
                    'different splits or folds (--mode=evaluate combines models)'
                )
            seen.add(name)
        where = [places[name] for name in table['id'].tolist()]
        tables.append(table.replace({name: columns[name][where] for name in _LABELS}))
    return suspects.find(tables)


def write(found: list[suspects.Suspect], part: Part, folder: pathlib.Path) -> list[str]:
    """Writes suspects.csv and, if there are any, suspects.png; returns the names of the files."""
    files.replace(folder / 'suspects.csv', suspects.to_csv(found))
    if not found:
        (folder / 'suspects.png').unlink(missing_ok=True)  # of an audit before
        return ['suspects.csv']
    _draw(found, part, folder / 'suspects.png')
    return ['suspects.csv', 'suspects.png']


def _draw(found: Sequence[suspects.Suspect], part: Part, path: pathlib.Path) -> None:
    """Draws the faces of the most suspected labels, `MOST_DRAWN` of age and as many of gender."""
    shown: list[suspects.Suspect] = []
    for what in ('age', 'gender'):
        shown += [one for one in found if one.what == what][:MOST_DRAWN]
    images: dict[str, np.ndarray] = {}
    for split, columns in part.columns.items():
        ids = [one.id for one in shown]
        images |= records.read_images(part.builder, split, columns, ids)
    captions = []
    for s in shown:
        name = textwrap.fill(s.id[-56:], 28)  # of long ones the end, in which they differ
        captions.append(f'{s.what} {s.label}\npredicted {s.predicted}\n{name}')
    plots.draw_faces([images[one.id] for one in shown], captions, path)
