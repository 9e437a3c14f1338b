r"""Combines runs of which only the kept predictions are left, and records what that gives.

  python -m tools.combine all_combined run_a run_b run_c --table=utkface --order=49 --label='...'
  python -m tools.table

The combined age is the mean of the runs' ages, the probability of female the mean of theirs.
`--mode=evaluate --workdir=A,B` averages distributions of age instead, but needs the checkpoints. An
example leaks if one of the runs has seen it.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid import files
from hybrid.scores import metrics
from hybrid.scores.predictions_csv import read_predictions, write_predictions
from hybrid.scores.rows import Rows
from tools.kept import RESULTS, predictions_path

PREDICTED = ('predicted_age', 'female_probability')
LABELS = ('id', 'age', 'gender', 'constant_age', 'constant_gender')


def combine(of_runs: Sequence[Rows]) -> Rows:
    """Averages what runs predict for the same examples.

    Raises:
      ValueError: when they are of different examples, or of other labels.
    """
    of_runs = [rows.by_id() for rows in of_runs]
    first = of_runs[0]
    for other in of_runs[1:]:
        if any(not np.array_equal(first[name], other[name], name == 'age') for name in LABELS):
            raise ValueError('the runs were evaluated on different examples, or trained on others')
    columns = {name: first[name] for name in (*LABELS, *first.subgroups)}
    for name in PREDICTED:
        mean = np.mean([rows[name].astype(np.float64) for rows in of_runs], axis=0)
        columns[name] = mean.astype(np.float32)
    if seen := [rows['leak'] for rows in of_runs if 'leak' in rows]:
        columns['leak'] = np.any(seen, axis=0)
    return dataclasses.replace(first, columns=columns)


def main() -> None:
    """Writes results/NAME.json and the predictions."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('name')
    parser.add_argument('runs', nargs='+', metavar='run', help='with a record in results/')
    parser.add_argument('--table', required=True, help='the table that shows it')
    parser.add_argument('--label', required=True, help='what its row is called')
    parser.add_argument('--order', type=int, default=0, help='rows are sorted by this number')
    options = parser.parse_args()
    try:
        records = [json.loads((RESULTS / f'{run}.json').read_text()) for run in options.runs]
        combined = {
            split: combine([read_predictions(predictions_path(run, split)) for run in options.runs])
            for split in records[0]['splits']
        }
        splits: dict[str, Any] = {}
        for split, rows in combined.items():
            path = predictions_path(options.name, split)
            write_predictions(rows, path)
            scores = metrics.compute_metrics(read_predictions(path))  # As they were rounded.
            known = {name: None if math.isnan(value) else value for name, value in scores.items()}
            about = {'dataset': records[0]['dataset']['name'], 'split': split}
            splits[split] = {'about': about, 'metrics': known}
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    commits = [commit for record in records for commit in record['commit'].split(', ')]
    kept = {
        'command': f'python -m tools.combine {options.name} {" ".join(options.runs)}',
        'commit': ', '.join(dict.fromkeys(commits)),
        'dataset': records[0]['dataset'],
        'label': options.label,
        'machine': ' and '.join(dict.fromkeys(record['machine'] for record in records)),
        'order': options.order,
        'remark': 'from kept predictions',
        'runs': options.runs,
        'seconds': round(sum(record['seconds'] for record in records), 1),
        'splits': splits,
        'table': options.table,
    }
    path = RESULTS / f'{options.name}.json'
    files.write_json(path, kept)
    print(path)


if __name__ == '__main__':
    main()
