"""Pictures of what an ensemble gains over its members, and of their disagreement."""

import os

import numpy as np

from hybrid.scores import ensemble_metrics, metrics, plots


def plot_curve(scores: metrics.Scores, path: str | os.PathLike, title: str = '') -> None:
    """Draws age MAE and gender accuracy over the number of members that are combined.

    Args:
      scores: from `ensemble_metrics.compute_metrics`.
      path: the PNG file, which is replaced as a whole.
      title: the first line above the picture.
    """
    sizes = np.array(sorted({int(k.split('/')[1]) for k in scores if k.startswith('curve/')}))
    figure = plots.new_figure(9, 4.2)
    panels = figure.subplots(1, 2)
    for axes, name, label, scale in (
        (panels[0], 'age/mae', 'age MAE (years)', 1),
        (panels[1], 'gender/accuracy', 'gender accuracy (%)', 100),
    ):
        mean, std, low, high = (
            scale * np.array([scores[f'curve/{k}/{name}_{word}'] for k in sizes], np.float64)
            for word in ('mean', 'std', 'min', 'max')
        )
        axes.fill_between(sizes, low, high, color=plots.BLUE, alpha=0.15, lw=0, label='min, max')
        axes.errorbar(sizes, mean, std, color=plots.BLUE, marker='o', ms=4, label='mean, std')
        # Beyond so many the numbers would overlap.
        axes.set_xticks(sizes[:: -(-len(sizes) // 12)])
        axes.set(xlabel='members combined', ylabel=label)
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    title = plots.wrap(title, figure)
    figure.suptitle(f'{title}\nover subsets of the members'.strip(), fontsize=11)
    plots.save(figure, path)


def plot_disagreement(scores: metrics.Scores, path: str | os.PathLike, title: str = '') -> None:
    """Draws the age MAE by fifths of the members' disagreement, and accuracy by agreement.

    Args:
      scores: from `ensemble_metrics.compute_metrics`.
      path: the PNG file, which is replaced as a whole.
      title: the first line above the picture.
    """
    figure = plots.new_figure(9, 4.2)
    panels = figure.subplots(1, 2, width_ratios=(3, 2))
    keys = [f'disagreement/quintile_{q + 1}' for q in range(ensemble_metrics.NUM_QUANTILES)]
    spreads = [scores[f'{key}/age_std'] for key in keys]
    ticks = ['-' if np.isnan(spread) else f'{spread:.2f}' for spread in spreads]
    heights = [scores[f'{key}/age/mae'] for key in keys]
    panels[0].bar(range(len(keys)), np.nan_to_num(heights), 0.6, color=plots.BLUE)
    panels[0].set_xticks(range(len(keys)), ticks)
    panels[0].set(
        xlabel='mean standard deviation between members (years), fifths of the examples',
        ylabel='age MAE (years)',
    )
    kinds = ('agreed', 'differed')
    counts = [scores[f'disagreement/gender_{kind}/num_examples'] for kind in kinds]
    shares = [scores[f'disagreement/gender_{kind}/gender/accuracy'] for kind in kinds]
    bars = panels[1].bar((0, 1), 100 * np.nan_to_num(shares), 0.6, color=plots.BLUE)
    panels[1].bar_label(bars, ['' if np.isnan(share) else f'{100 * share:.1f}' for share in shares])
    labels = [f'members {kind}\nn = {n:,}' for kind, n in zip(kinds, counts, strict=True)]
    panels[1].set_xticks((0, 1), labels)
    panels[1].set(ylabel='gender accuracy (%)', ylim=(0, 110), yticks=range(0, 101, 20))
    for axes in panels:
        axes.grid(axis='y', alpha=0.3)
        axes.set_axisbelow(True)
    title = plots.wrap(title, figure)
    figure.suptitle(f"{title}\nerror by the members' disagreement".strip(), fontsize=11)
    plots.save(figure, path)
