"""A picture of whether probabilities of gender, and intervals of age, keep what they promise."""

import os
from typing import TYPE_CHECKING

import numpy as np

from hybrid.scores import calibration, metrics, outcomes, plots
from hybrid.scores.rows import Rows
from hybrid.scores.subgroups import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(rows: Rows, path: str | os.PathLike, title: str = '', level: float | None = None) -> None:
    """Draws the reliability diagram of gender, and coverage and width of intervals by age band.

    Examples that the training has seen are left out.

    Args:
      rows: the examples; those without intervals get the diagram alone.
      path: the PNG file, which is replaced as a whole.
      title: the first line above the picture.
      level: the share of ages that intervals promise to hold, if known.
    """
    rows = rows.without_leaks()
    panels = 3 if 'age_low' in rows else 1
    figure = plots.new_figure(5.2 * panels, 4.8)
    axes = np.atleast_1d(figure.subplots(1, panels))
    _draw_reliability(axes[0], rows)
    if panels > 1:
        _draw_intervals(axes[1], axes[2], rows, level)
    figure.suptitle(plots.wrap(title, figure), fontsize=11)
    plots.save(figure, path)


def _draw_reliability(axes: 'Axes', rows: Rows) -> None:
    known = outcomes.is_scored(rows['female_probability'], rows['gender'])
    probability, gender = rows['female_probability'][known], rows['gender'][known]
    axes.plot((0, 1), (0, 1), color=plots.GREY, linewidth=1, linestyle='--')
    for count, said, true in calibration.bins(probability, gender):
        if count:
            ends = wilson_interval(round(count * true), count)
            axes.vlines(said, *ends, color=plots.BLUE, linewidth=1)
            size = 12 + 60 * np.sqrt(count / len(gender))
            axes.scatter(said, true, s=size, color=plots.BLUE, zorder=3)
    text = 'no examples of known gender'
    if len(gender):
        error = calibration.calibration_error(probability, gender)
        text = f'gender: ECE {100 * error:.1f} points, n = {len(gender):,}'
    axes.set(xlabel='predicted probability of female', ylabel='share of females', title=text)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)


def _draw_intervals(coverage: 'Axes', width: 'Axes', rows: Rows, level: float | None) -> None:
    age = rows['age']
    known = ~np.isnan(age) & ~np.isnan(rows['predicted_age'])
    age, predicted, low, high = (
        rows[name][known].astype(np.float64)
        for name in ('age', 'predicted_age', 'age_low', 'age_high')
    )
    inside = (low <= age) & (age <= high)
    names = metrics.age_group_names(plots.BANDS)
    for values, shift, color, label in (
        (predicted, -0.12, plots.BLUE, 'by predicted age'),
        (age, 0.12, plots.ORANGE, 'by true age'),
    ):
        band = metrics.age_group(values, plots.BANDS)
        for k in np.unique(band):
            own = inside[band == k]
            share, place = 100 * own.mean(), k + shift
            ends = np.multiply(100, wilson_interval(int(own.sum()), len(own)))
            coverage.vlines(place, *ends, color=color, linewidth=1)
            coverage.scatter(place, share, s=24, color=color, zorder=3)
            width.bar(place, (high - low)[band == k].mean(), 0.24, color=color)
        coverage.scatter([], [], s=24, color=color, label=label)
    overall = f'{100 * inside.mean():.1f} %' if len(age) else '-'
    mean = f'{(high - low).mean():.1f} years' if len(age) else '-'
    promised = ''
    if level:
        promised = f' of {100 * level:g} %'
        coverage.axhline(
            100 * level, color=plots.GREY, linewidth=1, linestyle='--', label='promised'
        )
    coverage.set(
        ylabel='true ages inside (%)', title=f'intervals{promised} hold {overall} of {len(age):,}'
    )
    width.set(ylabel='mean width (years)', title=f'intervals are {mean} wide in the mean')
    for axes in (coverage, width):
        axes.set_xticks(range(len(names)), names, rotation=45)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_xlabel('age band (years)')
        axes.title.set_fontsize(10)
        axes.grid(axis='y', alpha=0.3)
    coverage.legend(frameon=False)  # The colours of both panels.
