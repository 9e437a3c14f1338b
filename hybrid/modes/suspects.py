"""Labels of a dataset that look wrong to a model: read from evaluations, and drawn."""

import pathlib
from collections.abc import Sequence

from hybrid import files
from hybrid.data.parts import Part
from hybrid.modes import score
from hybrid.scores import plots, suspects

MOST_DRAWN = 25


def find(paths: Sequence[str], part: Part) -> list[suspects.Suspect]:
    """Finds them by the files predictions.csv of evaluations of splits of a dataset.

    Raises:
      ValueError: when a file is no such table, or is of another dataset.
    """
    ids = {one for columns in part.columns.values() for one in columns['id'].tolist()}
    tables = []
    for path in paths:
        table = score.read_table(pathlib.Path(path).expanduser())
        if foreign := [name for name in table['id'].tolist() if name not in ids]:
            raise ValueError(
                f'--input={path}: {foreign[0]!r} is no example of {part.builder.info.full_name}; '
                'name the dataset that was evaluated as config.data.dataset'
            )
        tables.append(table)
    return suspects.find(tables)


def write(found: list[suspects.Suspect], part: Part, folder: pathlib.Path) -> list[str]:
    """Writes suspects.csv and, if there are any, suspects.png; returns the names of the files."""
    files.replace(folder / 'suspects.csv', suspects.to_csv(found))
    if not found:
        return ['suspects.csv']
    _draw(found, part, folder / 'suspects.png')
    return ['suspects.csv', 'suspects.png']


def _draw(found: Sequence[suspects.Suspect], part: Part, path: pathlib.Path) -> None:
    """Draws the faces of the most suspected labels, `MOST_DRAWN` of age and as many of gender."""
    shown: list[suspects.Suspect] = []
    for what in ('age', 'gender'):
        shown += [one for one in found if one.what == what][:MOST_DRAWN]
    sources = {split: part.builder.as_data_source(split) for split in part.columns}
    places = {
        name: (split, k)
        for split, columns in part.columns.items()
        for k, name in enumerate(columns['id'].tolist())
    }
    images = []
    for one in shown:
        split, k = places[one.id]
        images.append(sources[split][k]['image'])
    captions = [f'{s.what} {s.label}\npredicted {s.predicted}\n{s.id[:28]}' for s in shown]
    plots.draw_faces(images, captions, path)
