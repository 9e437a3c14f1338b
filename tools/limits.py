"""Tabulates how four combined models err about the age limit 18, from kept predictions.

python -m tools.limits    # writes results/NAME.thresholds.csv; tools.table makes the table
"""

import math
from collections.abc import Iterator, Sequence

from hybrid import files
from hybrid.scores import thresholds
from hybrid.scores.predictions_csv import read_predictions
from tools.kept import DETAILED, RESULTS, predictions_path
from tools.rows import markdown

PATH = RESULTS / f'{DETAILED}.thresholds.csv'
CHALLENGES = {18: 'T = 18', 25: 'Challenge 25', 30: 'T = 30'}


def compute() -> list[thresholds.Figure]:
    """Counts the figures of the run on its test split."""
    return thresholds.compute(read_predictions(predictions_path(DETAILED, 'test')))


def table() -> list[str]:
    """Shows the figures of everybody, of each gender and of each ethnicity, with counts."""
    figures = {f[:4]: f for f in compute()}
    groups = [group for group in dict.fromkeys(f[2] for f in figures) if '+' not in group]

    def rows() -> Iterator[Sequence[str]]:
        for name, who in (
            ('false_positive_rate', 'under 18, estimated T or older'),
            (thresholds.under_name(18), 'aged 14 to 17, estimated T or older'),
            ('false_negative_rate', '18 or older, estimated under T'),
        ):
            for challenge, label in CHALLENGES.items():
                of = (figures[18, challenge, group, name] for group in groups)
                yield f'{who}, {label}', *(_cell(figure, 100, 1) for figure in of)
        whom = ('aged 13 to 16', 'aged 8 to 12', 'aged 17 to 22')
        for name, who in zip(thresholds.child_names(), whom, strict=True):
            of = (figures[None, None, group, name] for group in groups)
            yield f'{who}, estimated 13 to 16', *(_cell(figure, 100, 1) for figure in of)
        of = (figures[None, None, group, thresholds.MAE] for group in groups)
        yield 'MAE of ages 18 to 30, years', *(_cell(figure, 1, 2) for figure in of)

    names = [group.split('/')[-1] for group in groups]
    return markdown(('%', *names), rows())


def _cell(figure: thresholds.Figure, unit: float, digits: int) -> str:
    """Writes `10.4 (7.7 to 13.8) of 386`."""
    value, low, high = (f'{unit * x:.{digits}f}' for x in (figure.value, figure.low, figure.high))
    if math.isnan(figure.value):
        return f'- of {figure.n:,}'
    interval = '' if math.isnan(figure.low) else f' ({low} to {high})'
    return f'{value}{interval} of {figure.n:,}'


if __name__ == '__main__':
    files.replace(PATH, thresholds.to_csv(compute()))
