r"""A finished run as one JSON file, from which README's tables are made.

  python -m results.record runs/hybrid --table=utkface --label='CNN + LSTM' --order=20
  python -m results.record runs/A --evaluation=runs/A-no-flip --name=A_no_flip ...
  python -m results.record runs/A+B --name=A_and_B ...       # of --mode=evaluate --workdir=A,B
  python -m results.record runs/l1 --tried --baseline=runs/mse --label='age loss l1'
  python -m results.table

With `--pictures` those of the test split go to results/NAME/, with `--predictions` what was
predicted for every example of the evaluated splits to results/predictions/: ids, labels and
predictions, from which all scores and differences can be computed again. What was only tried, to
find a recipe, goes to results/tried/ with its validation scores alone.

The file holds what anybody needs to check the figures: command, commit, versions, machine, time,
config, hashes of the splits' ids and labels, all metrics of the evaluated splits. No example is in
it. Runs from the project's root, with the Python of its environment.
"""

import argparse
import json
import pathlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from typing import Any

from hybrid.runs import provenance
from hybrid.runs import workdir as workdir_lib
from hybrid.runs.provenance import SESSIONS
from hybrid.runs.writers import METRICS
from results.compare import compare_runs, predictions_path

# What a path begins with, up to its last part: where files lay is nobody's business.
PARENTS = re.compile(r'^(?:file:)?(?:/|~|\.\./).*/(?=[^/])')
# Of an evaluation, what shows no face.
PICTURES = (
    *('age_scatter.png', 'age_error_by_band.png', 'confusion_matrix.png', 'subgroups.png'),
    *('ensemble_curve.png', 'disagreement.png', 'subgroups.csv'),
)
# Which machine of several this was.
PROCESS_FLAGS = ('--coordinator', '--num_processes', '--process_id')
FOLDER = pathlib.Path(__file__).resolve().parent
TRIED = ('age/mae', 'gender/accuracy')


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def describe_sessions(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `sessions.jsonl` says of a run that was started once or several times.

    Returns:
      Command and versions of the last start, commits and machines of all, how often it was
      `started`, and the `seconds` of training; None if a session was killed.
    """
    starts = [row for row in rows if 'started' in row]
    ends = [row for row in rows if 'ended' in row]
    whole = len(ends) == len(starts)
    commits = sorted({row['commit'] for row in starts})
    last = starts[-1]
    return {
        'command': clean_command(last['command']),
        'commit': ', '.join(commits),
        'machine': ', then '.join(dict.fromkeys(row['machine'] for row in starts)),
        'versions': last['versions'],
        'started': len(starts),
        'seconds': round(sum(row['seconds'] for row in ends), 1) if whole else None,
    }


def without_folders(value: Any) -> Any:
    """JSON in which paths outside the project are only their last part, or several, by commas.

    What a path is of stays to be seen: `resnet18.safetensors`.
    """
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    if not isinstance(value, str) or value.startswith('{'):
        return value
    parts = value.replace(f'{FOLDER.parent}/', '').split(',')
    return ','.join(PARENTS.sub('', part.rstrip('/')) for part in parts)


def clean_command(command: str) -> str:
    """A command with `--flag=value` for `--flag value`, without folders and addresses."""
    words: list[str] = []
    for word in shlex.split(command):
        if words and words[-1].startswith('--config') and '=' not in words[-1] and word[:1] != '-':
            words[-1] += f'={word}'
        else:
            words.append(word)
    cleaned = []
    for word in words:
        name, equals, value = word.partition('=')
        if name not in PROCESS_FLAGS:
            cleaned.append(name + equals + without_folders(value))
    return shlex.join(cleaned)


def load_config(folder: pathlib.Path) -> dict[str, Any]:
    """The flat config of a run, without what only says where and how fast."""
    config = workdir_lib.flatten(json.loads((folder / workdir_lib.CONFIG).read_text()))
    return {k: v for k, v in config.items() if k not in workdir_lib.MACHINE_KEYS}


def validation_curve(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Step, epoch and validation scores of every validation of a run."""
    return [
        {name: row[name] for name in ('step', 'epoch') if name in row}
        | {name: value for name, value in row.items() if name.startswith('validation/')}
        for row in read_lines(folder / METRICS)
        if any(name.startswith('validation/') for name in row)
    ]


def evaluated_splits(folder: pathlib.Path) -> dict[str, Any]:
    """How and on what the splits in `evaluation/` of a folder were evaluated, and the scores."""
    splits = {}
    for path in sorted((folder / 'evaluation').glob('*/metrics.json')):
        about = json.loads(path.with_name('evaluation.json').read_text())
        splits[path.parent.name] = {'about': about, 'metrics': json.loads(path.read_text())}
    if not splits:
        raise ValueError(f'{folder}/evaluation holds no metrics.json: evaluate first')
    return splits


def pretrained_sources(folder: pathlib.Path) -> list[dict[str, Any]]:
    """What a run started from: of each file its name, hash, and how much of it was taken."""
    path = folder / workdir_lib.SOURCES
    sources = json.loads(path.read_text())['sources'] if path.exists() else []
    return [
        {name: len(item) if name in ('loaded', 'unused') else item for name, item in source.items()}
        for source in sources
    ]


def record(folder: pathlib.Path, evaluation: pathlib.Path) -> dict[str, Any]:
    """Everything that is kept of a run.

    Args:
      folder: Its workdir.
      evaluation: The folder that holds its `evaluation/`: the workdir, or another, of an evaluation
        with other settings.

    Raises:
      ValueError: when the workdir was evaluated otherwise than its training does, or not on `test`.
    """
    kept = {
        **describe_sessions(read_lines(folder / SESSIONS)),
        'config': load_config(folder),
        'dataset': workdir_lib.load_dataset(folder),
        'pretrained': pretrained_sources(folder),
        'validation_curve': validation_curve(folder),
        'splits': evaluated_splits(evaluation),
    }
    if 'test' not in kept['splits']:
        raise ValueError(f'{evaluation} was not evaluated on test; a trial is recorded by --tried')
    usual = 'best' if kept['config']['data.validation_split'] else 'last'
    flip = kept['config']['evaluate.flip_average']
    for split, entry in kept['splits'].items():
        was = {name: entry['about'][name] for name in ('checkpoint', 'flip_average')}
        if was != {'checkpoint': usual, 'flip_average': flip}:
            if evaluation == folder:
                raise ValueError(
                    f'{folder}/evaluation/{split} is of {was}, but the training evaluates its '
                    f'{usual} checkpoint with flip_average={flip}: evaluate so again, or keep the '
                    'other evaluation elsewhere (--mode=evaluate --output) and name it by '
                    '--evaluation'
                )
            kept['evaluated'] = was
    return without_folders(kept)


def combined_workdirs(folder: pathlib.Path, about: dict[str, Any]) -> list[pathlib.Path]:
    """The workdirs that `--mode=evaluate --workdir=A,B` combined, from the evaluation in folder."""
    if 'workdirs' not in about:
        raise ValueError(
            f'{folder} has no {workdir_lib.CONFIG} and holds no evaluation of several runs: name '
            'the workdir that was evaluated'
        )
    return [pathlib.Path(entry['workdir']) for entry in about['workdirs']]


def record_combination(folder: pathlib.Path) -> dict[str, Any]:
    """Everything that is kept of runs evaluated together (`--workdir=A,B`), which folder holds."""
    splits = evaluated_splits(folder)
    runs = combined_workdirs(folder, next(iter(splits.values()))['about'])
    command = f'python launch.py --mode=evaluate --workdir={",".join(map(str, runs))}'
    sessions = [describe_sessions(read_lines(run / SESSIONS)) for run in runs]
    seconds = [session['seconds'] for session in sessions]
    kept = {
        **sessions[0],
        'command': clean_command(command),
        'commit': provenance.commit(),
        'seconds': None if None in seconds else round(sum(seconds), 1),
        'runs': [run.name for run in runs],
        'dataset': workdir_lib.load_dataset(runs[0]),
        'splits': splits,
    }
    return without_folders(kept)


def record_trial(folder: pathlib.Path, baseline: pathlib.Path | None) -> dict[str, Any]:
    """What is kept of a run that was tried: its validation scores.

    Args:
      folder: Its workdir.
      baseline: The workdir of the run that it varies: only keys that differ from that one's config
        are kept, and the paired difference of the scores.
    """
    config = load_config(folder)
    config['splits'] = workdir_lib.load_dataset(folder)['splits']
    split = config['data.validation_split']
    scores = json.loads((folder / 'evaluation' / split / 'metrics.json').read_text())
    names = [f'{name}{end}' for name in TRIED for end in ('', '_ci95_low', '_ci95_high')]
    kept = {
        **describe_sessions(read_lines(folder / SESSIONS)),
        'pretrained': pretrained_sources(folder),
        'test_was_read': bool(config['data.test_split']),
        'scores': {name: scores[name] for name in names},
        'validation_mae': [row['validation/age/mae'] for row in validation_curve(folder)],
    }
    if baseline is None:
        return without_folders(kept | {'config': config})
    other = load_config(baseline)
    other['splits'] = workdir_lib.load_dataset(baseline)['splits']
    kept['config'] = {k: v for k, v in config.items() if k not in other or other[k] != v}
    kept |= {
        'baseline': baseline.resolve().name,
        'minus_baseline': compare_runs([str(folder)], [str(baseline)], split),
    }
    return without_folders(kept)


def copy_pictures(evaluated: pathlib.Path, target: pathlib.Path) -> None:
    """Copies the pictures of an evaluation, and the table of subgroups, to a folder."""
    target.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        if (evaluated / name).exists():
            shutil.copyfile(evaluated / name, target / name)


def copy_predictions(evaluation: pathlib.Path, splits: Iterable[str], name: str) -> None:
    """Keeps the predictions.csv of each split in an evaluation folder, under the run's name."""
    for split in splits:
        target = predictions_path(name, split)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(evaluation / 'evaluation' / split / 'predictions.csv', target)


def main() -> None:
    """Writes results/NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('workdir', type=pathlib.Path)
    parser.add_argument('--evaluation', type=pathlib.Path, help='where evaluation/ is')
    parser.add_argument('--name', help='of the file; by default that of the workdir')
    parser.add_argument('--tried', action='store_true', help='a trial, with validation scores only')
    parser.add_argument('--baseline', type=pathlib.Path, help='workdir of what the trial varies')
    parser.add_argument('--table', default='', help='the table of README that shows it')
    parser.add_argument('--label', required=True, help='its row')
    parser.add_argument('--order', type=int, default=0, help='of the rows')
    parser.add_argument('--pictures', action='store_true', help='keep those of test too')
    parser.add_argument('--predictions', action='store_true', help='keep those of all splits too')
    parser.add_argument('--remark', default='', help='on the machine, such as: shared with others')
    options = parser.parse_args()
    shown = {name: getattr(options, name) for name in ('table', 'label', 'order', 'remark')}
    path = FOLDER / f'{options.name or options.workdir.resolve().name}.json'
    if not options.workdir.is_dir():
        parser.error(f'there is no folder {options.workdir}')
    if options.tried and (options.pictures or options.predictions):
        parser.error('of a trial scores alone are kept: leave out --pictures and --predictions')
    evaluation = options.evaluation or options.workdir
    try:
        if options.tried:
            path = FOLDER / 'tried' / path.name
            kept = record_trial(options.workdir, options.baseline)
        elif not options.table:
            parser.error('give --table, or --tried')
        elif not (options.workdir / workdir_lib.CONFIG).exists():
            kept = record_combination(options.workdir)
        else:
            kept = record(options.workdir, evaluation)
        if options.pictures:
            copy_pictures(evaluation / 'evaluation' / 'test', path.with_suffix(''))
        if options.predictions:
            copy_predictions(evaluation, kept['splits'], path.stem)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    path.parent.mkdir(exist_ok=True)
    workdir_lib.write_json(path, shown | kept)
    print(path)


if __name__ == '__main__':
    main()
