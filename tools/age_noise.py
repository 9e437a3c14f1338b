r"""Checks the widths of predictions against a noise that is known, that of drawn faces' labels.

  D="--config.data.parameters={'age_noise':8.0}"
  python -m hybrid --workdir=runs/dex $D --config.model.head.age=dex
  python -m hybrid --mode=evaluate --split=test --workdir=runs/dex --config.data.parameters={} \
      --output=true/dex
  python -m tools.age_noise 8 runs/dex=true/dex
  python -m tools.table

The second command evaluates on the same faces with their true ages. A width is right if it is the
square root of the noise squared plus the model's squared error against these. Ages from 20 to 80
count, so that the ends of the scale cut off neither noise nor widths. The figures of every run go
to results/age_noise.json.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hybrid import files
from hybrid.runs.provenance import describe_sessions
from hybrid.scores import intervals
from hybrid.scores.predictions_csv import read_predictions
from hybrid.scores.rows import Rows
from tools.kept import RESULTS
from tools.rows import markdown

PATH = RESULTS / 'age_noise.json'
# The share of a normal distribution that lies within one standard deviation.
ONE_SIGMA = 0.6827


def check(noise: float, validation: Rows, noisy: Rows, true: Rows) -> dict[str, float]:
    """Returns widths in years: `right`, the `learned` one, and two of conformal intervals.

    Args:
      noise: The standard deviation of the noise in years.
      validation: What the model predicts for the validation split, whose labels are noisy.
      noisy: What it predicts for the test split; the labels do not matter.
      true: The same faces with their true ages.

    Raises:
      ValueError: when they are not the same faces.
    """
    noisy, true = noisy.by_id(), true.by_id()
    if not np.array_equal(noisy['id'], true['id']):
        raise ValueError('the evaluations with noisy and with true ages are not of the same faces')
    inner = (true['age'] >= 20) & (true['age'] <= 80)
    noisy, true = noisy.take(inner), true.take(inner)
    predicted, width = noisy['predicted_age'], noisy['age_width']
    error = float(np.sqrt(np.mean((predicted - true['age']) ** 2)))
    found = {
        'faces': int(inner.sum()),
        'error': error,
        'right': float(np.hypot(noise, error)),
        'learned': float(np.sqrt(np.mean(width**2))),
    }
    for name, scale, widths in (
        ('absolute', None, None),
        ('scaled', validation['age_width'], width),
    ):
        conformal = intervals.fit(validation['age'], validation['predicted_age'], scale)
        if conformal is None:
            raise ValueError('the validation split has too few faces to fit intervals to')
        low, high = conformal(predicted, widths, ONE_SIGMA)
        found[name] = float(np.mean(high - low) / 2)
    return found


def age_noise_table(kept: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Shows every width and by how much it differs from the right one."""

    def rows() -> Iterator[Sequence[str]]:
        for head, entry in kept.items():
            widths = (entry[name] for name in ('learned', 'absolute', 'scaled'))
            cells = (f'{w:.2f} ({100 * (w / entry["right"] - 1):+.1f} %)' for w in widths)
            yield f'`{head}`', f'{entry["error"]:.2f}', f'{entry["right"]:.2f}', *cells

    columns = ('', 'error against true ages', 'right width', 'learned width')
    return markdown((*columns, 'conformal, absolute', 'conformal, scaled'), rows())


def main() -> None:
    """Checks runs, and keeps the figures in results/age_noise.json."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('noise', type=float, help='its standard deviation in years')
    parser.add_argument('runs', nargs='+', metavar='WORKDIR=FOLDER', help='what is described above')
    options = parser.parse_args()
    kept = {}
    try:
        for argument in options.runs:
            folder, _, other = argument.partition('=')
            evaluation = pathlib.Path(folder) / 'evaluation'
            true = list(pathlib.Path(other).glob('evaluation/**/test/predictions.csv'))
            if len(true) != 1:
                raise ValueError(f'{other} holds {len(true)} evaluations of test, not one')
            kept[pathlib.Path(folder).name] = {
                'noise': options.noise,
                **describe_sessions(pathlib.Path(folder)),
                **check(
                    options.noise,
                    read_predictions(evaluation / 'validation' / 'predictions.csv'),
                    read_predictions(evaluation / 'test' / 'predictions.csv'),
                    read_predictions(true[0]),
                ),
            }
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    files.write_json(PATH, (json.loads(PATH.read_text()) if PATH.exists() else {}) | kept)


if __name__ == '__main__':
    main()
