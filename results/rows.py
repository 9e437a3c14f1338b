"""Rows of the result tables: runs, what others print, members, curves, trials, differences."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

ROUNDED = (('mse', 1), ('rmse', 2))
Scores = Mapping[str, Any]
Record = Mapping[str, Any]
COLUMNS = (
    *('', 'age MAE', 'MSE', 'RMSE', 'CS@5', 'five_bin', 'gender accuracy', 'F1', 'precision'),
    *('recall', 'run'),
)


def years(scores: Scores, key: str) -> str:
    """`4.80`, with its interval `4.80 (4.60 to 5.01)` if there is one."""
    if scores[key] is None:
        return ''
    if scores.get(f'{key}_ci95_low') is None:
        return f'{scores[key]:.2f}'
    low, high = scores[f'{key}_ci95_low'], scores[f'{key}_ci95_high']
    return f'{scores[key]:.2f} ({low:.2f} to {high:.2f})'


def percent(scores: Scores, key: str) -> str:
    """`94.2`, with its interval `94.2 (93.2 to 95.1)` if there is one."""
    if scores[key] is None:
        return ''
    if scores.get(f'{key}_ci95_low') is None:
        return f'{100 * scores[key]:.1f}'
    low, high = scores[f'{key}_ci95_low'], scores[f'{key}_ci95_high']
    return f'{100 * scores[key]:.1f} ({100 * low:.1f} to {100 * high:.1f})'


def _number(value: float | None, unit: float, digits: int) -> str:
    return '' if value is None else f'{unit * value:.{digits}f}'


def score_cells(scores: Scores, prefix: str = '') -> list[str]:
    """The cells of a model; under a prefix, those of a part of the examples."""
    shares = [scores[f'{prefix}age/{name}'] for name in ('cs5', 'group_accuracy_five_bin')]
    ratios = [scores[f'{prefix}gender/{name}_female'] for name in ('f1', 'precision', 'recall')]
    return [
        years(scores, f'{prefix}age/mae'),
        *(_number(scores[f'{prefix}age/{name}'], 1, digits) for name, digits in ROUNDED),
        *(_number(share, 100, 1) for share in shares),
        percent(scores, f'{prefix}gender/accuracy'),
        *(_number(ratio, 1, 3) for ratio in ratios),
    ]


def describe_run(record: Record) -> str:
    """Commit, seed, what it started from, machine and time of a run."""
    minutes = ''
    if record['seconds']:
        minutes = f', {math.ceil(record["seconds"] / 60)} min'
    remark = f' ({record["remark"]})' if record['remark'] else ''
    what = f'of {", ".join(record["runs"])}' if 'runs' in record else ''
    what = what or f'seed {record["config"]["seed"]}'
    for source in record.get('pretrained', ()):
        count = source['loaded'] + len(source['missing'])
        if source['missing']:
            what += f', {source["loaded"]} of {count} tensors pretrained'
    if 'evaluated' in record:
        what += ', evaluated with ' + ', '.join(f'{k} {v}' for k, v in record['evaluated'].items())
    commit = f'`{record["commit"]}`, ' if record['commit'] else ''
    return f'{commit}{what}, {record["machine"]}{remark}{minutes}'


def scores_table(
    records: Sequence[Record],
    not_run: Sequence[Record] = (),
    published: Mapping[str, Mapping[str, str]] | None = None,
    split: str = 'test',
) -> list[str]:
    """Rows of runs: scores on a split.

    Args:
      records: The runs.
      not_run: `label`, `order` and `command` of runs that nobody has made yet.
      published: Cells by column of what others print, by label.
      split: The split.

    Raises:
      ValueError: for runs on different examples, which no table can compare.
    """
    examples = {record['dataset']['splits'][split]['sha256'] for record in records}
    if len(examples) > 1:
        names = ', '.join(record['label'] for record in records)
        raise ValueError(f'one table has runs on different {split} examples: {names}')
    lines = ['| ' + ' | '.join(COLUMNS) + ' |', '|---' * len(COLUMNS) + '|']

    def row(*cells: str) -> None:
        lines.append('| ' + ' | '.join(cells) + ' |')

    if records:
        row('constant predictor', *score_cells(_scores(records[0], split), 'constant/'), '')
    for record in sorted([*records, *not_run], key=lambda record: record['order']):
        if 'splits' not in record:
            row(record['label'], *[''] * (len(COLUMNS) - 2), f'not run: `{record["command"]}`')
            continue
        scores = _scores(record, split)
        row(record['label'], *score_cells(scores), describe_run(record))
        if 'without_leaks/num_examples' in scores:
            count = scores['without_leaks/num_examples']
            cells = score_cells(scores, 'without_leaks/')
            row(f'the same, without leaks ({count:,} examples)', *cells, '')
    for label, printed in (published or {}).items():
        row(label, *(printed.get(name, '') for name in COLUMNS[1:]))
    return lines


def _scores(record: Record, split: str) -> Scores:
    return record['splits'][split]['metrics']


def has_curve(record: Record) -> bool:
    """Whether a record is the one that shows its run's curve; another evaluation of it does not."""
    return bool(record.get('validation_curve')) and 'evaluated' not in record


def curves_table(records: Sequence[Record]) -> list[str]:
    """Validation MAE and gender accuracy after every epoch, a row a run that has a curve."""
    records = [record for record in records if has_curve(record)]
    curves = [
        {
            round(row['epoch']): (row['validation/age/mae'], row['validation/gender/accuracy'])
            for row in record['validation_curve']
            # After whole epochs, to a step.
            if 'epoch' in row and abs(row['epoch'] - round(row['epoch'])) < 0.02
        }
        for record in records
    ]
    last = max((epoch for curve in curves for epoch in curve), default=0)
    lines = [
        '| epoch | ' + ' | '.join(map(str, range(1, last + 1))) + ' |',
        '|---' * (last + 1) + '|',
    ]
    for record, curve in zip(records, curves, strict=True):
        if not curve:
            continue
        cells = [
            f'{curve[k][0]:.2f} / {100 * curve[k][1]:.1f}' if k in curve else ''
            for k in range(1, last + 1)
        ]
        lines.append(f'| {record["label"]} | ' + ' | '.join(cells) + ' |')
    return lines


def tried_table(trials: Sequence[Record]) -> list[str]:
    """What was tried to find a recipe, with validation scores and differences to the baseline."""
    if not trials:
        return ['None yet.']
    lines = [
        '| tried | file | validation MAE | gender accuracy | less | MAE | gender, points | run |',
        '|---' * 8 + '|',
    ]
    for trial in trials:
        scores = trial['scores']
        cells = [
            trial['label'] + (' (test read too)' if trial['test_was_read'] else ''),
            f'`{trial["name"]}`',
            years(scores, 'age/mae'),
            percent(scores, 'gender/accuracy'),
        ]
        if 'minus_baseline' in trial:
            cells += [f'`{trial["baseline"]}`', *difference_cells(trial['minus_baseline'])]
        else:
            cells += ['', '', '']
        minutes = f', {math.ceil(trial["seconds"] / 60)} min' if trial['seconds'] else ''
        lines.append('| ' + ' | '.join([*cells, f'`{trial["commit"]}`{minutes}']) + ' |')
    return lines


def member_names(record: Record) -> list[str]:
    """What the members are: their groups, which are numbered in the order of names, or runs."""
    if 'runs' in record:
        return list(record['runs'])
    sizes: dict[str, int] = {}
    for key, value in record['config'].items():
        if match := re.fullmatch(r'ensemble\.groups\.(\w+)\.(.+)', key):
            sizes.setdefault(match[1], 1)
            if match[2] == 'size':
                sizes[match[1]] = value
    return [name for name in sorted(sizes) for _ in range(sizes[name])]


def members_table(records: Sequence[Record], split: str = 'test') -> list[str]:
    """Ensembles: every member, the curve, the combination, the difference to the best member."""
    lines = ['| | age MAE | gender accuracy |', '|---|---|---|']

    def row(*cells: str) -> None:
        lines.append('| ' + ' | '.join(cells) + ' |')

    for record in records:
        scores = _scores(record, split)
        numbers = sorted(
            int(match[1]) for key in scores if (match := re.fullmatch(r'member_(\d+)/age/mae', key))
        )
        best = scores.get('best_member/number')
        names = member_names(record)

        def cells(prefix: str, suffix: str = '', scores: Scores = scores) -> tuple[str, str]:
            mae, accuracy = f'{prefix}age/mae{suffix}', f'{prefix}gender/accuracy{suffix}'
            return years(scores, mae), percent(scores, accuracy)

        row(f'**{record["label"]}**', '', '')
        for number in numbers:
            kind = f', {names[number]}' if number < len(names) else ''
            mark = ', best on validation' if number == best else ''
            row(f'member {number}{kind}{mark}', *cells(f'member_{number}/'))
        for k in range(2, len(numbers)):
            row(f'mean over ensembles of {k}', *cells(f'curve/{k}/', '_mean'))
        row(f'all {len(numbers)} combined', *cells(''))
        if best is not None:
            row('combined less the best member, paired', *cells('minus_best_member/'))
    return lines


def difference_cells(scores: Scores) -> list[str]:
    """A difference of ages in years and of accuracies in points, each with its interval."""
    cells = []
    for key, unit in (('age/mae', 1), ('gender/accuracy', 100)):
        low, high = (unit * scores[f'{key}_ci95_{end}'] for end in ('low', 'high'))
        cells.append(f'{unit * scores[key]:+.2f} ({low:+.2f} to {high:+.2f})')
    return cells


def comparisons_table(comparisons: Mapping[str, Any]) -> list[str]:
    """Differences of two runs, with paired intervals."""
    lines = ['| difference | examples | age MAE | gender accuracy, points |', '|---|---|---|---|']
    if not comparisons:
        return ['None yet.']
    for name, entry in comparisons.items():
        mae, accuracy = difference_cells(entry['scores'])
        count = entry['scores']['age/mae_num_examples']
        what = f'{name} (`{entry["a"]}` less `{entry["b"]}`)'
        lines.append(f'| {what} | {entry["split"]}, {count:,} | {mae} | {accuracy} |')
    return lines


def docstring_lines(record: Record) -> list[str]:
    """The scores of a run in the docstring of its config."""
    lines = []
    for split in ('validation', 'test'):
        if split in record['splits']:
            scores = _scores(record, split)
            lines.append(
                f'{split:<10}  MAE {years(scores, "age/mae")} years, '
                f'CS@5 {100 * scores["age/cs5"]:.1f} %, '
                f'gender {percent(scores, "gender/accuracy")} %'
            )
    scores = _scores(record, 'test')
    lines.append(
        f'constant    MAE {scores["constant/age/mae"]:.2f} years, '
        f'gender {percent(scores, "constant/gender/accuracy")} % (test)'
    )
    return [*lines, *textwrap.wrap(describe_run(record).replace('`', ''), 96)]


def is_ensemble(record: Record) -> bool:
    """Whether a run has members, or several runs were combined."""
    return 'member_0/age/mae' in record['splits']['test']['metrics']
