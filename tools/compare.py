r"""Compares two runs on the same examples: the difference, with its paired bootstrap interval.

  python -m tools.compare runs/hybrid runs/cnn --name='CNN + LSTM minus CNN alone' [--split=test]
  python -m tools.compare hybrid,hybrid_seed1 cnn,cnn_seed1 --name='the same, both seeds'

A run is a workdir, or the name of a run whose predictions are kept in results/predictions/. Both
sides must hold the same examples. If a side names several runs, such as seeds, each example counts
with the mean of their errors. The figures go to results/comparisons.json, one entry for each name,
from which a result table is made.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from hybrid import files
from hybrid.scores import comparison
from hybrid.scores.predictions_csv import read_predictions
from tools.kept import RESULTS, predictions_path

PATH = RESULTS / 'comparisons.json'


def find_predictions(run: str, split: str) -> pathlib.Path:
    """Finds the predictions.csv of a workdir, or the one that is kept of a run of that name.

    Raises:
      ValueError: when there is neither.
    """
    paths = (
        pathlib.Path(run) / 'evaluation' / split / 'predictions.csv',
        predictions_path(run, split),
    )
    for path in paths:
        if path.exists():
            return path
    raise ValueError(
        f'{run}: there is neither {paths[0]} nor {paths[1]}: evaluate the run on {split}, or name '
        'its workdir'
    )


def compare_runs(a: Sequence[str], b: Sequence[str], split: str) -> dict[str, float]:
    """As `comparison.compare`, of workdirs or names of runs.

    Raises:
      ValueError: likewise, or when no example has the label that a score needs.
    """
    rows = [[read_predictions(find_predictions(run, split)) for run in runs] for runs in (a, b)]
    scores = comparison.compare(*rows)
    for name in ('age/mae', 'gender/accuracy'):
        if name not in scores:
            raise ValueError(f'no example has the label that {name} needs')
    return scores


def names(runs: Sequence[str]) -> str:
    """Returns what runs are called in results/, separated by commas."""
    return ','.join(pathlib.Path(run).resolve().name for run in runs)


def main() -> None:
    """Compares, prints the figures, and keeps them in results/comparisons.json."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('a', help='workdir, or name of a run in results/predictions/')
    parser.add_argument('b', help='the run whose scores are subtracted')
    parser.add_argument('--name', required=True, help="the comparison's")
    parser.add_argument('--split', default='test')
    options = parser.parse_args()
    try:
        scores = compare_runs(options.a.split(','), options.b.split(','), options.split)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {options.a} minus {options.b} on {options.split}: {error}')
    kept = json.loads(PATH.read_text()) if PATH.exists() else {}
    sides = {name: names(getattr(options, name).split(',')) for name in 'ab'}
    kept[options.name] = {**sides, 'split': options.split, 'scores': scores}
    files.write_json(PATH, kept)
    print(json.dumps(kept[options.name], indent=2))


if __name__ == '__main__':
    main()
