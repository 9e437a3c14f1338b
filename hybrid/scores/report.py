"""The evaluation report of one split: predictions.csv, metrics.json, pictures and a table."""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from hybrid import files
from hybrid.scores import (
    calibration_plots,
    ensemble_metrics,
    ensemble_plots,
    metrics,
    plots,
    subgroups,
    threshold_plots,
    thresholds,
)
from hybrid.scores.outcomes import GENDERS
from hybrid.scores.predictions_csv import write_predictions
from hybrid.scores.rows import Rows

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
# Of distributions, prediction intervals and probabilities, which the constant predictor has not.
COVERAGE_TABLE = ('crps', 'coverage', 'mean_interval_width')
NUM_WORST = 5  # So many combinations of subgroups the table names.
PROBABILITY_TABLE = ('brier', 'nll', 'ece')
# Where ages are ranges.
INTERVAL_TABLE = ('interval_error', 'interval_accuracy')
IN_YEARS = ('mae', 'rmse', 'bias', 'interval_error', 'crps', 'mean_interval_width')


def compute_metrics(
    rows: Rows, best_member: int | None = None, figures: Sequence[thresholds.Figure] | None = None
) -> metrics.Scores:
    """All scores that metrics.json holds of a split.

    They are those of `metrics.compute_metrics`, of `ensemble_metrics.compute_metrics` and of
    `thresholds.to_metrics`; `figures` are those of `thresholds`, if the caller has them already.
    """
    figures = thresholds.compute(rows) if figures is None else figures
    scores = metrics.compute_metrics(rows) | ensemble_metrics.compute_metrics(rows, best_member)
    return scores | thresholds.to_metrics(figures)


def write_report(
    rows: Rows,
    folder: str | os.PathLike,
    title: str,
    best_member: int | None = None,
    unsure_below: float = 0.5,
    interval_level: float | None = None,
    cells: Sequence[subgroups.Cell] | None = None,
) -> metrics.Scores:
    """Writes predictions.csv, metrics.json, two more tables and the pictures of an evaluated split.

    The tables are subgroups.csv and, where there are examples on both sides of an age limit,
    thresholds.csv. Each file is replaced as a whole, metrics.json last: where it stands, the others
    are complete.

    Args:
      rows: the examples of the split.
      folder: where to write, `<workdir>/evaluation/<split>`; it is made if it does not exist.
      title: above the pictures, for instance 'utkface test, best checkpoint'.
      best_member: number of the member of an ensemble that was best on validation.
      unsure_below: probability of the likelier gender below which it is not named; what is named
        is also scored apart, unless that is everything.
      interval_level: the share of ages that prediction intervals promise to hold, if known.
      cells: from `subgroups.cross_table`, if the caller has them already.

    Returns:
      The metrics, those of `compute_metrics`.
    """
    figures = thresholds.compute(rows)
    scores = compute_metrics(rows, best_member, figures)
    if unsure_below > 0.5:
        scores |= metrics.sure_scores(rows, unsure_below)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'metrics.json').unlink(missing_ok=True)
    write_predictions(rows, folder / 'predictions.csv')
    plots.plot_age_scatter(rows, folder / 'age_scatter.png', title)
    plots.plot_age_error_by_band(rows, folder / 'age_error_by_band.png', title)
    plots.plot_confusion_matrix(rows, folder / 'confusion_matrix.png', title)
    calibration_plots.plot(rows, folder / 'calibration.png', title, interval_level)
    cells = subgroups.cross_table(rows) if cells is None else cells
    files.replace(folder / 'subgroups.csv', subgroups.to_csv(cells))
    if cells:
        subgroups.plot(cells, folder / 'subgroups.png', title)
    else:  # Everything leaks. An earlier evaluation may have left a picture.
        (folder / 'subgroups.png').unlink(missing_ok=True)
    if figures:
        files.replace(folder / 'thresholds.csv', thresholds.to_csv(figures))
        threshold_plots.plot(figures, folder / 'thresholds.png', title)
    else:
        for name in ('thresholds.csv', 'thresholds.png'):
            (folder / name).unlink(missing_ok=True)
    if rows.members:
        ensemble_plots.plot_curve(scores, folder / 'ensemble_curve.png', title)
        ensemble_plots.plot_disagreement(scores, folder / 'disagreement.png', title)
    files.replace(folder / 'metrics.json', to_json(scores))
    return scores


def to_json(scores: metrics.Scores) -> str:
    """The metrics as strictly valid JSON, sorted by key; an undefined one (NaN) is null."""
    values = {name: None if math.isnan(value) else value for name, value in scores.items()}
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + '\n'


def format_table(
    scores: metrics.Scores,
    title: str = '',
    cells: Sequence[subgroups.Cell] = (),
    interval_level: float | None = None,
) -> str:
    """The metrics as a table for the console, at most 100 columns wide.

    Args:
      scores: from `write_report`, or `metrics.compute_metrics` alone.
      title: the first line, if any.
      cells: from `subgroups.cross_table`, of which the worst are named.
      interval_level: as for `write_report`.
    """
    total = scores['num_examples']
    lines = [f'{title}: {total:,} examples' if title else f'{total:,} examples']
    leaks = 'without_leaks/num_examples' in scores
    ranges = 'age/interval_num_examples' in scores
    table = {
        'age': (*TABLE['age'], *(name for name in COVERAGE_TABLE if f'age/{name}' in scores)),
        'gender': (*TABLE['gender'], *(PROBABILITY_TABLE if 'gender/brier' in scores else ())),
    }
    sections = [(kind, f'{kind}/num_examples', kind, names) for kind, names in table.items()]
    if ranges:
        exact = tuple(name for name in table['age'] if not name.startswith('group_accuracy'))
        groups = tuple(name for name in table['age'] if name not in exact)
        sections[:1] = [
            ('exact age', 'age/num_examples', 'age', exact),
            ('age ranges', 'age/interval_num_examples', 'age', (*INTERVAL_TABLE, *groups)),
        ]
        if not scores['age/num_examples']:
            del sections[0]
    for section, count, kind, names in sections:
        head = f'{section} ({scores[count]:,} labelled)'
        line = f'\n{head:<28}{"model":>10}{"95 % interval":>19}{"constant":>12}'
        if leaks:
            line += f'{"without leaks":>17}{"constant":>12}'
        lines.append(line)
        for name in names:
            key = f'{kind}/{name}'
            low, high = (scores.get(f'{key}_ci95_{end}', math.nan) for end in ('low', 'high'))
            interval = '-' if math.isnan(low) else f'{_number(name, low)} .. {_number(name, high)}'
            line = f'  {name:<26}{_value(name, scores[key]):>10}{interval:>19}'
            # Where no range is left, or no constant age is known, there are no scores of ranges.
            line += f'{_value(name, scores.get(f"constant/{key}", math.nan)):>12}'
            for other, width in (('', 17), ('constant/', 12)) if leaks else ():
                value = scores.get(f'without_leaks/{other}{key}', math.nan)
                line += f'{_value(name, value):>{width}}'
            lines.append(line)
    if 'gender/sure/share' in scores:
        share, accuracy = (_value(n, scores[f'gender/sure/{n}']) for n in ('share', 'accuracy'))
        lines.append(f'\nsure of the gender of {share}, of which it is right for {accuracy}')
    if leaks:
        lines.append(f'\nwithout leaks: {scores["without_leaks/num_examples"]:,} examples')

    lines.append(f'\n{"true gender":<28}{"as male":>10}{"as female":>12}')
    for name in GENDERS:
        as_male, as_female = (scores[f'gender/confusion/{name}_as_{g}'] for g in GENDERS)
        lines.append(f'  {name:<26}{as_male:>10,}{as_female:>12,}')

    lines.append(
        f'\n{"subgroup":<28}{"examples":>10}{"age/mae":>12}{"age/bias":>12}{"gender/accuracy":>18}'
        + (f'{"interval_error":>18}' if ranges else '')
    )
    for key in scores:
        if key.startswith('by_') and key.endswith('/age/mae'):
            group = key.removesuffix('/age/mae')
            if scores[f'{group}/num_examples'] == 0:
                continue
            line = (
                f'  {group:<26}{scores[f"{group}/num_examples"]:>10,}'
                f'{_value("mae", scores[key]):>12}'
                f'{_value("bias", scores[f"{group}/age/bias"]):>12}'
                f'{_value("accuracy", scores[f"{group}/gender/accuracy"]):>18}'
            )
            if ranges:
                value = scores.get(f'{group}/age/interval_error', math.nan)
                line += f'{_value("interval_error", value):>18}'
            lines.append(line)
    lines += _worst_lines(cells)
    lines += _ensemble_lines(scores) + threshold_plots.format_lines(scores)
    lines.append(
        '\nmae, rmse and bias in years; constant: median age and majority gender of training'
    )
    if interval_level and 'age/coverage' in scores:
        lines.append(f'coverage: of intervals that promise {100 * interval_level:g} %')
    if ranges:
        lines.append(
            'mae and bias are of exact ages; interval_error: years outside of the range; a range '
            'counts in a\ngroup if it lies in one'
        )
    return '\n'.join(lines)


def _worst_lines(cells: Sequence[subgroups.Cell]) -> list[str]:
    """The combinations of subgroups with the largest errors of age, the worst first."""
    large = [
        cell
        for cell in cells
        if cell['age/num_examples'] >= subgroups.SMALLEST and not math.isnan(cell['age/mae'])
    ]
    if len(large) < 2:
        return []
    coverage = 'age/coverage' in large[0]
    head = f'{"examples":>10}{"age/mae":>12}{"age/bias":>12}{"gender/accuracy":>18}'
    lines = [f'\n{"worst for age":<34}{head}' + (f'{"age/coverage":>14}' if coverage else '')]
    for cell in sorted(large, key=lambda cell: -cell['age/mae'])[:NUM_WORST]:
        kinds = [name for name in cell if not name.startswith(('num_', 'age/', 'gender/'))]
        name = ', '.join(cell[kind] for kind in kinds if cell[kind] != subgroups.ALL) or 'all'
        line = (
            f'  {name:<32}{cell["age/num_examples"]:>10,}{_value("mae", cell["age/mae"]):>12}'
            f'{_value("bias", cell["age/bias"]):>12}'
            f'{_value("accuracy", cell["gender/accuracy"]):>18}'
        )
        line += f'{_value("coverage", cell["age/coverage"]):>14}' if coverage else ''
        lines.append(line)
    return lines


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

    columns = {'age/mae': 10, 'gender/accuracy': 18}
    if 'age/interval_num_examples' in scores:
        columns['age/interval_error'] = 22

    def row(name: str, key: str, suffix: str = '') -> str:
        cells = (
            f'{_value(score.split("/")[1], scores[f"{key}{score}{suffix}"]):>{width}}'
            for score, width in columns.items()
        )
        return f'  {name:<36}{"".join(cells)}'

    head = ''.join(f'{score:>{width}}' for score, width in columns.items())
    lines = [f'\n{f"ensemble of {len(numbers)}":<38}{head}']
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
        for score in (name for name in columns if not math.isnan(scores[name])):
            key, name = f'minus_best_member/{score}', score.split('/')[1]
            ends = (_number(name, scores[f'{key}_ci95_{end}']) for end in ('low', 'high'))
            lines.append(f'  {score:<36}{_value(name, scores[key]):>10}   ({" .. ".join(ends)})')
    years, share = scores['disagreement/age_std'], scores['disagreement/gender_differs']
    parts = [] if math.isnan(years) else [f'by {years:.2f} years (standard deviation)']
    parts += [] if math.isnan(share) else [f'on {_value("share", share)} of genders']
    lines.append(f'members disagree {", and ".join(parts)}')
    if not math.isnan(years):
        fifths = [
            _value('mae', scores[f'disagreement/quintile_{q}/age/mae'])
            for q in range(1, ensemble_metrics.NUM_QUANTILES + 1)
        ]
        lines.append(
            f'age/mae by fifths, from least to most disagreement on age: {", ".join(fifths)}'
        )
    return lines


def _number(name: str, value: float) -> str:
    if name in PROBABILITY_TABLE:
        return f'{value:.4f}'
    return f'{value:.2f}' if name in IN_YEARS else f'{100 * value:.1f}'


def _value(name: str, value: float) -> str:
    if math.isnan(value):
        return '-'
    return _number(name, value) + ('' if name in (*IN_YEARS, *PROBABILITY_TABLE) else ' %')
