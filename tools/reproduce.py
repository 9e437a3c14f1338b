r"""Runs the command of a result again, and shows the new scores beside the recorded ones.

  python -m tools.reproduce short
  python -m tools.reproduce utkface_resnet18_lstm_imagenet \
      --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

Flags after the name replace the recorded ones. Keys that the recipe has since changed are set to
what they were. Folders with data are never taken from the record, and a file of weights has to be
named. The run goes to runs/reproduced/NAME, or to --workdir. Status 1 says that a score is off by
more than the tolerances: rounding differs between processors and versions, and training amplifies
it. The record says which processor and versions were used.
"""

import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hybrid.runs.public import without_folders
from tools.kept import RESULTS, ROOT, read_json
from tools.record import load_config
from tools.then import of_its_time

# Where the data lie on one machine says nothing about another.
FOLDERS = ('--config.data.data_dir', '--config.data.manual_dir')
# Each score, its unit, and the factor that turns the recorded value into that unit.
SHOWN = (('age/mae', 'years', 1), ('age/rmse', 'years', 1), ('gender/accuracy', '%', 100))


def arguments(record: Mapping[str, Any], workdir: pathlib.Path, more: Sequence[str]) -> list[str]:
    """Returns the flags with which launch.py makes the run again.

    Args:
      record: The content of results/NAME.json.
      workdir: Where the run goes.
      more: Flags that replace recorded ones.

    Raises:
      ValueError: when the record is not of one training and the evaluation that it ends with.
    """
    if 'runs' in record:
        runs = ', '.join(record['runs'])
        raise ValueError(f'it is of several runs: reproduce {runs}, then run {record["command"]}')
    if 'evaluated' in record:
        raise ValueError('it is another evaluation of a run that has a file of its own')
    start = re.match(r'python (launch\.py|-m hybrid)( |$)', record['command'])
    if not start:
        raise ValueError(f'{record["command"]!r} is not a start of launch.py, or of -m hybrid')
    recorded = shlex.split(record['command'][start.end() :])
    more = [f'--workdir={workdir}', *more]
    replaced = {*FOLDERS, *(flag.split('=')[0] for flag in more)}
    return [flag for flag in recorded if flag.split('=')[0] not in replaced] + more


def changed_keys(record: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, tuple[Any, Any]]:
    """Returns the config keys whose values differ: the recorded value and the value now."""
    config = without_folders(load_config(workdir))
    return {
        key: (was, config.get(key, 'absent'))
        for key, was in record['config'].items()
        if config.get(key, 'absent') != was
    }


def differences(record: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, dict[str, float]]:
    """Subtracts the recorded scores from the new ones, for every split that a training evaluates.

    Raises:
      ValueError: when a split holds other examples or labels than it did then.
    """
    found = {}
    splits = json.loads((workdir / 'dataset.json').read_text())['splits']
    for split in (record['config'][f'data.{kind}_split'] for kind in ('validation', 'test')):
        if split not in record['splits']:
            continue
        was, now = record['dataset']['splits'][split]['sha256'], splits[split]['sha256']
        if was != now:
            raise ValueError(f'split {split!r} has the hash {now}, and had {was}')
        scores = json.loads((workdir / 'evaluation' / split / 'metrics.json').read_text())
        old = record['splits'][split]['metrics']
        found[split] = {
            name: scores[name] - old[name] for name, _, _ in SHOWN if old[name] is not None
        }
    return found


def main() -> None:
    """Runs the command and compares."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('name', help='a file in results/, without .json')
    parser.add_argument('--workdir', type=pathlib.Path)
    parser.add_argument('--mae', type=float, default=0.2, help='tolerance of the MAE in years')
    parser.add_argument('--accuracy', type=float, default=1.0, help='of the accuracy, in points')
    options, more = parser.parse_known_args()
    records = read_json(RESULTS)
    record = records.get(options.name, {})
    if 'splits' not in record:
        names = ', '.join(name for name, entry in records.items() if 'splits' in entry)
        parser.error(f'results/ has no run {options.name!r}; there are {names}')
    workdir = (options.workdir or ROOT / 'runs' / 'reproduced' / options.name).resolve()
    if (workdir / 'evaluation').exists():
        parser.error(f'{workdir} holds a finished run: remove it, or give another --workdir')
    try:
        flags = arguments(record, workdir, more)
        flags += of_its_time(record, [*flags, *FOLDERS])
        print('python launch.py', shlex.join(flags), flush=True)
        subprocess.run([sys.executable, 'launch.py', *flags], cwd=ROOT, check=True)
        found = differences(record, workdir)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f'error: {options.name}: {error}')
    for key, (was, now) in changed_keys(record, workdir).items():
        print(f'config.{key}: {was!r} recorded, {now!r} now')
    print(f'\n{"":<32}{"recorded":>12}{"now":>12}{"difference":>14}')
    off = False
    for split, scores in found.items():
        for name, unit, scale in SHOWN:
            if name not in scores:
                continue
            was, change = scale * record['splits'][split]['metrics'][name], scale * scores[name]
            line = f'{split + " " + name + ", " + unit:<32}{was:>12.4f}{was + change:>12.4f}'
            print(f'{line}{change:>+14.4f}')
        # A hair more than the tolerance: of a hundred examples, one is exactly a point.
        off |= abs(scores.get('age/mae', 0)) > options.mae + 1e-9
        off |= 100 * abs(scores.get('gender/accuracy', 0)) > options.accuracy + 1e-9
    print(f'recorded at {record["commit"]} on {record["machine"]} with {record["versions"]}')
    if off:
        sys.exit(f'error: off by more than {options.mae} years or {options.accuracy} points')


if __name__ == '__main__':
    main()
