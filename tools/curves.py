r"""Draws the validation curves of the runs of a table as one picture.

python -m tools.curves [--table=utkface] [--output=results/learning_curves.png]
"""

import argparse
import pathlib

import numpy as np

from hybrid.scores import plots
from tools import rows
from tools.kept import RESULTS, read_json

PANELS = (
    ('validation/age/mae', 'validation MAE (years)', 1),
    ('validation/gender/accuracy', 'validation gender accuracy (%)', 100),
)


def draw(records: list[rows.Record], path: pathlib.Path) -> None:
    """Draws MAE and gender accuracy over the epochs, one line for each run."""
    figure = plots.new_figure(11, 5.5)
    panels = figure.subplots(1, 2)
    for axes, (name, label, unit) in zip(panels, PANELS, strict=True):
        for record in records:
            points = [(row['epoch'], unit * row[name]) for row in record['validation_curve']]
            axes.plot(
                *np.array(points).T,
                marker='o',
                ms=3.5,
                lw=1.4,
                label=record['label'].replace('`', ''),
            )
        axes.set(xlabel='epoch', ylabel=label)
        axes.grid(alpha=0.3)
    panels[0].set_yscale('log')
    panels[0].yaxis.set_major_formatter('{x:.0f}')
    panels[0].yaxis.set_minor_formatter('{x:.0f}')
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', frameon=False, fontsize=9)
    plots.save(figure, path)


def main() -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--table', default='utkface')
    output = RESULTS / 'learning_curves.png'
    parser.add_argument('--output', type=pathlib.Path, default=output)
    options = parser.parse_args()
    records = [
        content
        for content in read_json(RESULTS).values()
        if content.get('table') == options.table and rows.has_curve(content)
    ]
    if not records:
        parser.error(f'no run of table {options.table!r} has a validation curve')
    draw(sorted(records, key=lambda record: record['order']), options.output)
    print(options.output)


if __name__ == '__main__':
    main()
