r"""Makes the result tables in README.md, results/*.md and the configs from results/*.json.

  python -m tools.table           # rewrites the tables
  python -m tools.table --check   # fails if they are not what the files say; a test does the same

No figure is typed by hand. A table stands between the lines `<!-- results: NAME -->` and
`<!-- end -->` of README.md or a page in results/; the scores of a run stand in the docstring of its
config, under the line `Scores (results/NAME.json):`.
"""

import argparse
import functools
import json
import pathlib
import re
import sys
from collections.abc import Callable

from tools import age_noise, conditions, coverage, elsewhere, frozen, heads, limits, peers, rows
from tools.kept import RESULTS, ROOT, read_json

REGION = re.compile(r'(<!-- results: (\w+) -->\n)(.*?)(<!-- end -->)', re.DOTALL)
DOCSTRING = re.compile(r'^(Scores \(results/(\w+)\.json\):\n\n)((?:    .*\n)*)', re.MULTILINE)


def create_tables(folder: pathlib.Path) -> dict[str, Callable[[], list[str]]]:
    """Returns every table that the files of a folder make: its name, and what makes its lines."""
    files = read_json(folder)
    records = sorted(
        (content | {'name': name} for name, content in files.items() if 'table' in content),
        key=lambda record: record['order'],
    )
    trials = [content | {'name': name} for name, content in read_json(folder / 'tried').items()]
    trials.sort(key=lambda trial: trial['order'])
    # What others print, and what nobody has run yet.
    published, not_run = files.get('published', {}), files.get('not_run', {})
    chosen = [record for record in records if 'summary' in record]
    tables: dict[str, Callable[[], list[str]]] = {
        'summary': lambda: rows.summary_table(chosen, published.get('utkface', {})),
        'comparisons': lambda: rows.comparisons_table(files.get('comparisons', {})),
        'members': lambda: rows.members_table([r for r in records if rows.is_ensemble(r)]),
        'curves': lambda: rows.curves_table(
            [r for r in records if r['table'].startswith('utkface')]
        ),
        'tried': lambda: rows.tried_table(trials),
        'heads': lambda: heads.heads_table(files.get('heads', {})),
        'age_noise': lambda: age_noise.age_noise_table(files.get('age_noise', {})),
        'age_limits': limits.table,
        'frozen_sequence': lambda: frozen.frozen_table(files.get('frozen_sequence', {})),
        'conditions': conditions.table,
        'intervals': coverage.intervals_table,
        'gender_probabilities': coverage.gender_table,
    }
    for name in {record['table'] for record in records} | set(not_run) | set(published):
        of_table = [record for record in records if record['table'] == name]
        tables[name] = functools.partial(
            rows.scores_table,
            of_table,
            [entry for entry in not_run.get(name, ()) if entry['name'] not in files],
            published.get(name),
        )
    for split, models in files.get('elsewhere', {}).items():
        tables[f'elsewhere_{split}'] = functools.partial(elsewhere.table, models)
    # The models of README.md, then everybody else's.
    compared = [r for r in chosen if r['table'] == 'utkface']
    compared += [r for r in records if r['table'] == 'peers']
    tables['peers'] = lambda: peers.table(compared, published.get('peers', {}))
    return tables


def render(text: str, folder: pathlib.Path) -> str:
    """Makes the tables of a text anew.

    Raises:
      ValueError: when the text has a table that no file belongs to.
    """
    tables = create_tables(folder)

    def table(match: re.Match) -> str:
        if match[2] not in tables:
            raise ValueError(f'the results {match[2]!r} are shown, but no file in {folder} has any')
        return match[1] + '\n'.join(tables[match[2]]()) + '\n' + match[4]

    return REGION.sub(table, text)


def render_docstring(text: str, folder: pathlib.Path, name: str = '') -> str:
    """Makes the scores in the docstring of a config anew, and returns its whole source.

    Args:
      text: The source.
      folder: The one with the files.
      name: The recipe's, by which `elsewhere.json` knows it.
    """

    def scores(match: re.Match) -> str:
        path, lines = folder / f'{match[2]}.json', ['not run yet']
        if path.exists():
            kept = json.loads(path.read_text())
            of_elsewhere = path.name == elsewhere.PATH.name
            lines = (
                elsewhere.docstring_lines(kept, name)
                if of_elsewhere
                else rows.docstring_lines(kept)
            )
        return match[1] + ''.join(f'    {line}\n' for line in lines)

    return DOCSTRING.sub(scores, text)


def rendered() -> dict[pathlib.Path, str]:
    """Returns every file that shows results, and what should stand in it.

    Raises:
      ValueError: when no text has a place for a table, or a place has no table.
    """
    pages = (ROOT / 'README.md', *sorted(RESULTS.glob('*.md')))
    texts = {path: path.read_text() for path in pages}
    shown = {match[2] for text in texts.values() for match in REGION.finditer(text)}
    if hidden := set(create_tables(RESULTS)) - shown:
        raise ValueError(f'no page has a table that shows the results {", ".join(sorted(hidden))}')
    new = {path: render(text, RESULTS) for path, text in texts.items()}
    for path in sorted((ROOT / 'configs').glob('*.py')):
        new[path] = render_docstring(path.read_text(), RESULTS, path.stem)
    return new


def main() -> None:
    """Rewrites the tables, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true')
    options = parser.parse_args()
    try:
        wrong = {path: new for path, new in rendered().items() if path.read_text() != new}
    except ValueError as error:
        sys.exit(f'error: {error}')
    if options.check and wrong:
        names = ', '.join(str(path.relative_to(ROOT)) for path in wrong)
        sys.exit(f'error: {names} not what results/ says: run python -m tools.table')
    for path, new in wrong.items():
        path.write_text(new)
        print(path.relative_to(ROOT))


if __name__ == '__main__':
    main()
