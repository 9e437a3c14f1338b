"""Shows how much models lose under conditions, from the tables that `--conditions` writes.

`conditions.csv` of a model of results/elsewhere.json is kept as results/conditions/NAME.csv.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Sequence

from tools.elsewhere import PATH
from tools.kept import RESULTS
from tools.rows import markdown

FOLDER = RESULTS / 'conditions'
_GROUPS = ('female', 'male')


def read(name: str) -> dict[str, list[dict[str, dict[str, str]]]]:
    """Reads the scores of a model: by condition, of every strength those of each group."""
    with (FOLDER / f'{name}.csv').open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    found: dict[str, list[dict[str, dict[str, str]]]] = {}
    for (condition, _), group in itertools.groupby(
        rows, lambda row: (row['condition'], row['strength'])
    ):
        found.setdefault(condition, []).append({row['group']: row for row in group})
    return found


def table() -> list[str]:
    """Shows the unchanged scores, and what they lose at the middle strength, of women and men."""
    models = json.loads(PATH.read_text())['test']
    names = [name for name in models if (FOLDER / f'{name}.csv').exists()]
    names.sort(key=lambda name: models[name]['order'])
    read_models = [read(name) for name in names]

    def cells(groups: dict[str, dict[str, str]], key: str, unit: float, how: str) -> str:
        return ' / '.join(f'{unit * float(groups[group][key]):{how}}' for group in _GROUPS)

    def rows() -> Iterator[Sequence[str]]:
        for condition, strengths in read_models[0].items():
            middle = len(strengths) // 2
            cases = [model[condition][middle] for model in read_models]
            clean = condition == 'clean'
            end, signs = ('', ('.2f', '.1f')) if clean else ('_minus_clean', ('+.2f', '+.1f'))
            told = cases[0]['all']
            label = 'unchanged' if clean else f'{condition}, {told["strength"]} ({told["unit"]})'
            yield (
                label,
                *(cells(case, f'age/mae{end}', 1, signs[0]) for case in cases),
                *(cells(case, f'gender/accuracy{end}', 100, signs[1]) for case in cases),
            )

    columns = (f'{what}, `{name}`' for what in ('MAE', 'gender') for name in names)
    return markdown(('women / men', *columns), rows())
