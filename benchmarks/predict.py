"""Measures prediction: faces a second of a trained model, and seconds and memory of launch.py.

  python benchmarks/predict.py --workdir=runs/quickstart
  python benchmarks/predict.py --workdir=W --dtype=float32,bfloat16 --files=2000,20000

The predictor gets faces one at a time and in batches; they are noise, of the size of the training's
faces. `launch.py --mode=predict` runs on so many files, in a process of its own, after one run that
fills the caches: `seconds` from start to end, `GB` at the peak of its memory.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from jax_hybrid import settle
from ml_collections import ConfigDict
from PIL import Image
from report import CHECKOUT, Table, alternate, create_parser, numbers, peak_memory, words

from hybrid import default_config
from hybrid.runs import trained, workdir
from hybrid.runs.predictor import Predictor


def create_config(folder: pathlib.Path, dtype: str) -> ConfigDict:
    """Returns the workdir's config, with a compute dtype."""
    config = workdir.load_config(folder, default_config.get_config())
    config.model.dtype, config.model.kernels = dtype, 'auto'
    return config


def measure_predictor(config: ConfigDict, folder: pathlib.Path, rounds: int) -> dict[str, float]:
    """Measures the predictor behind --mode=predict, without reading files, in faces a second."""
    models = trained.restore_all([config], [folder], 'last')
    predictor = Predictor(models)
    most, (size,) = predictor.most, predictor.face_sizes
    predictor.prepare(1)
    faces = np.random.default_rng(0).integers(0, 256, (most, size, size, 3), dtype=np.uint8)
    one, many = alternate([lambda: predictor([faces[:1]]), lambda: predictor([faces])], rounds)
    return {'one at a time': 1 / one, 'batches': most / many, 'batch': most}


def measure_launch(folder: pathlib.Path, dtype: str, files: pathlib.Path) -> dict[str, float]:
    """Measures seconds and peak memory of a whole run of launch.py on a folder."""
    command = [sys.executable, str(CHECKOUT / 'launch.py'), '--mode=predict', '--checkpoint=last']
    command += [f'--workdir={folder}', f'--input={files}', f'--output={files}.csv']
    command += [f'--config.model.dtype={dtype}']
    before = os.times().elapsed
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)  # the memory of this process alone
    if status:
        sys.exit(f'error: failed: {" ".join(command)}')
    return {'seconds': os.times().elapsed - before, 'GB': peak_memory(usage) / 1e9}


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__, rounds=10)
    parser.add_argument('--workdir', required=True, type=pathlib.Path)
    parser.add_argument('--dtype', type=words, default='float32', help='float32, bfloat16 or both')
    parser.add_argument('--files', type=numbers, default='1,2000', help='for launch.py')
    options = parser.parse_args()
    configs = [create_config(options.workdir, dtype) for dtype in options.dtype]
    settle(*configs)
    table = Table(['one at a time', 'batches', 'seconds', 'GB'], 'faces/s, s, GB')
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for count in options.files:
            folders.append(pathlib.Path(scratch) / str(count))
            folders[-1].mkdir()
            for number in range(count):
                face = Image.fromarray(rng.integers(0, 256, (25, 25, 3), dtype=np.uint8))
                face.resize((200, 200)).save(folders[-1] / f'{number:06}.jpg')
        for dtype in options.dtype:
            measure_launch(options.workdir, dtype, folders[0])
            for folder in folders:
                row: dict[str, Any] = {'name': f'launch.py, {folder.name} files, {dtype}'}
                table.add(row | measure_launch(options.workdir, dtype, folder))
        for config in configs:
            figures = measure_predictor(config, options.workdir, options.rounds)
            name = f'batches of {figures.pop("batch")}, {config.model.dtype} {config.model.kernels}'
            table.add({'name': f'predictor, {name}'} | figures)
    table.end(options.json)


if __name__ == '__main__':
    main()
