r"""Runs the command of a result again, and shows its scores beside the recorded ones.

  python -m results.reproduce short
  python -m results.reproduce utkface_resnet18_lstm_imagenet \
      --config.data.manual_dir=DIR --config.model.encoder.pretrained=FILE

Flags after the name replace the recorded ones. Folders with data are never taken from there, and a
file of weights has to be named. The run goes to runs/reproduced/NAME, or --workdir. Status 1 says
that a score is off by more than the tolerances: rounding differs between processors and versions,
and training amplifies it. The record says which they were.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent
# Where data lie on one machine says nothing of another.
FOLDERS = ('--config.data.data_dir', '--config.data.manual_dir')
# Score, its unit, and what makes that of the recorded share or years.
SHOWN = (('age/mae', 'years', 1), ('age/rmse', 'years', 1), ('gender/accuracy', '%', 100))


def arguments(record: Mapping[str, Any], workdir: pathlib.Path, more: Sequence[str]) -> list[str]:
    """The flags of launch.py that make the run again.

    Args:
      record: Content of results/NAME.json.
      workdir: Where to.
      more: Flags that replace recorded ones.

    Raises:
      ValueError: for a run that was not one start of launch.py.
    """
    program, script, *recorded = shlex.split(record['command'])
    if (program, script) != ('python', 'launch.py') or any('=' not in flag for flag in recorded):
        raise ValueError(f'{record["command"]!r} is not a start of launch.py that can be repeated')
    more = [f'--workdir={workdir}', *more]
    replaced = {*FOLDERS, *(flag.split('=')[0] for flag in more)}
    return [flag for flag in recorded if flag.split('=')[0] not in replaced] + more


def differences(record: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, dict[str, float]]:
    """Of every recorded split the scores of the new run less the recorded ones.

    Raises:
      ValueError: when a split holds other examples or labels than it did.
    """
    found = {}
    splits = json.loads((workdir / 'dataset.json').read_text())['splits']
    for split, entry in record['splits'].items():
        was, now = record['dataset']['splits'][split]['sha256'], splits[split]['sha256']
        if was != now:
            raise ValueError(f'split {split!r} has the hash {now}, and had {was}')
        scores = json.loads((workdir / 'evaluation' / split / 'metrics.json').read_text())
        found[split] = {name: scores[name] - entry['metrics'][name] for name, _, _ in SHOWN}
    return found


def main() -> None:
    """Runs and compares."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('name', help='of a file in results/')
    parser.add_argument('--workdir', type=pathlib.Path)
    parser.add_argument('--mae', type=float, default=0.2, help='tolerance of the MAE in years')
    parser.add_argument('--accuracy', type=float, default=1.0, help='of the accuracy, in points')
    options, more = parser.parse_known_args()
    path = FOLDER / f'{options.name}.json'
    if not path.exists():
        names = sorted(
            p.stem for p in FOLDER.glob('*.json') if 'command' in json.loads(p.read_text())
        )
        parser.error(f'there is no {path}; there are {", ".join(names)}')
    record = json.loads(path.read_text())
    workdir = options.workdir or ROOT / 'runs' / 'reproduced' / options.name
    flags = arguments(record, workdir.resolve(), more)
    print('python launch.py', shlex.join(flags), flush=True)
    subprocess.run([sys.executable, 'launch.py', *flags], cwd=ROOT, check=True)
    print(f'\n{"":<32}{"recorded":>12}{"now":>12}{"difference":>14}')
    off = False
    for split, scores in differences(record, workdir).items():
        for name, unit, scale in SHOWN:
            was, change = scale * record['splits'][split]['metrics'][name], scale * scores[name]
            line = f'{split + " " + name + ", " + unit:<32}{was:>12.4f}{was + change:>12.4f}'
            print(f'{line}{change:>+14.4f}')
        off |= abs(scores['age/mae']) > options.mae
        off |= 100 * abs(scores['gender/accuracy']) > options.accuracy
    about = f'recorded at {record["commit"]} on {record["machine"]} with {record["versions"]}'
    print(about)
    if off:
        sys.exit(f'error: off by more than {options.mae} years or {options.accuracy} points')


if __name__ == '__main__':
    main()
