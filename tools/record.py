r"""Records a finished run as one JSON file in results/, from which the result tables are made.

  python -m tools.record runs/hybrid --table=utkface --label='CNN + LSTM' --order=20
  python -m tools.record runs/A --evaluation=runs/A-no-flip --name=A_no_flip ...
  python -m tools.record runs/A+B --name=A_and_B ...       # made by --mode=evaluate --workdir=A,B
  python -m tools.record runs/l1 --tried --baseline=runs/mse --label='age loss l1'
  python -m tools.record OUT --table=peers ...             # made by benchmarks/peers.py
  python -m tools.table

The file holds what anybody needs to check the figures: command, commit, versions, machine, time,
config, hashes of the splits' ids and labels, and all metrics of the evaluated splits. It holds no
example. `--predictions` also copies the predictions for every example (ids, labels, predictions) to
results/predictions/, so that all scores and differences can be computed again. A run that was only
tried, to find a recipe, goes to results/tried/ with nothing but its validation scores.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

from hybrid import files
from hybrid.runs import dataset_record
from hybrid.runs import workdir as workdir_lib
from hybrid.runs.provenance import SESSIONS, describe_sessions
from hybrid.runs.public import clean_command, without_folders
from hybrid.runs.writers import METRICS
from hybrid.schema import flatten
from hybrid.scores.predictions_csv import read_predictions, write_predictions
from tools.compare import compare_runs
from tools.kept import RESULTS, predictions_path

# Written by benchmarks/peers.py: where the figures of somebody else's package come from.
PEER = 'peer.json'
# The scores that are kept of a trial.
TRIED = ('age/mae', 'gender/accuracy')


def load_config(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the flat config of a run, without the keys that only say where and how fast it ran."""
    config = flatten(json.loads((folder / workdir_lib.CONFIG).read_text()))
    return {k: v for k, v in config.items() if k not in workdir_lib.MACHINE_KEYS}


def validation_curve(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Reads step, epoch and validation scores of every validation of a run."""
    return [
        {name: row[name] for name in ('step', 'epoch') if name in row}
        | {name: value for name, value in row.items() if name.startswith('validation/')}
        for row in files.read_json_lines(folder / METRICS)
        if any(name.startswith('validation/') for name in row)
    ]


def evaluated_splits(folder: pathlib.Path) -> dict[str, Any]:
    """Reads how each split in `evaluation/` of a folder was evaluated, and its scores.

    Raises:
      ValueError: when none was evaluated.
    """
    splits = {}
    for path in sorted((folder / 'evaluation').glob('*/metrics.json')):
        about = json.loads(path.with_name('evaluation.json').read_text())
        splits[path.parent.name] = {'about': about, 'metrics': json.loads(path.read_text())}
    if not splits and list((folder / 'evaluation').glob('*/*/metrics.json')):
        raise ValueError(f'{folder} was evaluated on several datasets: see tools.elsewhere')
    if not splits:
        raise ValueError(f'{folder}/evaluation holds no metrics.json: evaluate first')
    return splits


def sessions_of(folder: pathlib.Path) -> dict[str, Any]:
    """Sums up when, where and by which command a run was trained, see `describe_sessions`.

    Raises:
      ValueError: when nothing is known of that.
    """
    if described := describe_sessions(folder):
        return described
    raise ValueError(
        f'{folder} has no {SESSIONS}, which says by which command and commit it was trained; if it '
        'was moved, call this from the folder that its path was relative to'
    )


def settings(about: dict[str, Any], config: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """How an evaluation was made, as evaluation.json says, and how one with this config would be.

    Returns:
      Two dicts with the same keys: those of `config.evaluate`, `ensemble.weights` where members
      were combined, and what overrides the rest of the config.
    """
    kept = [key for key in about if f'evaluate.{key}' in config]
    made = {key: about[key] for key in kept}
    usual = json.loads(json.dumps({key: config[f'evaluate.{key}'] for key in kept}))
    if 'members' in about:
        made['ensemble.weights'] = 'validation' if 'weights' in about else 'uniform'
        usual['ensemble.weights'] = config.get('ensemble.weights', 'uniform')
    made['overrides'], usual['overrides'] = about.get('overrides', {}), {}
    return made, usual


def pretrained_sources(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Reads what a run started from: of each file its name, hash and how much of it was taken."""
    path = folder / workdir_lib.SOURCES
    sources = json.loads(path.read_text())['sources'] if path.exists() else []
    return [
        {name: len(item) if name in ('loaded', 'unused') else item for name, item in source.items()}
        for source in sources
    ]


def record(folder: pathlib.Path, evaluation: pathlib.Path) -> dict[str, Any]:
    """Collects everything that is kept of a run.

    Args:
      folder: The run's workdir.
      evaluation: The folder that holds `evaluation/`: the workdir, or another folder if the run was
        evaluated there with other settings.

    Raises:
      ValueError: when the test split was not evaluated, the evaluation in the workdir is not the
        one that a training ends with, or nothing is known of the training.
    """
    kept = {
        **sessions_of(folder),
        'config': load_config(folder),
        'dataset': dataset_record.load(folder),
        'pretrained': pretrained_sources(folder),
        'validation_curve': validation_curve(folder),
        'splits': evaluated_splits(evaluation),
    }
    if 'test' not in kept['splits']:
        raise ValueError(f'{evaluation} was not evaluated on test; a trial is recorded by --tried')
    config = kept['config']
    for split, entry in kept['splits'].items():
        if 'workdirs' in entry['about']:
            raise ValueError(f'{evaluation} holds an evaluation of several runs: name it alone')
        made, usual = settings(entry['about'], config)
        made['checkpoint'] = entry['about']['checkpoint']
        usual['checkpoint'] = 'best' if config['data.validation_split'] else 'last'
        was = {name: made[name] for name in made if made[name] != usual[name]}
        if not was:
            continue
        if evaluation == folder:
            raise ValueError(
                f'{folder}/evaluation/{split} was made with {was}, but the training evaluates with '
                f'{ {name: usual[name] for name in was} }: evaluate it so again, or keep the other '
                'evaluation elsewhere (--mode=evaluate --output) and name that folder by '
                '--evaluation'
            )
        kept['evaluated'] = kept.get('evaluated', {}) | was
    return without_folders(kept)


def record_combination(folder: pathlib.Path) -> dict[str, Any]:
    """Collects everything that is kept of runs that were evaluated together into a folder.

    Raises:
      ValueError: when the folder holds the evaluation of a single run, or none, when nothing is
        known of how a run was trained, or a member of a run takes part alone, which no command of
        `--mode=evaluate` names.
    """
    splits = evaluated_splits(folder)
    about = next(iter(splits.values()))['about']
    if 'workdirs' not in about:
        raise ValueError(
            f'{folder} has no {workdir_lib.CONFIG} and holds no evaluation of several runs: name '
            'the workdir that was evaluated'
        )
    runs = [pathlib.Path(entry['workdir']) for entry in about['workdirs']]
    if parts := [one['workdir'] for one in about['workdirs'] if 'member' in one]:
        raise ValueError(f'a member of {parts[0]} takes part alone: take it out by --mode=unstack')
    command = f'python launch.py --mode=evaluate --workdir={",".join(map(str, runs))}'
    if (checkpoint := about['workdirs'][0]['checkpoint']) != 'best':
        command += f' --checkpoint={checkpoint}'
    config = load_config(runs[0])
    made, usual = settings(about, config)
    for split, entry in splits.items():
        if settings(entry['about'], config)[0] != made:
            raise ValueError(f'{folder}: {split} was evaluated with other settings than the rest')
    changed = {key: made[key] for key in made if made[key] != usual[key]}
    changed = {key if '.' in key else f'evaluate.{key}': value for key, value in changed.items()}
    for one in about['workdirs']:
        changed |= one.get('overrides', {})
    for key, value in changed.items():
        for one in (value or ['']) if isinstance(value, list) else [value]:
            command += f' --config.{key}={one}'
    sessions = [sessions_of(run) for run in runs]
    seconds = [session['seconds'] for session in sessions]
    versions = [session['versions'].items() for session in sessions]
    kept = {
        **sessions[0],
        'command': clean_command(command),
        'machine': ' and '.join(dict.fromkeys(session['machine'] for session in sessions)),
        'versions': dict(one for one in versions[0] if all(one in other for other in versions)),
        'commit': ', '.join(dict.fromkeys(session['commit'] for session in sessions)),
        'seconds': None if None in seconds else round(sum(seconds), 1),
        'runs': [run.name for run in runs],
        'dataset': dataset_record.load(runs[0]),
        'splits': splits,
    }
    return without_folders(kept)


def record_peer(folder: pathlib.Path) -> dict[str, Any]:
    """Collects everything that is kept of a package that benchmarks/peers.py scored."""
    about = json.loads((folder / PEER).read_text())
    about['command'] = clean_command(about['command'])
    return without_folders(about | {'splits': evaluated_splits(folder)})


def record_trial(
    folder: pathlib.Path, baseline: pathlib.Path | None, evaluation: pathlib.Path | None = None
) -> dict[str, Any]:
    """Collects what is kept of a run that was only tried: its validation scores.

    Args:
      folder: The run's workdir.
      baseline: The workdir of the run that it varies, if any. Then only the config keys that differ
        from that run's are kept, and the paired difference of the scores.
      evaluation: The folder that holds `evaluation/`; None for the workdir. The settings of the
        evaluation are taken from there.
    """

    def read(workdir: pathlib.Path, evaluation: pathlib.Path) -> tuple[dict[str, Any], Any]:
        """The config with the settings of the evaluation, and the scores."""
        splits = dataset_record.load(workdir)['splits']
        for split in splits.values():
            split.pop('images', None)  # Older runs do not know them.
        config = load_config(workdir) | {'splits': splits}
        found = evaluation / 'evaluation' / config['data.validation_split']
        about = json.loads((found / 'evaluation.json').read_text())
        made, _ = settings(about, config)
        changed = made.pop('overrides')
        config |= {key if '.' in key else f'evaluate.{key}': made[key] for key in made} | changed
        return config, json.loads((found / 'metrics.json').read_text())

    evaluation = evaluation or folder
    config, scores = read(folder, evaluation)
    split = config['data.validation_split']
    names = [f'{name}{end}' for name in TRIED for end in ('', '_ci95_low', '_ci95_high')]
    kept = {
        **sessions_of(folder),
        'pretrained': pretrained_sources(folder),
        'test_was_read': bool(config['data.test_split']),
        'scores': {name: scores[name] for name in names},
        'validation_mae': [row['validation/age/mae'] for row in validation_curve(folder)],
        'config': config,
    }
    if baseline is not None:
        other, _ = read(baseline, baseline)
        kept |= {
            'config': {k: v for k, v in config.items() if k not in other or other[k] != v},
            'baseline': baseline.resolve().name,
            'minus_baseline': compare_runs([str(evaluation)], [str(baseline)], split),
        }
    return without_folders(kept)


def copy_predictions(evaluation: pathlib.Path, splits: Iterable[str], name: str) -> None:
    """Compresses predictions.csv of each split into results/predictions/, under the run's name."""
    for split in splits:
        target = predictions_path(name, split)
        target.parent.mkdir(parents=True, exist_ok=True)
        written = evaluation / 'evaluation' / split / 'predictions.csv'
        write_predictions(read_predictions(written), target)


def main() -> None:
    """Writes results/NAME.json, or results/tried/NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('workdir', type=pathlib.Path)
    parser.add_argument('--evaluation', type=pathlib.Path, help='the folder that has evaluation/')
    parser.add_argument('--name', help="the file's; by default the workdir's")
    parser.add_argument('--tried', action='store_true', help='a trial: keep validation scores only')
    parser.add_argument('--baseline', type=pathlib.Path, help='workdir of what the trial varies')
    parser.add_argument('--table', default='', help='the table that shows the run')
    parser.add_argument('--label', required=True, help='what its row is called')
    parser.add_argument('--order', type=int, default=0, help='rows are sorted by this number')
    parser.add_argument('--predictions', action='store_true', help='also keep those of all splits')
    parser.add_argument('--remark', default='', help='on the machine, such as: shared with others')
    options = parser.parse_args()
    if not options.workdir.is_dir():
        parser.error(f'there is no folder {options.workdir}')
    if not options.tried and not options.table:
        parser.error('give --table, or --tried')
    if options.tried and options.predictions:
        parser.error('of a trial scores alone are kept: leave out --predictions')
    shown = {name: getattr(options, name) for name in ('table', 'label', 'order', 'remark')}
    folder = RESULTS / 'tried' if options.tried else RESULTS
    path = folder / f'{options.name or options.workdir.resolve().name}.json'
    evaluation = options.evaluation or options.workdir
    try:
        if options.tried:
            kept = record_trial(options.workdir, options.baseline, options.evaluation)
        elif (options.workdir / PEER).exists():
            kept = record_peer(options.workdir)
        elif not (options.workdir / workdir_lib.CONFIG).exists():
            kept = record_combination(options.workdir)
        else:
            kept = record(options.workdir, evaluation)
        if options.predictions:
            copy_predictions(evaluation, kept['splits'], path.stem)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    path.parent.mkdir(exist_ok=True)
    files.write_json(path, shown | kept)
    print(path)


if __name__ == '__main__':
    main()
