"""The evaluation report of one split: predictions.csv, metrics.json, pictures and a table."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.scores import ensemble_metrics, ensemble_plots, metrics, plots, subgroups

GENDER_COLUMNS = ('gender', 'constant_gender')
TABLE = {
    'age': (
        'mae',
        'rmse',
        'bias',
        *(f'cs{years}' for years in metrics.CUMULATIVE_SCORES),
        *(f'group_accuracy_{scheme}' for scheme in metrics.AGE_GROUPS),
    ),
    'gender': (
        'accuracy',
        'balanced_accuracy',
        *(
            f'{ratio}_{name}'
            for name in ('female', 'male')
            for ratio in ('precision', 'recall', 'f1')
        ),
    ),
}
IN_YEARS = ('mae', 'rmse', 'bias')


def write_report(
    rows: Mapping[str, Any],
    folder: str | os.PathLike,
    title: str,
    best_member: int | None = None,
) -> metrics.Scores:
    """Writes predictions.csv, metrics.json, subgroups.csv and the pictures of an evaluated split.

    Each file is replaced whole, metrics.json last: where it stands, the others do.

    Args:
      rows: one row per example, as `metrics.canonical_rows` takes them.
      folder: to write to, `<workdir>/evaluation/<split>`; made where missing.
      title: of the pictures, for instance 'utkface test, best checkpoint'.
      best_member: number of an ensemble's member that was best on validation.

    Returns:
      The metrics, as `metrics.compute_metrics` and `ensemble_metrics.compute_metrics`.

    Raises:
      ValueError: as `metrics.canonical_rows`; nothing is written then.
    """
    rows = metrics.canonical_rows(rows)
    scores = metrics.compute_metrics(rows) | ensemble_metrics.compute_metrics(rows, best_member)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'metrics.json').unlink(missing_ok=True)
    _replace(folder / 'predictions.csv', _to_csv(rows))
    plots.plot_age_scatter(rows, folder / 'age_scatter.png', title)
    plots.plot_age_error_by_band(rows, folder / 'age_error_by_band.png', title)
    plots.plot_confusion_matrix(rows, folder / 'confusion_matrix.png', title)
    cells = subgroups.cross_table(rows)
    _replace(folder / 'subgroups.csv', subgroups.to_csv(cells))
    if cells:
        subgroups.plot(cells, folder / 'subgroups.png', title)
    if ensemble_metrics.member_numbers(rows):
        ensemble_plots.plot_curve(scores, folder / 'ensemble_curve.png', title)
        ensemble_plots.plot_disagreement(scores, folder / 'disagreement.png', title)
    _replace(folder / 'metrics.json', to_json(scores))
    return scores


def to_json(scores: metrics.Scores) -> str:
    """Sorted, strictly valid JSON: an undefined metric (NaN) is null."""
    values = {name: None if math.isnan(value) else value for name, value in scores.items()}
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + '\n'


def read_predictions(path: str | os.PathLike) -> metrics.Rows:
    """Reads predictions.csv into the very rows it was written from.

    Args:
      path: of a predictions.csv by `write_report`.

    Returns:
      Columns `[N]` as `metrics.canonical_rows` gives them.

    Raises:
      ValueError: for a file without the columns, or a cell that is no value of its column.
    """
    with open(path, newline='', encoding='utf-8') as file:
        header, *lines = list(csv.reader(file)) or [[]]
    if not header:
        raise ValueError(f'{path} is empty: evaluate again.')
    if any(len(line) != len(header) for line in lines):
        raise ValueError(f'{path} has lines of other than {len(header)} cells: evaluate again.')
    columns: dict[str, Any] = {}
    for k, name in enumerate(header):
        try:
            columns[name] = [_parse(name, line[k]) for line in lines]
        except (ValueError, KeyError) as error:
            raise ValueError(f'{path}, column {name!r}: {error} is no value of it.') from error
    return metrics.canonical_rows(columns)


def format_table(scores: metrics.Scores, title: str = '') -> str:
    """The metrics as a table for the console, at most 100 columns wide.

    Args:
      scores: as `metrics.compute_metrics` gives them.
      title: first line, if any.
    """
    total = scores['num_examples']
    lines = [f'{title}: {total:,} examples' if title else f'{total:,} examples']
    leaks = 'without_leaks/num_examples' in scores
    for kind, names in TABLE.items():
        known = scores[f'{kind}/num_examples']
        head = f'{kind} ({known:,} labelled)'
        line = f'\n{head:<28}{"model":>10}{"95 % interval":>19}{"constant":>12}'
        if leaks:
            line += f'{"without leaks":>17}{"constant":>12}'
        lines.append(line)
        for name in names:
            key = f'{kind}/{name}'
            low, high = scores[f'{key}_ci95_low'], scores[f'{key}_ci95_high']
            interval = '-' if math.isnan(low) else f'{_number(name, low)} .. {_number(name, high)}'
            line = f'  {name:<26}{_value(name, scores[key]):>10}{interval:>19}'
            line += f'{_value(name, scores[f"constant/{key}"]):>12}'
            if leaks:
                line += f'{_value(name, scores[f"without_leaks/{key}"]):>17}'
                line += f'{_value(name, scores[f"without_leaks/constant/{key}"]):>12}'
            lines.append(line)
    if leaks:
        lines.append(f'\nwithout leaks: {scores["without_leaks/num_examples"]:,} examples')

    lines.append(f'\n{"true gender":<28}{"as male":>10}{"as female":>12}')
    for name in metrics.GENDERS:
        as_male, as_female = (scores[f'gender/confusion/{name}_as_{g}'] for g in metrics.GENDERS)
        lines.append(f'  {name:<26}{as_male:>10,}{as_female:>12,}')

    lines.append(
        f'\n{"subgroup":<28}{"examples":>10}{"age/mae":>12}{"age/bias":>12}{"gender/accuracy":>18}'
    )
    for key in scores:
        if key.startswith('by_') and key.endswith('/age/mae'):
            group = key.removesuffix('/age/mae')
            if scores[f'{group}/num_examples'] == 0:
                continue
            lines.append(
                f'  {group:<26}{scores[f"{group}/num_examples"]:>10,}'
                f'{_value("mae", scores[key]):>12}'
                f'{_value("bias", scores[f"{group}/age/bias"]):>12}'
                f'{_value("accuracy", scores[f"{group}/gender/accuracy"]):>18}'
            )
    lines += _ensemble_lines(scores)
    lines.append(
        '\nmae, rmse and bias in years; constant: median age and majority gender of training'
    )
    return '\n'.join(lines)


def _ensemble_lines(scores: metrics.Scores) -> list[str]:
    """Members, the curve, the difference to the best member, and disagreement."""
    numbers = [
        int(name.split('/')[0].removeprefix('member_'))
        for name in scores
        if re.fullmatch(r'member_\d+/age/mae', name)
    ]
    if not numbers:
        return []
    best = scores.get('best_member/number')

    def row(name: str, key: str, suffix: str = '') -> str:
        mae, accuracy = (scores[f'{key}{k}{suffix}'] for k in ('age/mae', 'gender/accuracy'))
        return f'  {name:<36}{_value("mae", mae):>10}{_value("accuracy", accuracy):>18}'

    lines = [f'\n{f"ensemble of {len(numbers)}":<38}{"age/mae":>10}{"gender/accuracy":>18}']
    lines.append(row('combined', ''))
    lines.append(row('median of the members', 'members/', '_median'))
    for number in numbers:
        mark = ', best on validation' if number == best else ''
        lines.append(row(f'member {number}{mark}', f'member_{number}/'))
    lines += [
        row(f'mean over ensembles of {k}', f'curve/{k}/', '_mean') for k in range(2, len(numbers))
    ]
    if best is not None:
        lines.append(f'combined less member {best}, with the paired 95 % interval')
        for name in ('mae', 'accuracy'):
            key = f'minus_best_member/{"age" if name == "mae" else "gender"}/{name}'
            ends = (_number(name, scores[f'{key}_ci95_{end}']) for end in ('low', 'high'))
            label = key.removeprefix('minus_best_member/')
            lines.append(f'  {label:<36}{_value(name, scores[key]):>10}   ({" .. ".join(ends)})')
    fifths = [
        _value('mae', scores[f'disagreement/quintile_{q}/age/mae'])
        for q in range(1, ensemble_metrics.NUM_QUANTILES + 1)
    ]
    lines.append(
        f'members disagree by {scores["disagreement/age_std"]:.2f} years (standard deviation), and '
        f'on {_value("share", scores["disagreement/gender_differs"])} of genders\n'
        f'age/mae by fifths, from least to most disagreement on age: {", ".join(fifths)}'
    )
    return lines


def _number(name: str, value: float) -> str:
    return f'{value:.2f}' if name in IN_YEARS else f'{100 * value:.1f}'


def _value(name: str, value: float) -> str:
    if math.isnan(value):
        return '-'
    return _number(name, value) + ('' if name in IN_YEARS else ' %')


def _to_csv(rows: metrics.Rows) -> str:
    names = [*metrics.COLUMNS, *(name for name in rows if name not in metrics.COLUMNS)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(names)
    cells = ([_format(name, value) for value in rows[name]] for name in names)
    writer.writerows(zip(*cells, strict=True))
    return text.getvalue()


def _format(name: str, value: Any) -> str:
    """A cell: '' for an unknown label, else what `_parse` reads back exactly."""
    if metrics.is_float(name):
        return '' if np.isnan(value) else str(value)  # NumPy's shortest round-trip float32.
    if name in GENDER_COLUMNS:
        return (*metrics.GENDERS, '')[value]
    return str(value).lower() if name == 'leak' else str(value)


def _parse(name: str, cell: str) -> Any:
    if metrics.is_float(name):
        return np.float32(cell or 'nan')
    if name in GENDER_COLUMNS:
        return {'male': 0, 'female': 1, '': -1}[cell]
    return {'true': True, 'false': False}[cell] if name == 'leak' else cell


def _replace(path: Path, text: str) -> None:
    """Writes the file so that a reader finds the old one or the new one, never a part."""
    temporary = path.with_name(path.name + '.tmp')
    temporary.write_text(text, encoding='utf-8', newline='')
    os.replace(temporary, path)
