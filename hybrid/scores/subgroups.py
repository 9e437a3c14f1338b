"""Scores of crossed subgroups: age band x gender x what else the dataset has, such as ethnicity.

A single example decides the score of a small subgroup, so every score comes with the number of its
examples and, where there are enough, an interval. Examples that the training split holds too are
left out.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hybrid import files
from hybrid.scores import metrics, outcomes, plots
from hybrid.scores.bootstrap import percentile_interval, resampled_means
from hybrid.scores.rows import Rows

ALL = 'all'
# Of fewer errors than these a bootstrap interval would be far too narrow: none is given.
SMALLEST = 30
SCORES = (
    'num_examples',
    *(f'age/{name}' for name in ('num_examples', 'mae', 'mae_ci95_low', 'mae_ci95_high', 'bias')),
    'gender/num_examples',
    *(f'gender/{name}' for name in ('accuracy', 'accuracy_ci95_low', 'accuracy_ci95_high')),
)
# Where ages are ranges.
INTERVAL_SCORES = ('age/interval_num_examples', 'age/interval_error')
# Where there are prediction intervals, of exact ages.
COVERAGE_SCORES = ('age/coverage', 'age/mean_interval_width')
Cell = dict[str, Any]


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, which holds for few examples and for shares of 0 and 1 too.

    See Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if count == 0:
        return float('nan'), float('nan')
    share, z = hits / count, 1.959964
    centre = share + z * z / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return float(max((centre - half) / scale, 0)), float(min((centre + half) / scale, 1))


def cross_table(rows: Rows) -> list[Cell]:
    """Scores of every combination of subgroups that occurs, and of the margins, called `all`.

    Returns:
      One dict a cell: the value of each kind of subgroup (`age`, a band of `five_bin`; `gender`;
      others by their column), and `SCORES`, in years and shares between 0 and 1; where ages are
      ranges, `INTERVAL_SCORES` too, and where there are prediction intervals, `COVERAGE_SCORES`,
      as `metrics.compute_metrics` defines them. The interval of
      the MAE is by bootstrap, NaN for fewer than `SMALLEST` examples, that of accuracy is Wilson's.
      An example of which a subgroup is unknown counts in that one's margin only.
    """
    rows = rows.by_id().without_leaks()
    labels = metrics.subgroups(rows)
    error = outcomes.age_error(rows['predicted_age'], rows['age'])
    low, high = outcomes.age_bounds(rows)
    ranged = low < high
    distance = outcomes.absolute_age_error(rows['predicted_age'], low, high)
    if 'age_low' in rows:
        covered = (rows['age_low'] <= rows['age']) & (rows['age'] <= rows['age_high'])
        width = rows['age_high'] - rows['age_low']
    of_gender = rows['female_probability'], rows['gender']
    right, scored = outcomes.is_right(*of_gender), outcomes.is_scored(*of_gender)
    cells = []
    for combination, inside in _combinations(list(labels.values())):
        scores = _scores(error[inside], right[inside], scored[inside])
        if ranged.any():
            own = distance[inside & ranged]
            values = (len(own), outcomes.mean(own))
            scores |= dict(zip(INTERVAL_SCORES, values, strict=True))
        if 'age_low' in rows:
            known = inside & ~np.isnan(error)
            scores |= {
                'age/coverage': outcomes.mean(covered[known]),
                'age/mean_interval_width': outcomes.mean(width[known]),
            }
        cells.append(dict(zip(labels, combination, strict=True)) | scores)
    return cells


def _combinations(
    labels: Sequence[tuple[list[str], np.ndarray]],
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The combinations of values, and of `all`, that occur, and who is inside of each, bool [N].

    They come in the order of the values of the first kind, then of the second and so on; `all` is
    the last of each.

    Args:
      labels: From `metrics.subgroups`: of each kind its values, and that of each example, [N].
    """
    names = [[*values, ALL] for values, _ in labels]
    places = np.full((len(labels[0][1]), len(labels)), -1)  # Of each example's values.
    for kind, (values, column) in enumerate(labels):
        for place, value in enumerate(values):
            places[column == value, kind] = place
    last = np.array([len(values) for values, _ in labels])
    found = {}
    for margins in itertools.product((False, True), repeat=len(labels)):
        counted = np.flatnonzero(((places >= 0) | margins).all(axis=1))
        own, cell = np.unique(np.where(margins, last, places[counted]), axis=0, return_inverse=True)
        for number, combination in enumerate(own.tolist()):
            inside = np.zeros(len(places), bool)
            inside[counted[cell.ravel() == number]] = True
            found[tuple(combination)] = inside
    for combination in sorted(found):
        yield tuple(of[k] for of, k in zip(names, combination, strict=True)), found[combination]


def _scores(error: np.ndarray, right: np.ndarray, known: np.ndarray) -> Cell:
    count = len(error)
    error = error[~np.isnan(error)]
    absolute = np.abs(error)
    ends = (float('nan'), float('nan'))
    if len(error) >= SMALLEST:
        ends = percentile_interval(resampled_means(absolute[None])[0])
    right = right[known]
    mae, bias, accuracy = (outcomes.mean(values) for values in (absolute, error, right))
    shares = wilson_interval(int(right.sum()), len(right))
    values = (count, len(error), mae, *ends, bias, len(right), accuracy, *shares)
    return dict(zip(SCORES, values, strict=True))


def to_csv(cells: Sequence[Cell]) -> str:
    """The cells as CSV, a line each; what is undefined is an empty cell."""

    def shown(value: Any) -> Any:
        return value if not isinstance(value, float) else '' if np.isnan(value) else f'{value:.4f}'

    return files.to_csv(
        cells[0] if cells else SCORES, *(map(shown, cell.values()) for cell in cells)
    )


def plot(cells: Sequence[Cell], path: str | os.PathLike, title: str = '') -> None:
    """Draws MAE and gender accuracy with their counts: age bands across, the other subgroups down.

    Of several columns beside gender only the first is drawn. Where all ages are ranges, it is their
    error instead of the MAE.

    Args:
      cells: from `cross_table`, at least one.
      path: the PNG file, which is replaced as a whole.
      title: the first line above the picture.
    """
    kinds = [name for name in cells[0] if name not in (*SCORES, *INTERVAL_SCORES, *COVERAGE_SCORES)]
    others = kinds[2:]
    bands = list(dict.fromkeys(cell['age'] for cell in cells))
    shown = [cell for cell in cells if all(cell[name] == ALL for name in others[1:])]

    def key(cell: Cell) -> tuple[str, ...]:
        return tuple(cell[name] for name in [*others[:1], 'gender'])

    lines = list(dict.fromkeys(key(cell) for cell in shown))
    # By the first column, then by gender; `all` stands last in both.
    order: list[list[str]] = [list(dict.fromkeys(names)) for names in zip(*lines, strict=True)]
    for names in order:
        names.sort(key=lambda name: name == ALL)
    lines.sort(key=lambda line: [names.index(x) for names, x in zip(order, line, strict=True)])
    figure = plots.new_figure(3.5 + 1.7 * len(bands), 2 + 0.55 * len(lines))
    panels = figure.subplots(1, 2, sharey=True)
    age = ('age/num_examples', 'age/mae', 'age MAE (years)')
    if INTERVAL_SCORES[0] in cells[0] and not any(cell[age[0]] for cell in cells):
        age = (*INTERVAL_SCORES, 'years outside of the age range')
    gender = ('gender/num_examples', 'gender/accuracy', 'gender accuracy (%)')
    for axes, (counted, name, label), unit, cmap in (
        (panels[0], age, 1, 'YlOrRd'),
        (panels[1], gender, 100, 'YlOrRd_r'),
    ):
        grid = np.full((len(lines), len(bands)), np.nan)
        count = np.zeros(grid.shape, int)
        for cell in shown:
            place = lines.index(key(cell)), bands.index(cell['age'])
            grid[place], count[place] = unit * cell[name], cell[counted]
        # Cells in which chance decides are grey, and do not stretch the colours.
        large = count >= SMALLEST
        low, high = (grid[large].min(), grid[large].max()) if large.any() else (0, 1)
        colors = np.where(large, grid, np.nan)
        axes.imshow(colors, cmap=cmap, vmin=low, vmax=max(high, low + 1e-6), aspect='auto')
        axes.imshow(
            np.where(large | (count == 0), np.nan, 0.15),
            cmap='Greys',
            vmin=0,
            vmax=1,
            aspect='auto',
        )
        if not count.any():
            axes.text(0.5, 0.5, 'no labels', transform=axes.transAxes, ha='center')
        for (i, k), value in np.ndenumerate(grid):
            if count[i, k]:
                share = (value - low) / max(high - low, 1e-6)
                dark = large[i, k] and (share > 0.65 if unit == 1 else share < 0.35)
                text = f'{value:.1f}\nn = {count[i, k]:,}'
                color = 'white' if dark else 'black'
                axes.text(k, i, text, ha='center', va='center', fontsize=8, color=color)
        axes.set_xticks(range(len(bands)), bands)
        axes.set_yticks(range(len(lines)), [', '.join(dict.fromkeys(line)) for line in lines])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel='true age (years)', title=label)
    title = plots.wrap(title, figure)
    figure.suptitle(
        f'{title}\nerrors by subgroup; grey: fewer than {SMALLEST} examples'.strip(), fontsize=11
    )
    plots.save(figure, path)
