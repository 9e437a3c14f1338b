"""Pictures of the evaluation report and of the training curves, as PNG files.

Matplotlib is imported on first use, and by its object interface: no window, no global state.
"""

import os
import textwrap
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid import files
from hybrid.scores import bootstrap, metrics, outcomes
from hybrid.scores.outcomes import GENDERS
from hybrid.scores.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = '#1f6fb4', '#d95f02', '#8a8a8a'
BANDS = 'fairface9'
FACES_IN_A_ROW = 5
MAX_DOTS = 1000  # More examples than these are drawn as density.
AXES_LIMITS = (-30, 149)  # Years; the scatter's axes end at the next ten.


def plot_age_scatter(rows: Rows, path: str | os.PathLike, title: str = '') -> None:
    """Draws predicted over true age in years, with the diagonal; dots, or density if many.

    Ages that are ranges are lines from end to end, unless they are many.

    Args:
      rows: the examples.
      path: the PNG file, which is replaced as a whole.
      title: the first line above the picture.
    """
    begin, end, everything, _ = _known_ages(rows)
    exact = begin == end
    age, predicted = begin[exact], everything[exact]
    error = outcomes.age_error(predicted, age)
    summary = _count(len(age), 'known age' if exact.all() else 'exact age')
    if len(age):
        mae = outcomes.mean(outcomes.absolute_age_error(predicted, age))
        summary = f'MAE {mae:.2f} years, bias {error.mean():+.2f}, {summary}'
    if not exact.all():
        distance = outcomes.absolute_age_error(everything, begin, end)[~exact]
        of_ranges = f'{outcomes.mean(distance):.2f} years outside of {len(distance):,} ranges'
        summary = f'{summary}\n{of_ranges}' if len(age) else of_ranges
    # A model gone wild may predict any number: beyond AXES_LIMITS it is drawn on the edge.
    ends = np.clip([0, *begin, *end[np.isfinite(end)], *everything], *AXES_LIMITS)
    low, high = 10 * np.floor(ends.min() / 10), 10 * np.floor(ends.max() / 10 + 1)
    outside = np.count_nonzero((everything < low) | (everything > high))
    if outside:
        summary += f'\n{outside:,} beyond the axes, drawn on the edge'
    shown = np.clip(predicted, low, high)

    figure = new_figure(6.4, 6)
    axes = figure.subplots()
    if len(age) > MAX_DOTS:
        from matplotlib.colors import LogNorm

        # Labels are whole years: bins of whole years, centred on them, show no stripes.
        edges = np.arange(low - 0.5, high + 2, 2)
        *_, mesh = axes.hist2d(age, shown, edges, cmin=1, norm=LogNorm(), cmap='viridis_r')
        bar = figure.colorbar(mesh, ax=axes, shrink=0.8, label='examples in 2 x 2 years')
        bar.ax.yaxis.set_major_formatter('{x:,.0f}')
        bar.outline.set_visible(False)
    else:
        alpha = float(np.clip(60 / max(len(age), 1), 0.25, 1))
        axes.scatter(age, shown, s=22, color=BLUE, alpha=alpha, linewidths=0)
    if len(everything) - len(age) <= MAX_DOTS:
        levels = np.clip(everything[~exact], low, high)
        lines = (levels, begin[~exact], np.minimum(end[~exact], high))
        axes.hlines(*lines, color=BLUE, alpha=0.3, linewidth=1)
    axes.plot([low, high], [low, high], color=ORANGE, linewidth=1.2, label='predicted = true')
    axes.set(xlim=(low, high), ylim=(low, high), aspect='equal')
    axes.set(xlabel='true age (years)', ylabel='predicted age (years)')
    axes.legend(loc='upper left', frameon=False)
    _set_title(axes, title, summary)
    save(figure, path)


def plot_age_error_by_band(rows: Rows, path: str | os.PathLike, title: str = '') -> None:
    """Draws MAE and bias in years by band of true age, MAE beside the constant predictor.

    Ages that are ranges of one band count with their distance to the prediction.

    Args:
      rows: the examples.
      path: the PNG file, which is replaced as a whole.
      title: the first line above the picture.
    """
    low, high, predicted, constant = _known_ages(rows)
    names = metrics.age_group_names(BANDS)
    band = metrics.common_age_group(low, high, BANDS)
    low, high, predicted, constant, band = (
        values[band >= 0] for values in (low, high, predicted, constant, band)
    )
    counts = np.bincount(band, minlength=len(names))
    figure = new_figure(8, 6.4)
    mae_axes, bias_axes = figure.subplots(2, 1, sharex=True)
    of = 'known age' if (low == high).all() else 'known age or range in one band'
    _set_title(mae_axes, title, _count(len(band), of))
    error = outcomes.age_error(predicted, low, high)
    of_constant = outcomes.absolute_age_error(constant, low, high)
    # The constant predictor's bias is its distance from the band, and would hide the model's.
    for axes, values, shift, color, label in (
        (mae_axes, np.abs(error), -0.2, BLUE, 'model, 95 % interval'),
        (mae_axes, of_constant, 0.2, GREY, 'constant predictor'),
        (bias_axes, error, 0, BLUE, ''),
    ):
        for k in np.flatnonzero(counts):
            inside = values[band == k]
            axes.bar(k + shift, inside.mean(), 0.38, color=color)
            if color == BLUE:
                interval = bootstrap.percentile_interval(bootstrap.resampled_means(inside[None])[0])
                axes.vlines(k + shift, *interval, color='black', linewidth=1)
        axes.bar(0, 0, color=color, label=label)
    for axes, label in ((mae_axes, 'MAE (years)'), (bias_axes, 'bias (years)')):
        axes.axhline(0, color='black', linewidth=0.8)
        axes.set_ylabel(label)
        axes.grid(axis='y', alpha=0.3)
    mae_axes.legend(loc='upper left', frameon=False)
    ticks = [f'{name}\nn = {count:,}' for name, count in zip(names, counts, strict=True)]
    bias_axes.set_xticks(range(len(names)), ticks)
    bias_axes.set(xlim=(-0.6, len(names) - 0.4), xlabel='true age (years)')
    save(figure, path)


def plot_confusion_matrix(rows: Rows, path: str | os.PathLike, title: str = '') -> None:
    """Draws the gender confusion matrix: counts, and per cent of the true gender.

    Args:
      rows: the examples.
      path: the PNG file, which is replaced as a whole.
      title: the first line above the picture.
    """
    known = outcomes.is_scored(rows['female_probability'], rows['gender'])
    female = outcomes.is_female(rows['female_probability'][known])
    confusion = metrics.confusion_matrix(rows['gender'][known], female.astype(np.int64))
    true = confusion.sum(axis=1)
    share = confusion / np.maximum(true, 1)[:, None]
    figure = new_figure(5, 4.8)
    axes = figure.subplots()
    axes.imshow(share, cmap='Blues', vmin=0, vmax=1)
    for (t, p), count in np.ndenumerate(confusion):
        text = f'{count:,}\n{100 * share[t, p]:.1f} %' if true[t] else '0\n-'
        color = 'white' if share[t, p] > 0.5 else 'black'
        axes.text(p, t, text, ha='center', va='center', color=color, fontsize=14)
    accuracy = f'accuracy {100 * confusion.trace() / len(female):.1f} %, ' if len(female) else ''
    _set_title(axes, title, f'{accuracy}{_count(len(female), "known gender")}')
    labels = [f'{name}\nn = {count:,}' for name, count in zip(GENDERS, true, strict=True)]
    axes.set_xticks((0, 1), GENDERS)
    axes.set_yticks((0, 1), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel='predicted gender', ylabel='true gender')
    save(figure, path)


def plot_training_curves(
    metrics_jsonl_path: str | os.PathLike, out_path: str | os.PathLike
) -> None:
    """Draws losses, age MAE, gender accuracy and learning rate over the steps of a run.

    Args:
      metrics_jsonl_path: one JSON object a line with `step` and keys such as `train/age_mae` and
        `validation/age/mae`. Missing keys leave gaps; a line cut short by a crash is skipped.
      out_path: the PNG file, which is replaced as a whole.
    """
    rows = [row for row in files.read_json_lines(metrics_jsonl_path) if 'step' in row]
    figure = new_figure(10, 6.8)
    panels = figure.subplots(2, 2, sharex=True)
    for axes, label, train, validation, scale in (
        (panels[0, 0], 'loss', 'loss', 'loss', 1),
        (panels[0, 1], 'age MAE (years)', 'age_mae', 'age/mae', 1),
        (panels[1, 0], 'gender accuracy (%)', 'gender_accuracy', 'gender/accuracy', 100),
        (panels[1, 1], 'learning rate', 'learning_rate', None, 1),
    ):
        steps, values = _curve(rows, f'train/{train}')
        marker = '' if len(steps) > 20 else '.'
        axes.plot(steps, scale * values, color=BLUE, lw=1.2, marker=marker, label='training')
        number = np.isfinite(values).sum()
        if validation:
            steps, values = _curve(rows, f'validation/{validation}')
            axes.plot(steps, scale * values, color=ORANGE, marker='o', ms=3.5, label='validation')
            number += np.isfinite(values).sum()
        if axes is panels[0, 1]:
            number += _plot_interval_errors(axes, rows)
        if not number:
            axes.text(0.5, 0.5, 'no values', transform=axes.transAxes, ha='center', color=GREY)
        axes.set_ylabel(axes.get_ylabel() or label)
        axes.grid(alpha=0.3)
    panels[0, 0].legend(loc='upper right', frameon=False)
    for axes in panels[1]:
        axes.set_xlabel('step')
    save(figure, out_path)


def _plot_interval_errors(axes: 'Axes', rows: list[dict[str, Any]]) -> int:
    """Draws the errors of ages that are ranges, if there are any, and returns how many."""
    number = 0
    for name, color in (
        ('train/age_interval_error', BLUE),
        ('validation/age/interval_error', ORANGE),
    ):
        steps, values = _curve(rows, name)
        if len(steps):
            axes.plot(steps, values, color=color, linestyle=':')
            axes.set_ylabel('age MAE, dotted: of ranges (years)')
            number += np.isfinite(values).sum()
    return number


def _known_ages(rows: Rows) -> tuple[np.ndarray, ...]:
    """Lower and upper bounds of ages, predicted and constant ages in years, float64 `[M]`.

    They are of the examples whose age is known, if only as a range, and predicted.
    """
    bounds = outcomes.age_bounds(rows)
    known = ~np.isnan(bounds[0]) & ~np.isnan(rows['predicted_age'])
    columns = (*bounds, rows['predicted_age'], rows['constant_age'])
    return tuple(column[known].astype(np.float64) for column in columns)


def _curve(rows: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values `[M]` of the rows that hold the name; null is NaN, a gap."""
    points = [(row['step'], row[name]) for row in rows if name in row]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values


def draw_faces(
    images: Sequence[np.ndarray], captions: Sequence[str], path: str | os.PathLike
) -> None:
    """Draws faces [H, W, 3] in rows of five, each under its caption."""
    lines = -(-len(images) // FACES_IN_A_ROW)
    figure = new_figure(2.4 * FACES_IN_A_ROW, 3.0 * lines)
    panels = figure.subplots(lines, FACES_IN_A_ROW, squeeze=False).ravel()
    for axes in panels:
        axes.axis('off')
    for axes, image, text in zip(panels, images, captions, strict=False):
        axes.imshow(image)
        axes.set_title(text, fontsize=8)
    save(figure, path)


def new_figure(width: float, height: float) -> 'Figure':
    """Returns an empty figure of the given size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _count(number: int, of: str) -> str:
    return f'{number:,} {"example" if number == 1 else "examples"} of {of}'


def wrap(title: str, figure: 'Figure') -> str:
    """Breaks a title at font size 11 into lines that the figure is wide enough for."""
    return textwrap.fill(title, int(11 * figure.get_figwidth()))


def _set_title(axes: 'Axes', title: str, summary: str) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    title = wrap(title, figure)
    axes.set_title(f'{title}\n{summary}' if title else summary, fontsize=11)


def save(figure: 'Figure', path: str | os.PathLike) -> None:
    """Writes a figure as PNG; a file of that name is replaced as a whole.

    Dollar signs are what they are, and letters that the font lacks are boxes: names of files and
    subgroups may have both.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with files.replacing(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph .* missing from font')
        figure.savefig(partial, format='png')
