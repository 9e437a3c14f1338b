"""The picture of the figures about age limits, and their block of the printed table."""

import math
import os
import re
from collections.abc import Sequence

import numpy as np

from hybrid.scores import metrics, plots, thresholds
from hybrid.scores.outcomes import GENDERS
from hybrid.scores.subgroups import ALL
from hybrid.scores.thresholds import Figure

_FRAME = 'errors that were counted, not advice to decide by'


def plot(figures: Sequence[Figure], path: str | os.PathLike, title: str = '') -> None:
    """Draws the rates over the challenge age with their intervals, women and men apart.

    Args:
      figures: From `thresholds.compute`, at least one of a limit.
      path: The PNG file, which is replaced as a whole.
      title: The first line above the picture.
    """
    limits = list(dict.fromkeys(f.limit for f in figures if f.limit is not None))
    figure = plots.new_figure(10, 1 + 3 * len(limits))
    grid = figure.subplots(len(limits), 3, squeeze=False)
    groups = {ALL: 'black', 'gender/female': plots.ORANGE, 'gender/male': plots.BLUE}
    for limit, panels in zip(limits, grid, strict=True):
        for axes, name, who in zip(
            panels,
            ('false_positive_rate', thresholds.under_name(limit), 'false_negative_rate'),
            (f'under {limit}', f'{limit - thresholds.NEAR} to {limit - 1}', f'{limit} or older'),
            strict=True,
        ):
            top = 5.0
            for group, color in groups.items():
                line = [f for f in figures if (f.limit, f.group, f.figure) == (limit, group, name)]
                if not line or not line[0].n:
                    continue
                ages = [f.challenge or 0 for f in line]
                label = f'{group.removeprefix("gender/")}, n = {line[0].n:,}'
                values, low, high = 100 * np.array([(f.value, f.low, f.high) for f in line]).T
                top = max(top, *high)
                if group != ALL:
                    axes.fill_between(ages, low, high, color=color, alpha=0.18, linewidth=0)
                style = ':' if group == ALL else '-'
                axes.plot(ages, values, color=color, linestyle=style, linewidth=1.6, label=label)
            positive = name != 'false_negative_rate'
            told, kind = ('T or older', 'positives') if positive else ('under T', 'negatives')
            axes.set_title(f'{who}, estimated {told}\n(false {kind})', fontsize=10)
            axes.set(xlabel='challenge age T (years)', xlim=(limit, limit + thresholds.SPAN))
            axes.set_ylim(0, min(1.3 * top, 103))  # Room for the legend.
            axes.set_xticks([limit + more for more in (0, 3, 7, 10, 12)])
            axes.locator_params(axis='y', nbins=5)
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(
                    fontsize=8, frameon=False, loc=f'upper {"right" if positive else "left"}'
                )
            else:
                axes.text(0.5, 0.5, 'nobody', transform=axes.transAxes, ha='center')
        panels[0].set_ylabel('share (%)')
    title = plots.wrap(title, figure)
    figure.suptitle(f'{title}\nage limits: {_FRAME}; bands: 95 % intervals'.strip(), fontsize=11)
    plots.save(figure, path)


def format_lines(scores: metrics.Scores) -> list[str]:
    """Lines of at most 100 columns for the console; none without `thresholds/...` in the scores."""
    found = (re.fullmatch(r'thresholds/(\d+)/challenge_\d+/false_positive_rate', x) for x in scores)
    limits = list(dict.fromkeys(int(match[1]) for match in found if match))
    lines = []
    for limit in limits:
        near = f'{limit - thresholds.NEAR} to {limit - 1}'
        names = ('false_positive_rate', thresholds.under_name(limit), 'false_negative_rate')
        lines.append(
            f'\n{f"age limit {limit}":<22}{f"under {limit}: T or older":>26}'
            f'{f"{near}: T or older":>26}{f"{limit} or older: under T":>26}'
        )
        for more in thresholds.SHOWN:
            key = f'thresholds/{limit}/challenge_{limit + more}'
            label = f'T = {limit + more}' + (f', Challenge {limit + more}' if more == 7 else '')
            cells = (_share(scores, f'{key}/{name}') for name in names)
            lines.append(f'  {label:<20}' + ''.join(f'{cell:>26}' for cell in cells))
        counts = (scores[f'{key}/{name}_num_examples'] for name in names)
        lines.append(f'  {"examples":<20}' + ''.join(f'{count:>26,}' for count in counts))
        undecided = scores.get(f'thresholds/{limit}/{thresholds.NUM_UNDECIDED}')
        if undecided:
            lines.append(f'  {undecided:,} ages are ranges about {limit}, and do not count')
    if not lines:
        return []
    keys = [f'thresholds/{name}' for name in thresholds.child_names()]
    spans = [' to '.join(key.rsplit('_', 2)[1:]) for key in keys]
    heads = (
        f'{span}, {word}' for span, word in zip(spans, ('right', 'wrong', 'wrong'), strict=True)
    )
    lines.append(f'{"child safety":<22}' + ''.join(f'{head:>26}' for head in heads))
    cells = (_share(scores, key) for key in keys)
    lines.append(f'  {f"estimated {spans[0]}":<20}' + ''.join(f'{cell:>26}' for cell in cells))
    counts = (scores[f'{key}_num_examples'] for key in keys)
    lines.append(f'  {"examples":<20}' + ''.join(f'{count:>26,}' for count in counts))
    key = f'thresholds/{thresholds.MAE}'
    value, low, high = scores[key], scores[f'{key}_ci95_low'], scores[f'{key}_ci95_high']
    text = 'none' if math.isnan(value) else f'{value:.2f} years'
    text += '' if math.isnan(low) else f' ({low:.2f} .. {high:.2f})'
    filled, ages = scores[f'thresholds/{thresholds.NUM_CELLS}'], thresholds.MAE_AGES
    lines.append(
        f'age/mae of ages {ages[0]} to {ages[-1]}: {text}, of {scores[f"{key}_num_examples"]:,} '
        f'examples; {filled} of {len(GENDERS)} x {len(ages)} cells filled'
    )
    leaks = '; without leaks' if 'without_leaks/num_examples' in scores else ''
    return [*lines, f'age limits: {_FRAME}; 95 % intervals in brackets{leaks}']


def _share(scores: metrics.Scores, key: str) -> str:
    """Writes `10.4 % (7.7 .. 13.8)`."""
    value, low, high = (100 * scores[f'{key}{end}'] for end in ('', '_ci95_low', '_ci95_high'))
    return '-' if math.isnan(value) else f'{value:.1f} % ({low:.1f} .. {high:.1f})'
