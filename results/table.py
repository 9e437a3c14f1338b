r"""README's result tables, made from the JSON files beside this script; nothing is typed by hand.

  python results/table.py           # rewrites the tables in README.md
  python results/table.py --check   # fails if they are not what the files say; CI runs this

A table stands in README.md between the lines `<!-- results: NAME -->` and `<!-- end -->`.
"""

import argparse
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

FOLDER = pathlib.Path(__file__).resolve().parent
README = FOLDER.parent / 'README.md'
REGION = re.compile(r'(<!-- results: (\w+) -->\n)(.*?)(<!-- end -->)', re.DOTALL)

Scores = Mapping[str, float]
COLUMNS = (
    *('', 'age MAE', 'MSE', 'RMSE', 'CS@5', 'five_bin', 'gender accuracy', 'F1', 'precision'),
    *('recall', 'run'),
)
# What the source paper prints, without split, seed or definition of its "age accuracy" (second).
PAPER = {
    'paper, previous model': (4.30, 76.0, 95.0, 0.94, 0.95, 0.93),
    'paper, hybrid': (4.25, 74.4, 95.3, 0.95, 0.96, 0.94),
}


def years(scores: Scores, key: str) -> str:
    """`4.80`, with its interval `4.80 (4.60 to 5.01)` if there is one."""
    if f'{key}_ci95_low' not in scores:
        return f'{scores[key]:.2f}'
    low, high = scores[f'{key}_ci95_low'], scores[f'{key}_ci95_high']
    return f'{scores[key]:.2f} ({low:.2f} to {high:.2f})'


def percent(scores: Scores, key: str) -> str:
    """`94.2`, with its interval `94.2 (93.2 to 95.1)` if there is one."""
    if f'{key}_ci95_low' not in scores:
        return f'{100 * scores[key]:.1f}'
    low, high = scores[f'{key}_ci95_low'], scores[f'{key}_ci95_high']
    return f'{100 * scores[key]:.1f} ({100 * low:.1f} to {100 * high:.1f})'


def score_cells(scores: Scores, prefix: str = '') -> list[str]:
    """The cells of a model; under a prefix, those of a part of the examples."""
    shares = [scores[f'{prefix}age/{name}'] for name in ('cs5', 'group_accuracy_five_bin')]
    ratios = [scores[f'{prefix}gender/{name}_female'] for name in ('f1', 'precision', 'recall')]
    return [
        years(scores, f'{prefix}age/mae'),
        f'{scores[f"{prefix}age/mse"]:.1f}',
        f'{scores[f"{prefix}age/rmse"]:.2f}',
        *(f'{100 * share:.1f}' for share in shares),
        percent(scores, f'{prefix}gender/accuracy'),
        *('' if ratio is None else f'{ratio:.3f}' for ratio in ratios),
    ]


def describe_run(record: Mapping[str, Any]) -> str:
    """Commit, seed, machine, time and file of a run."""
    minutes = f', {record["seconds"] / 60:.0f} min' if record['seconds'] else ''
    remark = f' ({record["remark"]})' if record['remark'] else ''
    seed = record['config']['seed']
    return f'`{record["commit"]}`, seed {seed}, {record["machine"]}{remark}{minutes}'


def scores_table(records: Sequence[Mapping[str, Any]], split: str = 'test') -> list[str]:
    """Rows of runs: scores on a split."""
    lines = ['| ' + ' | '.join(COLUMNS) + ' |', '|---' * len(COLUMNS) + '|']

    def row(*cells: str) -> None:
        lines.append('| ' + ' | '.join(cells) + ' |')

    row('constant predictor', *score_cells(_scores(records[0], split), 'constant/'), '')
    for record in records:
        scores = _scores(record, split)
        row(record['label'], *score_cells(scores), describe_run(record))
        if 'without_leaks/num_examples' in scores:
            count = scores['without_leaks/num_examples']
            cells = score_cells(scores, 'without_leaks/')
            row(f'the same, without leaks ({count:,} examples)', *cells, '')
    return lines


def _scores(record: Mapping[str, Any], split: str) -> Scores:
    return record['splits'][split]['metrics']


def paper_rows() -> list[str]:
    """What the source paper prints of UTKFace, in the same columns."""
    return [
        f'| {name} | {mae:.2f} | | | | {group} | {accuracy} | {f1} | {precision} | {recall} | no '
        'split, seed or definition given |'
        for name, (mae, group, accuracy, f1, precision, recall) in PAPER.items()
    ]


def members_table(records: Sequence[Mapping[str, Any]], split: str = 'test') -> list[str]:
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

        def cells(prefix: str, suffix: str = '', scores: Scores = scores) -> tuple[str, str]:
            mae, accuracy = f'{prefix}age/mae{suffix}', f'{prefix}gender/accuracy{suffix}'
            return years(scores, mae), percent(scores, accuracy)

        row(f'**{record["label"]}**', '', '')
        for number in numbers:
            mark = ', best on validation' if number == best else ''
            row(f'member {number}{mark}', *cells(f'member_{number}/'))
        for k in range(2, len(numbers)):
            row(f'mean over ensembles of {k}', *cells(f'curve/{k}/', '_mean'))
        row(f'all {len(numbers)} combined', *cells(''))
        if best is not None:
            row('combined less the best member, paired', *cells('minus_best_member/'))
    return lines


def comparisons_table(comparisons: Mapping[str, Any]) -> list[str]:
    """Differences of two runs, with paired intervals."""
    lines = ['| difference | examples | age MAE | gender accuracy, points |', '|---|---|---|---|']
    for name, entry in comparisons.items():
        scores = entry['scores']
        cells = []
        for key, unit in (('age/mae', 1), ('gender/accuracy', 100)):
            low, high = (unit * scores[f'{key}_ci95_{end}'] for end in ('low', 'high'))
            cells.append(f'{unit * scores[key]:+.2f} ({low:+.2f} to {high:+.2f})')
        count = scores['age/mae_num_examples']
        lines.append(f'| {name} | {entry["split"]}, {count:,} | {cells[0]} | {cells[1]} |')
    return lines


def read_records(folder: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """Table name to its runs, in their order."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob('*.json')):
        content = json.loads(path.read_text())
        if 'table' in content:
            tables.setdefault(content['table'], []).append(content)
    for records in tables.values():
        records.sort(key=lambda record: record['order'])
    return tables


def render(readme: str, folder: pathlib.Path) -> str:
    """README with its tables made anew.

    Raises:
      ValueError: for a table in README that no file belongs to.
    """
    tables = read_records(folder)
    comparisons = folder / 'comparisons.json'

    def table(match: re.Match) -> str:
        name = match[2]
        if name == 'comparisons':
            lines = comparisons_table(json.loads(comparisons.read_text()))
        elif name == 'members':
            of_all = [record for records in tables.values() for record in records]
            lines = members_table([r for r in of_all if _is_ensemble(r)])
        elif name in tables:
            lines = scores_table(tables[name])
            if name == 'utkface':
                lines += paper_rows()
        else:
            raise ValueError(f'README.md shows the results {name!r}, but no file in {folder} does')
        return match[1] + '\n'.join(lines) + '\n' + match[4]

    return REGION.sub(table, readme)


def _is_ensemble(record: Mapping[str, Any]) -> bool:
    return 'member_0/age/mae' in record['splits']['test']['metrics']


def main() -> None:
    """Writes or checks."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true')
    options = parser.parse_args()
    old = README.read_text()
    new = render(old, FOLDER)
    if options.check:
        if new != old:
            sys.exit('error: README.md is not what results/ says: run results/table.py')
        return
    README.write_text(new)


if __name__ == '__main__':
    main()
