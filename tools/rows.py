"""Writes records as Markdown tables: scores, curves, trials, members of ensembles, differences."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tools.then import of_its_time

Scores = Mapping[str, Any]
Record = Mapping[str, Any]
COLUMNS = (
    *('', 'age MAE', 'MSE', 'RMSE', 'CS@5', 'five_bin', 'gender accuracy', 'F1', 'precision'),
    *('recall', 'run'),
)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    lines = ['| ' + ' | '.join(cells) + ' |' for cells in (columns, *rows)]
    return [lines[0], '|---' * len(columns) + '|', *lines[1:]]


def _number(value: float | None, unit: float, digits: int) -> str:
    return '' if value is None else f'{unit * value:.{digits}f}'


def _with_interval(scores: Scores, key: str, unit: float, digits: int) -> str:
    text = _number(scores[key], unit, digits)
    if not text or scores.get(f'{key}_ci95_low') is None:
        return text
    low, high = (_number(scores[f'{key}_ci95_{end}'], unit, digits) for end in ('low', 'high'))
    return f'{text} ({low} to {high})'


def years(scores: Scores, key: str) -> str:
    """Writes `4.80`, or with its interval, if there is one, `4.80 (4.60 to 5.01)`."""
    return _with_interval(scores, key, 1, 2)


def percent(scores: Scores, key: str) -> str:
    """Writes `94.2`, or with its interval, if there is one, `94.2 (93.2 to 95.1)`."""
    return _with_interval(scores, key, 100, 1)


def score_cells(scores: Scores, prefix: str = '') -> list[str]:
    """Writes the cells of a model; with a prefix, those of a part of the examples."""
    return [
        years(scores, f'{prefix}age/mae'),
        _number(scores[f'{prefix}age/mse'], 1, 1),
        _number(scores[f'{prefix}age/rmse'], 1, 2),
        _number(scores[f'{prefix}age/cs5'], 100, 1),
        _number(scores[f'{prefix}age/group_accuracy_five_bin'], 100, 1),
        percent(scores, f'{prefix}gender/accuracy'),
        *(
            _number(scores[f'{prefix}gender/{name}_female'], 1, 3)
            for name in ('f1', 'precision', 'recall')
        ),
    ]


def few_cells(scores: Scores, prefix: str = '') -> list[str]:
    """As `score_cells`, of MAE, CS@5 and gender accuracy alone."""
    cells = score_cells(scores, prefix)
    return [cells[COLUMNS.index(name) - 1] for name in ('age MAE', 'CS@5', 'gender accuracy')]


def _minutes(record: Record) -> str:
    return f', {max(round(record["seconds"] / 60), 1)} min' if record['seconds'] else ''


def linked_commit(record: Record, folder: str = '') -> str:
    """The commit of a run, or how many commits several runs have, as a link to the record."""
    count = record['commit'].count(',') + 1
    shown = f'`{record["commit"]}`' if count <= 4 else f'{count} commits'
    return f'[{shown}]({folder}{record["name"]}.json)'


def describe_run(record: Record) -> str:
    """Says commit, seed, what the run started from, machine and time."""
    if 'runs' in record:
        what = f'of {", ".join(record["runs"])}'
    elif 'peer' in record:
        what = f'`{record["peer"]["crop"]}`'
        if found := record['peer']['found']:  # None is looked for in the whole picture.
            what += f', {100 * found:.1f} % of faces found'
    else:
        what = f'seed {record["config"]["seed"]}'
        if changed := of_its_time(record):
            few = f' with `{" ".join(changed)}`, as the recipe was'
            what += few if len(changed) <= 2 else ', with the settings that the recipe had then'
        if record['config'].get('model.dtype') == 'bfloat16':
            what += ', in bfloat16'
    for source in record.get('pretrained', ()):
        count = source['loaded'] + len(source['missing'])
        if source['missing']:
            what += f', {source["loaded"]} of {count} tensors pretrained'
    if 'evaluated' in record:
        what += ', evaluated with ' + ', '.join(f'{k} {v}' for k, v in record['evaluated'].items())
    commit = f'`{record["commit"]}`, ' if record['commit'] else ''
    remark = f' ({record["remark"]})' if record['remark'] else ''
    return f'{commit}{what}, {record["machine"]}{remark}{_minutes(record)}'


def _scores(record: Record, split: str) -> Scores:
    return record['splits'][split]['metrics']


def check_same_examples(records: Sequence[Record], split: str) -> None:
    """Refuses runs that were evaluated on different examples, which no table can compare.

    Raises:
      ValueError: when they were.
    """
    examples = {record['dataset']['splits'][split]['sha256'] for record in records}
    if len(examples) > 1:
        names = ', '.join(record['label'] for record in records)
        raise ValueError(f'one table has runs on different {split} examples: {names}')


def scores_table(
    records: Sequence[Record],
    not_run: Sequence[Record] = (),
    published: Mapping[str, Mapping[str, str]] | None = None,
    split: str = 'test',
) -> list[str]:
    """Compares runs by their scores on a split.

    Args:
      records: The runs.
      not_run: `label`, `order` and `command` of runs that nobody has made yet.
      published: What others print: for each label the cells by column.
      split: The split.

    Raises:
      ValueError: when the runs were evaluated on different examples.
    """
    check_same_examples(records, split)

    def rows() -> Iterator[Sequence[str]]:
        if records:
            constant = score_cells(_scores(records[0], split), 'constant/')
            yield 'constant predictor', *constant, ''
        for record in sorted([*records, *not_run], key=lambda record: record['order']):
            if 'splits' not in record:
                empty = [''] * (len(COLUMNS) - 2)
                yield record['label'], *empty, f'not run: `{record["command"]}`'
                continue
            scores = _scores(record, split)
            yield record['label'], *score_cells(scores), describe_run(record)
            if 'without_leaks/num_examples' in scores:
                count = scores['without_leaks/num_examples']
                cells = score_cells(scores, 'without_leaks/')
                yield f'the same, without leaks ({count:,} examples)', *cells, ''
        for label, printed in (published or {}).items():
            yield label, *(printed.get(name, '') for name in COLUMNS[1:])

    return markdown(COLUMNS, rows())


def summary_table(
    records: Sequence[Record], published: Mapping[str, Mapping[str, str]], split: str = 'test'
) -> list[str]:
    """Shows the few rows of README.md: runs, and what others print, whose `summary` labels them."""
    columns = ('', 'MAE, years', 'error at most 5 years, %', 'gender accuracy, %', 'run')

    def rows() -> Iterator[Sequence[str]]:
        for record in records:
            scores = _scores(record, split)
            if record is records[0]:
                cells = few_cells(scores, 'constant/')
                yield 'always the median age and the more frequent gender', *cells, ''
            run = linked_commit(record, 'results/')
            yield record['summary'], *few_cells(scores), run
        for printed in published.values():
            if 'summary' in printed:
                few = ('age MAE', 'CS@5', 'gender accuracy')
                yield printed['summary'], *(printed.get(name, '') for name in few), 'as published'

    return markdown(columns, rows())


def has_curve(record: Record) -> bool:
    """Whether a record shows its run's validation curve; another evaluation of a run does not."""
    return bool(record.get('validation_curve')) and 'evaluated' not in record


def curves_table(records: Sequence[Record]) -> list[str]:
    """Shows validation MAE and gender accuracy after every epoch of the runs that have a curve."""
    records = [record for record in records if has_curve(record)]
    curves = [
        {
            round(row['epoch']): (
                f'{row["validation/age/mae"]:.2f} / {100 * row["validation/gender/accuracy"]:.1f}'
            )
            for row in record['validation_curve']
            # Only validations that fall on the end of an epoch, to within a step.
            if 'epoch' in row and abs(row['epoch'] - round(row['epoch'])) < 0.02
        }
        for record in records
    ]
    epochs = range(1, max((epoch for curve in curves for epoch in curve), default=0) + 1)
    rows = (
        (record['label'], *(curve.get(k, '') for k in epochs))
        for record, curve in zip(records, curves, strict=True)
        if curve
    )
    return markdown(('epoch', *map(str, epochs)), rows)


def difference_cells(scores: Scores) -> list[str]:
    """Writes differences of ages in years and of accuracies in points, each with its interval."""
    cells = []
    for key, unit in (('age/mae', 1), ('gender/accuracy', 100)):
        low, high = (unit * scores[f'{key}_ci95_{end}'] for end in ('low', 'high'))
        cells.append(f'{unit * scores[key]:+.2f} ({low:+.2f} to {high:+.2f})')
    return cells


def tried_table(trials: Sequence[Record]) -> list[str]:
    """Shows what was tried to find a recipe: validation scores, differences to the baseline."""

    def row(trial: Record) -> Sequence[str]:
        scores, difference = trial['scores'], ['', '', '']
        if 'minus_baseline' in trial:
            difference = [f'`{trial["baseline"]}`', *difference_cells(trial['minus_baseline'])]
        return (
            trial['label'] + (' (test read too)' if trial['test_was_read'] else ''),
            f'`{trial["name"]}`',
            years(scores, 'age/mae'),
            percent(scores, 'gender/accuracy'),
            *difference,
            f'`{trial["commit"]}`{_minutes(trial)}',
        )

    columns = ('tried', 'file', 'validation MAE', 'gender accuracy', 'minus', 'MAE')
    return markdown((*columns, 'gender, points', 'run'), map(row, trials))


def comparisons_table(comparisons: Mapping[str, Any]) -> list[str]:
    """Shows the differences of two runs, with their paired intervals."""
    rows = (
        (
            f'{name} (`{entry["a"]}` minus `{entry["b"]}`)',
            f'{entry["split"]}, {entry["scores"]["age/mae_num_examples"]:,}',
            *difference_cells(entry['scores']),
        )
        for name, entry in comparisons.items()
    )
    return markdown(('difference', 'examples', 'age MAE', 'gender accuracy, points'), rows)


def is_ensemble(record: Record) -> bool:
    """Whether a run has members, or several runs were combined."""
    return 'member_0/age/mae' in _scores(record, 'test')


def member_names(record: Record) -> list[str]:
    """Names the members by their runs or groups; groups are numbered in the order of names."""
    if 'runs' in record:
        return list(record['runs'])
    sizes: dict[str, int] = {}
    for key, value in record['config'].items():
        # A group that changes nothing is recorded as an empty dict.
        if match := re.fullmatch(r'ensemble\.groups\.(\w+)(?:\.(.+))?', key):
            sizes.setdefault(match[1], 1)
            if match[2] == 'size':
                sizes[match[1]] = value
    return [name for name in sorted(sizes) for _ in range(sizes[name])]


def members_table(records: Sequence[Record], split: str = 'test') -> list[str]:
    """Shows of every ensemble its members, what combining 2, 3, ... of them gives, and all."""

    def rows(record: Record) -> Iterator[Sequence[str]]:
        scores, names = _scores(record, split), member_names(record)
        matches = (re.fullmatch(r'member_(\d+)/age/mae', key) for key in scores)
        numbers = sorted(int(match[1]) for match in matches if match)
        best = scores.get('best_member/number')

        def cells(prefix: str, suffix: str = '') -> tuple[str, str]:
            mae, accuracy = f'{prefix}age/mae{suffix}', f'{prefix}gender/accuracy{suffix}'
            return years(scores, mae), percent(scores, accuracy)

        yield f'**{record["label"]}**', '', ''
        for number in numbers:
            kind = f', {names[number]}' if number < len(names) else ''
            mark = ', best on validation' if number == best else ''
            yield f'member {number}{kind}{mark}', *cells(f'member_{number}/')
        for k in range(2, len(numbers)):
            yield f'mean over ensembles of {k}', *cells(f'curve/{k}/', '_mean')
        yield f'all {len(numbers)} combined', *cells('')
        if best is not None:
            yield 'combined minus the best member, paired', *cells('minus_best_member/')

    columns = ('', 'age MAE', 'gender accuracy')
    return markdown(columns, (row for record in records for row in rows(record)))


def docstring_lines(record: Record) -> list[str]:
    """Writes the scores of a run for the docstring of its config."""
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
