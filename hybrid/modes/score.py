"""Scores of predictions that are there already, an evaluation's or another program's."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from hybrid import files
from hybrid.scores import metrics, predictions_csv, report, rows, subgroups

# What has more values, such as a file's path, is no subgroup.
MOST_VALUES = 100
# With each column the number of crossed subgroups doubles at least.
MOST_SUBGROUPS = 6
_ABOUT, _PREDICTIONS = 'evaluation.json', 'predictions.csv'
_WRITTEN = (_PREDICTIONS, _ABOUT, 'metrics.json')


def score(source: str | os.PathLike, output: str | os.PathLike) -> metrics.Scores:
    """Does `--mode=score`: writes what an evaluation writes, and prints its table.

    If the table is called predictions.csv, or predictions.csv.gz, and evaluation.json lies beside
    it, as an evaluation leaves them, titles and the scores against the best member of an ensemble
    are the evaluation's, too, and it is copied.

    Args:
      source: A table of predictions and labels that `predictions_csv.read_predictions` reads.
      output: The folder for the results.

    Returns:
      The metrics, as `report.compute_metrics`.

    Raises:
      ValueError: when the file is no such table.
      OSError: when it cannot be read, or the folder cannot be written.
    """
    if not source or not output:
        raise ValueError('--mode=score needs --input=FILE.csv and --output=FOLDER')
    path, folder = (files.expanded(name) for name in (source, output))
    if folder.resolve() == path.resolve().parent:
        raise ValueError(f'--output={output} holds --input={path.name}: name another folder')
    files.check_folder(folder)
    there = [name for name in _WRITTEN if (folder / name).exists()]
    if there and 'scored' not in _read_about(folder / _ABOUT):
        raise ValueError(
            f'--output={output} holds a file {there[0]} that --mode=score did not write, so it is '
            'not replaced: name another folder'
        )
    table = read_table(path)
    name = path.stem if path.suffix.lower() == '.gz' else path.name
    about = _read_about(path.with_name(_ABOUT)) if name == _PREDICTIONS else {}
    best = about.get('best_member_on_validation')
    names = [str(about[key]) for key in ('dataset', 'split') if key in about] or [
        pathlib.PurePath(name).stem
    ]
    title = f'{", ".join(names)}, scored anew'
    best = best if best in table.members else None
    unsure_below = _number(about, 'unsure_below') or 0.5
    level = _number(about, 'interval_level')
    cells = subgroups.cross_table(table)
    # First, since it says that the rest may be replaced, should this be interrupted.
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / _ABOUT, {**about, 'scored': str(path)})
    scores = report.write_report(table, folder, title, best, unsure_below, level, cells)
    print(report.format_table(scores, title, cells, level))
    print(f'{folder}: metrics.json and pictures')
    return scores


def read_table(path: pathlib.Path) -> rows.Rows:
    """Reads a table that any program may have written, and checks its values.

    Raises:
      ValueError: when the file is no table of predictions and labels.
      OSError: when it cannot be read.
    """
    try:
        table = predictions_csv.read_predictions(path)
    except FileNotFoundError:
        raise FileNotFoundError(f'--input={path}: no such file') from None
    except IsADirectoryError:
        raise IsADirectoryError(
            f'--input={path} is a folder; name a table, such as predictions.csv in '
            'evaluation/SPLIT of a workdir'
        ) from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f'{path}: {text}') from None
    for name in table.subgroups:
        values = set(table[name])
        if len(values) > MOST_VALUES:
            raise ValueError(
                f'{path}: the column {name!r} would be subgroups, but has {len(values):,} values, '
                f'and at most {MOST_VALUES} are compared: leave it out'
            )
    if len(table.subgroups) > MOST_SUBGROUPS:
        raise ValueError(
            f'{path}: {len(table.subgroups)} columns would be subgroups, and at most '
            f'{MOST_SUBGROUPS} are crossed with each other: leave out some of '
            f'{", ".join(table.subgroups)}'
        )
    if not table.num_examples:
        raise ValueError(f'{path} has no rows')
    ids, counts = np.unique(table['id'], return_counts=True)
    if (counts > 1).any():
        first = int(np.argmax(counts > 1))
        raise ValueError(
            f'{path}: the id {str(ids[first])!r} is in {counts[first]} rows; an example is scored '
            'once'
        )
    pairs = (rows.INTERVAL, ('age_min', 'age_max'))
    for low, high in pairs:
        if (low in table) != (high in table):
            raise ValueError(f'{path} has one of the columns {low} and {high}: add the other one')
    of_members = [
        rows.member_column(number, name)
        for number in table.members
        for name in ('predicted_age', 'female_probability')
    ]
    needed = [*of_members, *rows.OF_ENSEMBLES] if of_members else []
    if missing := [name for name in needed if name not in table]:
        raise ValueError(
            f'{path} has columns of members of an ensemble, but lacks {", ".join(missing)}: add '
            'what is missing, or leave out all columns of members'
        )
    table = _with_ranges(table)
    for low, high in pairs:
        if low in table and (wrong := table[low] > table[high]).any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f'{path}: {low} of {str(table["id"][first])!r} is {table[low][first]}, above '
                f'{high}, which is {table[high][first]}'
            )
    table = _with_exact(path, table)
    if any(name in table and np.isnan(table[name]).all() for name in rows.INTERVAL):
        kept = {name: table[name] for name in table if name not in rows.INTERVAL}
        table = dataclasses.replace(table, columns=kept)
    # What other programs write for what they do not know, and shares in per cent.
    for name, most, what in (
        ('age', 200, 'years from 0 on'),
        ('female_probability', 1.001, 'from 0 to 1'),
    ):
        if (wrong := ~np.isnan(table[name]) & ~((table[name] >= 0) & (table[name] <= most))).any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f'{path}: {name} of {str(table["id"][first])!r} is {table[name][first]}: '
                f'{wrong.sum():,} cells are neither {what} nor empty'
            )
    for name in ('predicted_age', *(name for name in of_members if name.endswith('_age'))):
        # Estimates of infants may be a little below 0, but none is exactly -1.
        if (wrong := (table[name] == -1) | (np.abs(table[name] - 75) > 100)).any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f'{path}: {name} of {str(table["id"][first])!r} is {table[name][first]}, which is '
                f'no age: if it stands for a face that was not found, leave out its row '
                f'({wrong.sum():,} in all)'
            )
    return table


def _with_ranges(table: rows.Rows) -> rows.Rows:
    """Fills in empty ends of ranges: the age where it is known, else 0 and infinity."""
    if 'age_min' not in table:
        return table
    age, low, high = (table[name] for name in ('age', 'age_min', 'age_max'))
    ranged = np.isnan(age) & ~(np.isnan(low) & np.isnan(high))
    ends = {
        'age_min': np.where(np.isnan(low), np.where(ranged, 0, age), low),
        'age_max': np.where(np.isnan(high), np.where(ranged, np.inf, age), high),
    }
    return dataclasses.replace(table, columns={**table.columns, **ends})


def _with_exact(path: pathlib.Path, table: rows.Rows) -> rows.Rows:
    """Makes both ends of a range the age where it is known."""
    if 'age_min' not in table:
        return table
    age, low, high = (table[name] for name in ('age', 'age_min', 'age_max'))
    if (wrong := (age < low) | (age > high)).any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f'{path}: age of {str(table["id"][first])!r} is {age[first]}, which is not between '
            f'age_min and age_max, {low[first]} and {high[first]}'
        )
    known = ~np.isnan(age)
    ends = {'age_min': np.where(known, age, low), 'age_max': np.where(known, age, high)}
    return dataclasses.replace(table, columns={**table.columns, **ends})


def _number(about: dict[str, Any], name: str) -> float | None:
    value = about.get(name)
    return float(value) if isinstance(value, int | float) else None


def _read_about(path: pathlib.Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):  # It only names things.
        return {}
    return about if isinstance(about, dict) else {}
