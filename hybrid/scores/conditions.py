"""Scores of a split under conditions, in several strengths, beside those without any."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from hybrid import files
from hybrid.scores import bootstrap, outcomes, plots
from hybrid.scores.outcomes import GENDERS
from hybrid.scores.rows import Rows

CLEAN, ALL = 'clean', 'all'
GROUPS = (ALL, *reversed(GENDERS))
_SCORES = {'age': 'mae', 'gender': 'accuracy'}
COLUMNS = (
    *('condition', 'unit', 'strength', 'group'),
    *('age/num_examples', 'age/mae', 'age/bias'),
    *(f'age/mae_minus_clean{end}' for end in ('', '_ci95_low', '_ci95_high')),
    *('gender/num_examples', 'gender/accuracy'),
    *(f'gender/accuracy_minus_clean{end}' for end in ('', '_ci95_low', '_ci95_high')),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """What was predicted under a condition.

    Attributes:
      condition: Its name, or `CLEAN`.
      unit: What its strengths are.
      strength: One of them; 0 of `CLEAN`.
      rows: The examples, in the same order in every case.
    """

    condition: str
    unit: str
    strength: float
    rows: Rows


# A row of conditions.csv: the case, the group of examples, and its scores by their names.
Score = dict[str, str | float]


def score(clean: Rows, case: Case) -> list[Score]:
    """Scores a case: all examples, and those of each gender.

    What the training has seen is left out. The differences to the clean scores have paired
    bootstrap 95 % intervals.

    Args:
      clean: The examples without a condition.
      case: The same examples under one; or themselves.
    """
    under, clean = case.rows.without_leaks(), clean.without_leaks()
    gender = under['gender']
    masks = {ALL: np.ones(len(gender), bool)} | {
        name: gender == GENDERS.index(name) for name in GENDERS
    }
    values = {kind: (_values(under, kind), _values(clean, kind)) for kind in _SCORES}
    bias = outcomes.age_error(under['predicted_age'], under['age'])
    scores = []
    for group in GROUPS:
        found: Score = {
            **{'condition': case.condition, 'unit': case.unit, 'strength': case.strength},
            'group': group,
        }
        for kind, name in _SCORES.items():
            now, before = (x[masks[group]] for x in values[kind])
            known = ~np.isnan(now)
            difference = bootstrap.paired_bootstrap(now[known], before[known])
            key = f'{kind}/{name}'
            found |= {f'{kind}/num_examples': int(known.sum()), key: outcomes.mean(now[known])}
            if kind == 'age':
                found['age/bias'] = outcomes.mean(bias[masks[group]][known])
            for end, value in zip(('', '_ci95_low', '_ci95_high'), difference, strict=True):
                found[f'{key}_minus_clean{end}'] = value
        scores.append(found)
    return scores


def _values(rows: Rows, kind: str) -> np.ndarray:
    """Absolute errors in years [N], or 1 for each right gender and 0 for others; NaN if unknown."""
    if kind == 'age':
        return outcomes.absolute_age_error(rows['predicted_age'], rows['age'])
    of_gender = rows['female_probability'], rows['gender']
    right = outcomes.is_right(*of_gender).astype(np.float64)
    return np.where(outcomes.is_scored(*of_gender), right, np.nan)


def to_csv(scores: Sequence[Score]) -> str:
    """The scores as CSV, a line for each case and group; what is undefined is an empty cell."""
    return files.to_csv(COLUMNS, *([_cell(row[name]) for name in COLUMNS] for row in scores))


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    return '' if np.isnan(value) else f'{value:.6g}'


def _by_condition(scores: Sequence[Score], group: str) -> dict[str, list[Score]]:
    """The scores of a group by condition, in order of strength, without the clean ones."""
    found: dict[str, list[Score]] = {}
    for row in scores:
        if row['group'] == group and row['condition'] != CLEAN:
            found.setdefault(str(row['condition']), []).append(row)
    return found


def _clean(scores: Sequence[Score], group: str) -> Score:
    return next(row for row in scores if (row['condition'], row['group']) == (CLEAN, group))


def format_table(scores: Sequence[Score], title: str = '') -> str:
    """The scores as a table for the console, at most 100 columns wide.

    For each condition the scores at every strength, and how far those of women and of men are from
    their clean ones at the strength in the middle.
    """
    lines = [f'{title}: under conditions' if title else 'under conditions']
    for kind, name in _SCORES.items():
        key, unit = f'{kind}/{name}', 'years' if kind == 'age' else '%'
        factor = 1 if kind == 'age' else 100
        clean = _clean(scores, ALL)[key]
        if np.isnan(float(clean)):
            continue

        def number(value: str | float, sign: str = '', factor: int = factor) -> str:
            return (
                '-'
                if np.isnan(float(value))
                else f'{factor * float(value):{sign}.{2 if factor == 1 else 1}f}'
            )

        head = f'{key} ({unit})'
        lines.append(
            f'\n{head:<20}{"clean":>7} |{"weak":>7}{"":>7}{"middle":>7}{"":>7}{"strong":>7} |'
            '  middle less clean: women, men'
        )
        women, men = (_by_condition(scores, group) for group in reversed(GENDERS))
        for condition, rows in _by_condition(scores, ALL).items():
            shown = ''.join(f'{number(row[key]):>7}' for row in rows)
            middle = len(rows) // 2
            less = ''.join(
                f'{number(group[condition][middle][f"{key}_minus_clean"], "+"):>9}'
                for group in (women, men)
            )
            lines.append(f'  {condition:<18}{number(clean):>7} |{shown:<35} |{less}')
    strengths = [
        f'{condition} ({rows[0]["unit"]}): ' + ', '.join(f'{row["strength"]:g}' for row in rows)
        for condition, rows in _by_condition(scores, ALL).items()
    ]
    return '\n'.join([*lines, '\nstrengths', *(f'  {line}' for line in strengths)])


def plot(scores: Sequence[Score], path: str | os.PathLike, title: str = '') -> None:
    """Draws MAE and gender accuracy over the strengths of each condition, women and men apart.

    Args:
      scores: From `score`, of `CLEAN` and of at least one condition.
      path: The PNG file, which is replaced as a whole.
      title: The first line above the picture.
    """
    conditions = list(_by_condition(scores, ALL))
    columns = min(5, len(conditions))
    rows = -(-len(conditions) // columns)
    figure = plots.new_figure(3.2 * columns, 2.2 * 2 * rows + 0.8)
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    colors = dict(zip(GROUPS, ('black', plots.ORANGE, plots.BLUE), strict=True))
    for half, (kind, name) in enumerate(_SCORES.items()):
        key, factor = f'{kind}/{name}', 1 if kind == 'age' else 100
        panels = [
            grid[2 * (place // columns) + half, place % columns] for place in range(len(conditions))
        ]
        for axes, condition in zip(panels, conditions, strict=True):
            axes.set_visible(True)
            for group in GROUPS:
                clean, under = _clean(scores, group), _by_condition(scores, group)[condition]
                values = [factor * float(row[key]) for row in (clean, *under)]
                strong = group == ALL
                axes.plot(values, color=colors[group], linewidth=1.8 if strong else 1, label=group)
                axes.axhline(values[0], color=colors[group], linewidth=0.6, linestyle=':')
            labels = [CLEAN, *(f'{row["strength"]:g}' for row in under)]
            axes.set_xticks(range(len(labels)), labels, fontsize=7)
            axes.tick_params(axis='y', labelsize=7)
            if half == 0:
                axes.set_title(f'{condition} ({under[0]["unit"]})', fontsize=9)
            axes.grid(axis='y', alpha=0.3)
        # What rises further leaves its panel: it would flatten the curves of all others.
        clean_mae = [float(_clean(scores, group)['age/mae']) for group in GROUPS]
        most = 2.5 * np.nanmax([*clean_mae, 0.1]) if kind == 'age' else 101.0
        limits = np.array([axes.get_ylim() for axes in panels])
        for axes in panels:
            axes.set_ylim(limits[:, 0].min(), min(limits[:, 1].max(), most))
        for axes in panels[::columns]:
            axes.set_ylabel(
                'age MAE (years)' if kind == 'age' else 'gender accuracy (%)', fontsize=8
            )
    panels[0].legend(fontsize=7, frameon=False)
    title = plots.wrap(title, figure)
    figure.suptitle(f'{title}\nunder conditions; dotted: without'.strip(), fontsize=11)
    plots.save(figure, path)
