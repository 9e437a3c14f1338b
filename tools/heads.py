r"""Compares age heads, each trained with several seeds, with the regression on the same examples.

  python -m tools.heads --budget='64 px, 4 epochs' mse=runs/mse_s0,runs/mse_s1 \
      dex=runs/dex_s0,runs/dex_s1 --medians='evaluations/{}_median'
  python -m tools.table

The first head is the one that the others are compared with. `--medians` says where a run was
evaluated with `--config.evaluate.age_estimate=median`, with its name for {}. Validation scores go
to results/heads.json, one entry for each budget; results/experiments.md shows them as a table.
"""

import argparse
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hybrid import files
from hybrid.runs.provenance import describe_sessions
from hybrid.scores import bootstrap, comparison, outcomes
from hybrid.scores.predictions_csv import read_predictions
from hybrid.scores.rows import Rows
from tools.compare import find_predictions
from tools.kept import RESULTS
from tools.rows import markdown

PATH = RESULTS / 'heads.json'
# How a score of examples is printed: its name, its unit and its digits.
SCORES = {
    'age/mae': ('MAE of the mean', 1, 2),
    'median_age/mae': ('MAE of the median', 1, 2),
    'age/cs5': ('CS@5 of the mean', 100, 1),
    'age/crps': ('CRPS', 1, 2),
    'gender/accuracy': ('gender accuracy', 100, 1),
}


def example_scores(rows: Rows, median: Rows | None = None) -> dict[str, np.ndarray]:
    """Returns scores [N] of every example of a run by name.

    Args:
      rows: What the run predicts, in the order of the ids.
      median: What it predicts if the median of its distribution is the estimate, or None. A single
        number is its own median, and its CRPS is the absolute error.
    """

    def error(columns: Rows) -> np.ndarray:
        low, high = outcomes.age_bounds(columns)
        return outcomes.absolute_age_error(columns['predicted_age'], low, high)

    absolute = error(rows)
    return {
        'age/mae': absolute,
        'median_age/mae': error(median) if median else absolute,
        'age/cs5': (absolute <= 5).astype(float),
        'age/crps': rows.get('age_crps', absolute),
        'gender/accuracy': outcomes.is_right(rows['female_probability'], rows['gender']),
    }


def compare(
    head: Sequence[Mapping[str, np.ndarray]], first: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Returns the scores of each seed, and the paired difference of both seeds' to the first head.

    Args:
      head: The scores of examples for every seed.
      first: Those of the head that it is compared with.
    """
    scores = {name: [float(np.mean(seed[name])) for seed in head] for name in SCORES}
    if head is first:
        return {'scores': scores}
    difference = {}
    for name in SCORES:
        a, b = (np.mean([seed[name] for seed in seeds], axis=0) for seeds in (head, first))
        difference[name] = bootstrap.paired_bootstrap(a, b)
    return {'scores': scores, 'difference': difference}


def read_run(run: str, medians: str) -> list[Rows]:
    """Reads what a workdir predicts for its validation split, and by the median if that differs.

    Args:
      run: The workdir.
      medians: The folder of its evaluation by the median, with {} for the name of the workdir.
    """
    rows = read_predictions(find_predictions(run, 'validation')).by_id()
    if 'age_crps' not in rows:
        return [rows]
    folder = medians.format(pathlib.Path(run).name)
    return [rows, read_predictions(find_predictions(folder, 'validation')).by_id()]


def describe(runs: Sequence[str]) -> dict[str, Any]:
    """Says where the figures of a head's runs come from."""
    sessions = [describe_sessions(pathlib.Path(run)) for run in runs]
    return {
        'runs': [pathlib.Path(run).name for run in runs],
        'commits': sorted({session['commit'] for session in sessions}),
        'machine': sessions[0]['machine'],
        'commands': [session['command'] for session in sessions],
    }


def heads_table(kept: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Shows means over seeds and differences to the first head, the others by their best MAE."""

    def cell(entry: Mapping[str, Any], name: str) -> str:
        _, unit, digits = SCORES[name]
        text = f'{unit * np.mean(entry["scores"][name]):.{digits}f}'
        if name not in entry.get('difference', {}):
            return text
        center, low, high = (f'{unit * x:+.{digits}f}' for x in entry['difference'][name])
        return f'{text}; {center} ({low} to {high})'

    def order(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, float]:
        scores = item[1]['scores']
        best = min(np.mean(scores[name]) for name in ('age/mae', 'median_age/mae'))
        return 'difference' in item[1], float(best)

    def rows() -> Iterator[Sequence[str]]:
        for budget, heads in kept.items():
            yield f'**{budget}**', *[''] * (len(SCORES) + 1)
            for head, entry in sorted(heads.items(), key=order):
                yield f'`{head}`', *(cell(entry, name) for name in SCORES), str(len(entry['runs']))

    return markdown(('', *(label for label, _, _ in SCORES.values()), 'seeds'), rows())


def main() -> None:
    """Compares the heads, and keeps the figures in results/heads.json."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('heads', nargs='+', metavar='HEAD=WORKDIR,...', help='one for each seed')
    parser.add_argument('--budget', required=True, help='what all of them have in common')
    parser.add_argument('--medians', default='', help='folders, {} for the name of the workdir')
    options = parser.parse_args()
    kept: dict[str, Any] = {}
    first: list[dict[str, np.ndarray]] = []
    labels: list[Rows] = []
    try:
        for argument in options.heads:
            head, _, workdirs = argument.partition('=')
            runs = workdirs.split(',')
            read = [read_run(run, options.medians) for run in runs]
            labels = labels or read[0]
            comparison.check_same_examples([*labels, *itertools.chain(*read)])
            seeds = [example_scores(*rows) for rows in read]
            first = first or seeds
            kept[head] = describe(runs) | compare(seeds, first)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    everything = json.loads(PATH.read_text()) if PATH.exists() else {}
    files.write_json(PATH, everything | {options.budget: kept})


if __name__ == '__main__':
    main()
