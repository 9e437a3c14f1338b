r"""Trainings on a borrowed accelerator: no network, files in small parts, minutes at a time.

  # Where there is a network:
  python benchmarks/offline_training.py pack --to=packed --python=3.12 --part_mib=60 \
      ~/tensorflow_datasets/utkface resnet18_imagenet_partial.safetensors
  python benchmarks/offline_training.py unpack packed --to=/tmp/there    # there, after each part
  python benchmarks/offline_training.py train /tmp/there --plan=benchmarks/offline_plan.txt \
      --minutes=9 --out=results_of_this_call

`pack` writes prepared datasets, weights and the wheels that are missing there into parts of equal
size. `unpack` keeps the parts it finds; once all have come it checks their hashes, unpacks and
installs. `train` runs what the plan has not finished yet, line by line: a name, and flags of
launch.py in which {there} is the folder, or the name of a line above for all of its flags. At the
end of the minutes a training is told to stop, writes a checkpoint, and is taken up by the next
call. What each run has shown so far, but for checkpoints, goes to OUT/NAME.tar.gz: unpacked it is a
workdir for `results.record`.
"""

import argparse
import hashlib
import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
# What an image with JAX, Flax, Optax and Orbax lacks; all else the project needs is too big.
PACKAGES = (
    *('array-record', 'clu', 'dm-tree', 'docstring-parser', 'googleapis-common-protos', 'grain'),
    *('immutabledict', 'importlib-resources', 'ml-collections', 'portpicker', 'promise'),
    *('simple-parsing', 'tensorboardX', 'tensorflow-datasets', 'tensorflow-metadata', 'termcolor'),
    'toml',
)
MANIFEST = 'parts.json'
# What is begun with less left would only compile.
LEAST_SECONDS = 60


def download(packages: list[str], python: str, folder: pathlib.Path) -> None:
    """Downloads wheels for another Python, or builds those that come as pure sources."""
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q']
    constraints = [f'--constraint={CHECKOUT / "constraints.txt"}', '--no-deps']
    for package in packages:
        binary = ['--only-binary=:all:', f'--python-version={python}', f'--dest={folder}']
        command = [*pip, 'download', *constraints, *binary, package]
        if subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
            before = set(folder.glob('*.whl'))
            build = [*pip, 'wheel', *constraints, f'--wheel-dir={folder}', package]
            subprocess.run(build, check=True)
            for path in set(folder.glob('*.whl')) - before:
                if not path.name.endswith('-none-any.whl'):
                    sys.exit(f'error: {path.name} fits this Python alone, not {python}')


def pack(options: argparse.Namespace) -> None:
    """Writes parts of one archive, and their hashes."""
    options.to.mkdir(parents=True)
    wheels = options.to / 'wheels'
    download(options.packages, options.python, wheels)
    whole = options.to / 'all.tar'
    with tarfile.open(whole, 'w') as archive:
        for path in (wheels, *options.paths):
            archive.add(path, path.name)
    shutil.rmtree(wheels)
    hashes: dict[str, str] = {}
    with whole.open('rb') as file:
        while data := file.read(options.part_mib << 20):
            name = f'part-{len(hashes):02d}'
            hashes[name] = hashlib.sha256(data).hexdigest()
            (options.to / name).write_bytes(data)
    whole.unlink()
    (options.to / MANIFEST).write_text(json.dumps(hashes, indent=2))
    print(f'{options.to}: {len(hashes)} parts; {MANIFEST} goes with each')


def unpack(options: argparse.Namespace) -> None:
    """Keeps the parts that have come; after the last one unpacks them all and installs."""
    options.to.mkdir(parents=True, exist_ok=True)
    for path in options.parts.iterdir():
        shutil.copyfile(path, options.to / path.name)
    if not (options.to / MANIFEST).exists():
        sys.exit(f'error: {options.parts} holds no {MANIFEST}: send it with every part')
    hashes = json.loads((options.to / MANIFEST).read_text())
    missing = [name for name in hashes if not (options.to / name).exists()]
    if missing:
        print(f'still to come: {", ".join(missing)}')
        return
    whole = options.to / 'all.tar'
    with whole.open('wb') as file:
        for name, digest in hashes.items():
            data = (options.to / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != digest:
                sys.exit(f'error: {options.to / name} is damaged: send it again')
            file.write(data)
    with tarfile.open(whole) as archive:
        archive.extractall(options.to, filter='data')
    whole.unlink()
    command = [sys.executable, '-m', 'pip', 'install', '-q', '--no-index', '--no-deps']
    subprocess.run([*command, *map(str, (options.to / 'wheels').iterdir())], check=True)
    print(f'{options.to}: {", ".join(sorted(path.name for path in options.to.iterdir()))}')


def read_plan(path: pathlib.Path, there: pathlib.Path) -> dict[str, list[str]]:
    """Name to flags of launch.py, in the order of the lines."""
    plan: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, *flags = shlex.split(line, comments=True) or ['']
        if name:
            plan[name] = []
            for flag in flags:
                plan[name] += plan.get(flag) or [flag.replace('{there}', str(there))]
    return plan


def train(options: argparse.Namespace) -> None:
    """Runs the plan until the minutes are over; prints what each run shows last."""
    there = options.there.resolve()
    end = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for name, flags in read_plan(options.plan, there).items():
        workdir = there / 'runs' / name
        if (workdir / 'finished').exists():
            continue
        if end - time.monotonic() < LEAST_SECONDS:
            print(f'{name}: not begun')
            continue
        workdir.mkdir(parents=True, exist_ok=True)
        log = workdir.parent / f'{name}.log'
        command = [sys.executable, 'launch.py', f'--workdir={workdir}', *flags]
        start = time.monotonic()
        with log.open('a') as file:
            run = subprocess.Popen(command, cwd=CHECKOUT, stdout=file, stderr=file)
            try:
                outcome = run.wait(end - start)
                ended = outcome == 0
                failed |= not ended
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGTERM)
                outcome, ended = run.wait(), False
        print(f'{name}: status {outcome} after {time.monotonic() - start:.0f} s')
        print('\n'.join(log.read_text().splitlines()[-3:]), flush=True)
        with tarfile.open(options.out / f'{name}.tar.gz', 'w:gz') as archive:
            for path in (log, workdir):
                archive.add(path, path.name, filter=without_checkpoints)
        # After the archive: a call that is killed before it leaves the run to the next one.
        if ended:
            (workdir / 'finished').touch()
    if failed:
        sys.exit('error: a training failed: its log is in its archive')


def without_checkpoints(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leaves out what is too big to bring back."""
    return None if 'checkpoints' in pathlib.PurePath(info.name).parts else info


def main() -> None:
    """Runs one of the three."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser('pack')
    command.add_argument('paths', nargs='+', type=pathlib.Path, help='datasets and weights')
    command.add_argument('--to', type=pathlib.Path, required=True)
    command.add_argument('--python', default='3.12', help='its version there')
    command.add_argument('--part_mib', type=int, default=60)
    command.add_argument('--packages', nargs='*', default=list(PACKAGES))
    command.set_defaults(run=pack)
    command = commands.add_parser('unpack')
    command.add_argument('parts', type=pathlib.Path)
    command.add_argument('--to', type=pathlib.Path, required=True)
    command.set_defaults(run=unpack)
    command = commands.add_parser('train')
    command.add_argument('there', type=pathlib.Path)
    command.add_argument('--plan', type=pathlib.Path, required=True)
    command.add_argument('--minutes', type=float, default=9)
    command.add_argument('--out', type=pathlib.Path, required=True)
    command.set_defaults(run=train)
    options = parser.parse_args()
    try:
        options.run(options)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
