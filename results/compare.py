r"""The difference of two runs on the same examples, with its paired bootstrap interval.

  python -m results.compare runs/hybrid runs/cnn --name='CNN + LSTM less CNN alone' [--split=test]
  python -m results.compare hybrid cnn --name='CNN + LSTM less CNN alone'

A run is a workdir, or the name of one whose predictions are kept in results/predictions/. Both must
hold the same examples. The figures go to results/comparisons.json, one entry a name, from which
README's table is made. Runs from the project's root.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import numpy as np

from hybrid import bootstrap, report
from hybrid import workdir as workdir_lib

FOLDER = pathlib.Path(__file__).resolve().parent
PATH = FOLDER / 'comparisons.json'


def predictions_path(name: str, split: str) -> pathlib.Path:
    """Where the predictions of a run are kept."""
    return FOLDER / 'predictions' / f'{name}.{split}.csv'


def find_predictions(run: str, split: str) -> pathlib.Path:
    """The predictions.csv of a workdir, or the kept one of a run of that name.

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
    raise ValueError(f'{run}: there is neither {paths[0]} nor {paths[1]}')


def compare(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    """Scores of rows `a` less those of rows `b`, as `report.read_predictions` gives them.

    Returns:
      `age/mae` in years and `gender/accuracy`, each with the ends of its 95 % interval, over the
      examples with known labels.

    Raises:
      ValueError: when they are not the same examples with the same labels, or none is labelled.
    """
    order_a, order_b = np.argsort(a['id']), np.argsort(b['id'])
    for name in ('id', 'age', 'gender'):
        equal_nan = name == 'age'
        if not np.array_equal(a[name][order_a], b[name][order_b], equal_nan=equal_nan):
            raise ValueError(
                f'the two runs were not evaluated on the same examples: {name} differs'
            )

    def values(rows, order):
        rows = {name: column[order] for name, column in rows.items()}
        error = np.abs(rows['predicted_age'].astype(np.float64) - rows['age'])
        right = (rows['female_probability'] > 0.5) == rows['gender']
        return error[~np.isnan(rows['age'])], right[rows['gender'] >= 0].astype(np.float64)

    scores: dict[str, float] = {}
    for name, of_a, of_b in zip(
        ('age/mae', 'gender/accuracy'), values(a, order_a), values(b, order_b), strict=True
    ):
        if not len(of_a):
            raise ValueError(f'no example has the label that {name} needs')
        difference, low, high = bootstrap.paired_bootstrap(of_a, of_b)
        scores |= {name: difference, f'{name}_ci95_low': low, f'{name}_ci95_high': high}
        scores[f'{name}_num_examples'] = len(of_a)
    return scores


def main() -> None:
    """Compares, prints and keeps; the runs are called as their files in results/ are."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('a', help='workdir, or name of a run in results/predictions/')
    parser.add_argument('b', help='that whose scores are subtracted')
    parser.add_argument('--name', required=True, help='of the comparison')
    parser.add_argument('--split', default='test')
    options = parser.parse_args()
    try:
        rows = [
            report.read_predictions(find_predictions(run, options.split))
            for run in (options.a, options.b)
        ]
        scores: dict[str, Any] = compare(*rows)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    kept = json.loads(PATH.read_text()) if PATH.exists() else {}
    runs = {name: pathlib.Path(getattr(options, name)).resolve().name for name in 'ab'}
    kept[options.name] = {**runs, 'split': options.split, 'scores': scores}
    workdir_lib.write_json(PATH, kept)
    print(json.dumps(kept[options.name], indent=2))


if __name__ == '__main__':
    main()
