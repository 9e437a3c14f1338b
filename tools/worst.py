r"""Draws the faces whose ages a run got most wrong, to look at them.

  python -m tools.worst runs/hybrid [--split=test] [--count=20]
  python -m tools.worst runs/A+B      # made by --mode=evaluate --workdir=A,B

The picture goes to worst.png beside the predictions. It holds faces of the dataset, so do not
commit it.
"""

import argparse
import json
import pathlib

import numpy as np

from hybrid.data import input_pipeline, prepared
from hybrid.runs import workdir as workdir_lib
from hybrid.scores import outcomes, plots
from hybrid.scores.rows import Rows, read_predictions
from tools.record import combined_workdirs


def worst_rows(rows: Rows, count: int) -> np.ndarray:
    """Places of the `count` rows with the largest errors of age, the largest first."""
    error = outcomes.absolute_age_error(rows['predicted_age'], rows['age'])
    order = np.argsort(-error, kind='stable')  # unknown ages, NaN, come last
    return order[: min(count, np.count_nonzero(~np.isnan(error)))]


def caption(rows: Rows, k: int) -> str:
    """Labels and predictions of a row."""
    gender = ('male', 'female', 'unknown')[rows['gender'][k]]
    female = rows['female_probability'][k]
    return (
        f'{rows["age"][k]:.0f} years, {gender}\npredicted {rows["predicted_age"][k]:.0f}, '
        f'female {100 * female:.0f} %\n{rows["id"][k][:28]}'
    )


def trained_in(workdir: pathlib.Path, evaluated: pathlib.Path) -> pathlib.Path:
    """Returns the workdir itself, or the first of the runs that were evaluated together."""
    if (workdir / workdir_lib.CONFIG).exists():
        return workdir
    about = json.loads((evaluated / 'evaluation.json').read_text())
    return combined_workdirs(workdir, about)[0]


def main() -> None:
    """Draws the picture, and prints the captions."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('workdir', type=pathlib.Path)
    parser.add_argument('--split', default='test')
    parser.add_argument('--count', type=int, default=20)
    options = parser.parse_args()
    folder = options.workdir / 'evaluation' / options.split
    if not (folder / 'predictions.csv').exists():
        parser.error(f'{folder} holds no predictions.csv: evaluate that split first')
    rows = read_predictions(folder / 'predictions.csv')
    try:
        config = workdir_lib.load_config(trained_in(options.workdir, folder))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    builder = prepared.create_builder(config)
    ids = input_pipeline.read_columns(builder, options.split)['id'].tolist()
    source = builder.as_data_source(options.split)
    places = worst_rows(rows, options.count)
    if not len(places):
        parser.error('there is nothing to show: no age is known, or --count is 0')
    images = [source[ids.index(rows['id'][k])]['image'] for k in places]
    captions = [caption(rows, k) for k in places]
    plots.draw_faces(images, captions, folder / 'worst.png')
    for text in captions:
        print(text.replace('\n', ', '))
    print(folder / 'worst.png')


if __name__ == '__main__':
    main()
