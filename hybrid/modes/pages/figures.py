"""The tables that a model card and a report have in common: scores, subgroups, age limits."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hybrid.modes.pages.blocks import Table, Text
from hybrid.modes.pages.run_record import Evaluation
from hybrid.scores import subgroups, thresholds

# What each score says, and its unit: `years`, `%` of a share, or a plain number.
LABELS = {
    'age/mae': ('mean absolute error of the age', 'years'),
    'age/rmse': ('root of the mean squared error', 'years'),
    'age/bias': ('mean error, estimate less true age', 'years'),
    'age/cs3': ('errors of at most 3 years', '%'),
    'age/cs5': ('errors of at most 5 years', '%'),
    'age/cs10': ('errors of at most 10 years', '%'),
    'age/group_accuracy_five_bin': ('right one of the groups 0-12, 13-25, 26-40, 41-60, 61+', '%'),
    'age/group_accuracy_fairface9': ('right one of nine groups of ten years', '%'),
    'age/interval_error': ('years outside of ages that are ranges', 'years'),
    'age/interval_accuracy': ('ages that are ranges: estimates inside', '%'),
    'age/coverage': ('true ages inside of their interval', '%'),
    'age/mean_interval_width': ('mean width of these intervals', 'years'),
    'gender/accuracy': ('right genders', '%'),
    'gender/balanced_accuracy': ('right genders, mean over the two', '%'),
    'gender/precision_female': ('precision, female', '%'),
    'gender/recall_female': ('recall, female', '%'),
    'gender/f1_female': ('F1, female', '%'),
    'gender/precision_male': ('precision, male', '%'),
    'gender/recall_male': ('recall, male', '%'),
    'gender/f1_male': ('F1, male', '%'),
    'gender/brier': ('Brier score of the probability of gender', ''),
    'gender/nll': ('cross-entropy of gender, nats', ''),
    'gender/ece': ('expected calibration error of gender', ''),
    'gender/sure/accuracy': ('right genders where the model is sure', '%'),
    'gender/sure/share': ('where the model is sure of the gender', '%'),
}
# What a card shows of them.
MAIN = (
    *('age/mae', 'age/rmse', 'age/bias', 'age/cs5', 'age/interval_error', 'age/interval_accuracy'),
    *('age/coverage', 'age/mean_interval_width', 'gender/accuracy', 'gender/balanced_accuracy'),
    *('gender/ece', 'gender/sure/accuracy', 'gender/sure/share'),
)
_WITHOUT_LEAKS = 'without_leaks/'


def number(value: float, unit: str, signed: bool = False) -> str:
    """Such as `4.79`, `93.5`, `0.0438`; a dash where there is none."""
    if math.isnan(value):
        return '-'
    plus = '+' if signed else ''
    if unit == '%':
        return f'{100 * value:{plus}.1f}'
    return f'{value:{plus}.{2 if unit == "years" else 4}f}'


def with_interval(scores: Mapping[str, float], name: str, unit: str, signed: bool = False) -> str:
    """Such as `4.79 (4.59 to 5.00)`; in per cent for shares, a difference of these in points."""
    value = scores.get(name, math.nan)
    low, high = (scores.get(f'{name}_ci95_{end}', math.nan) for end in ('low', 'high'))
    text = number(value, unit, signed)
    if unit == '%' and not math.isnan(value):
        text += ' points' if signed else ' %'
    if math.isnan(value) or math.isnan(low):
        return text
    return f'{text} ({number(low, unit, signed)} to {number(high, unit, signed)})'


def known(scores: Mapping[str, float], name: str) -> bool:
    """Whether there is such a score, and it is defined."""
    return not math.isnan(scores.get(name, math.nan))


def score_table(evaluation: Evaluation, names: Iterable[str] = tuple(LABELS)) -> Table:
    """The scores of an evaluation with their intervals, beside those of the constant predictor."""
    scores = evaluation.scores
    rows = []
    for prefix in ('', _WITHOUT_LEAKS):
        for name in names if not prefix else ('age/mae', 'age/interval_error', 'gender/accuracy'):
            if not known(scores, prefix + name):
                continue
            label, unit = LABELS[name]
            if name == 'age/coverage' and evaluation.about.get('interval_level'):
                label += f' of {100 * evaluation.about["interval_level"]:g} %'
            label += ', without examples that the training has seen' if prefix else ''
            constant = scores.get(f'{prefix}constant/{name}', math.nan)
            rows.append(
                [
                    label + (' (years)' if unit == 'years' else ''),
                    with_interval(scores, prefix + name, unit),
                    with_interval({name: constant}, name, unit),
                ]
            )
    return Table(['', 'model', 'constant predictor'], rows)


def kinds(cells: Sequence[subgroups.Cell]) -> list[str]:
    """The kinds of subgroups that cells have: `age`, `gender` and what else the dataset names."""
    scores = (*subgroups.SCORES, *subgroups.INTERVAL_SCORES, *subgroups.COVERAGE_SCORES)
    return [name for name in cells[0] if name not in scores] if cells else []


def worst_first(
    cells: Sequence[subgroups.Cell], kind: str, count: int | None = None, smallest: int = 0
) -> Table | None:
    """The subgroups, and their combinations, of which a kind of estimate is worst, worst first.

    Args:
      cells: From `Evaluation.cells`.
      kind: `age` or `gender`.
      count: How many are shown, each set of examples once, by its shortest name; None for all.
      smallest: How many examples a subgroup has at least; others are left out.

    Returns:
      The table; None if there is nothing to compare.
    """
    name = 'gender/accuracy'
    if kind == 'age':
        both = ('age/mae', 'age/interval_error')
        name = next((n for n in both if any(known(cell, n) for cell in cells)), both[0])
    size = 'age/interval_num_examples' if name == 'age/interval_error' else f'{kind}/num_examples'
    large = [cell for cell in cells if cell.get(size, 0) >= smallest and known(cell, name)]
    if count is not None:
        large = _without_repeats(large, kinds(cells), size)
    if len(large) < 2:
        return None
    large.sort(key=lambda cell: cell[name] if kind == 'gender' else -cell[name])
    columns = {
        'age/mae': ('age error, years', 'years'),
        'age/interval_error': ('years outside', 'years'),
        'age/bias': ('mean error', 'years'),
        'age/coverage': ('inside of the interval', '%'),
        'gender/accuracy': ('right genders', '%'),
    }
    columns = {n: c for n, c in columns.items() if any(known(cell, n) for cell in large)}
    columns = {name: columns[name]} | columns
    rows: list[Sequence[Text]] = []
    for cell in large[:count]:
        values = (
            with_interval(cell, n, unit, signed=n == 'age/bias') for n, (_, unit) in columns.items()
        )
        rows.append([group_name(cell, kinds(cells)), f'{int(cell[size]):,}', *values])
    return Table(['group', 'examples', *(label for label, _ in columns.values())], rows)


def _without_repeats(
    cells: Sequence[subgroups.Cell], names: Sequence[str], size: str
) -> list[subgroups.Cell]:
    """Leaves out subgroups of as many examples as one that they are a part of: it is the same."""
    sizes = {tuple(cell[name] for name in names): cell[size] for cell in cells}

    def wider(place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        return (
            (*place[:k], subgroups.ALL, *place[k + 1 :])
            for k, value in enumerate(place)
            if value != subgroups.ALL
        )

    return [
        cell
        for place, cell in zip(sizes, cells, strict=True)
        if all(sizes.get(other) != sizes[place] for other in wider(place))
    ]


def group_name(cell: subgroups.Cell, names: Sequence[str]) -> str:
    """What a subgroup is called, such as `61+, male`."""
    said = [cell[name] for name in names if cell[name] != subgroups.ALL]
    return ', '.join(said) or 'everybody'


def limit_tables(scores: Mapping[str, float]) -> list[Table]:
    """The rates about each age limit, as NIST counts them; none without such scores."""
    found = (
        re.fullmatch(r'thresholds/(\d+)/challenge_(\d+)/false_positive_rate', x) for x in scores
    )
    pairs = sorted((int(match[1]), int(match[2])) for match in found if match)
    tables = []
    for limit in dict.fromkeys(limit for limit, _ in pairs):
        near = f'{limit - thresholds.NEAR} to {limit - 1}'
        names = ('false_positive_rate', thresholds.under_name(limit), 'false_negative_rate')
        rows: list[Sequence[Text]] = []
        for _, challenge in (pair for pair in pairs if pair[0] == limit):
            key = f'thresholds/{limit}/challenge_{challenge}'
            cells = (with_interval(scores, f'{key}/{name}', '%') for name in names)
            rows.append([f'{challenge} years', *cells])
        counts = (scores.get(f'{key}/{name}_num_examples', 0) for name in names)
        rows.append(['examples', *(f'{int(count):,}' for count in counts)])
        head = (f'under {limit}', f'aged {near}', f'{limit} or older')
        said = ('estimated older', 'estimated older', 'estimated younger')
        columns = [f'{who}, {what}' for who, what in zip(head, said, strict=True)]
        tables.append(Table(['challenge age', *columns], rows))
    return tables
