r"""A finished run as one JSON file, from which README's tables are made.

  python results/record.py runs/hybrid --table=utkface --label='CNN + LSTM' --order=20
  python results/record.py runs/A --evaluation=runs/A-no-flip --name=A_no_flip ...
  python results/table.py

The file holds what anybody needs to check the figures: command, commit, versions, machine, time,
config, hashes of the splits' ids and labels, all metrics of the evaluated splits. No example is in
it.
"""

import argparse
import json
import pathlib
import re
from typing import Any

from hybrid import workdir as workdir_lib
from hybrid.provenance import SESSIONS
from hybrid.writers import METRICS

# A slash at the beginning, after `=`, a comma, a quote or a space, up to the last slash.
PATH = re.compile(r"""(?<![^\s=,'"])/(?:[^\s,'"/]+/)*([^\s,'"/]+)""")
FOLDER = pathlib.Path(__file__).resolve().parent


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def describe_sessions(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `sessions.jsonl` says of a run that was started once or several times.

    Returns:
      Command, commit, machine and versions of the last start (whose code made the evaluation), how
      often it was `started`, and the `seconds` of training; None if a session was killed.
    """
    starts = [row for row in rows if 'started' in row]
    ends = [row for row in rows if 'ended' in row]
    whole = len(ends) == len(starts)
    commits = sorted({row['commit'] for row in starts})
    last = starts[-1]
    return {
        'command': last['command'],
        'commit': ', '.join(commits),
        'machine': last['machine'],
        'versions': last['versions'],
        'started': len(starts),
        'seconds': round(sum(row['seconds'] for row in ends), 1) if whole else None,
    }


def without_folders(value: Any) -> Any:
    """JSON in which absolute paths are only their last part: where files lay is nobody's business.

    What a path is of stays to be seen: `--config.data.manual_dir=utkface`.
    """
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return PATH.sub(r'\1', value) if isinstance(value, str) else value


def record(folder: pathlib.Path, evaluation: pathlib.Path) -> dict[str, Any]:
    """Everything that is kept of a run.

    Args:
      folder: Its workdir.
      evaluation: The folder that holds its `evaluation/`: the workdir, or another.
    """
    config = workdir_lib.flatten(json.loads((folder / workdir_lib.CONFIG).read_text()))
    curve = [
        {name: row[name] for name in ('step', 'epoch', *row) if name.startswith(('step', 'epoch'))}
        | {name: value for name, value in row.items() if name.startswith('validation/')}
        for row in read_lines(folder / METRICS)
        if any(name.startswith('validation/') for name in row)
    ]
    splits = {}
    for path in sorted((evaluation / 'evaluation').glob('*/metrics.json')):
        about = json.loads(path.with_name('evaluation.json').read_text())
        splits[path.parent.name] = {'about': about, 'metrics': json.loads(path.read_text())}
    if not splits:
        raise SystemExit(f'error: {evaluation}/evaluation holds no metrics.json; evaluate first')
    kept = {
        **describe_sessions(read_lines(folder / SESSIONS)),
        'config': {k: v for k, v in config.items() if k not in workdir_lib.MACHINE_KEYS},
        'dataset': workdir_lib.load_dataset(folder),
        'validation_curve': curve,
        'splits': splits,
    }
    return without_folders(kept)


def main() -> None:
    """Writes results/NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('workdir', type=pathlib.Path)
    parser.add_argument('--evaluation', type=pathlib.Path, help='where evaluation/ is')
    parser.add_argument('--name', help='of the file; by default that of the workdir')
    parser.add_argument('--table', required=True, help='the table of README that shows it')
    parser.add_argument('--label', required=True, help='its row')
    parser.add_argument('--order', type=int, default=0, help='of the rows')
    parser.add_argument('--remark', default='', help='on the machine, such as: shared with others')
    options = parser.parse_args()
    shown = {name: getattr(options, name) for name in ('table', 'label', 'order', 'remark')}
    path = FOLDER / f'{options.name or options.workdir.resolve().name}.json'
    workdir_lib.write_json(
        path, shown | record(options.workdir, options.evaluation or options.workdir)
    )
    print(path)


if __name__ == '__main__':
    main()
