"""Measures how a dataset as large as IMDB-WIKI is prepared: images/s and the peak of memory.

  nice python benchmarks/prepare.py --rows=200000
  nice python benchmarks/prepare.py --rows=200000 --bytes=14000

Metadata and an archive of small JPEGs, each padded to `--bytes`, are made in a temporary folder,
and prepared as `imdb_wiki/wiki` in a process of its own; then everything is removed. 200,000 files
of 14,000 bytes are 2.8 GB, far more than TFDS shuffles without TensorFlow.
"""

import argparse
import io
import json
import pathlib
import resource
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy as np
import scipy.io
from PIL import Image
from report import Table, create_parser, peak_memory


def make_images(count: int, side: int, num_bytes: int) -> list[bytes]:
    """Makes JPEGs of random blocks; readers ignore what follows the end of a JPEG."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        blocks = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        file = io.BytesIO()
        blocks.resize((side, side), Image.Resampling.BILINEAR).save(file, 'JPEG', quality=80)
        images.append(file.getvalue().ljust(num_bytes, b'\0'))
    return images


def make_source(folder: pathlib.Path, rows: int, side: int, num_bytes: int) -> None:
    """Writes wiki_crop.tar with its metadata; every fifth row has too low a score to be taken."""
    rng = np.random.default_rng(0)
    paths, names = np.empty((1, rows), object), np.empty((1, rows), object)
    paths[0] = [f'{k % 100:02d}/{k // 3}_1960-01-01_{k}.jpg' for k in range(rows)]
    names[0] = [f'Person {k // 3}' for k in range(rows)]
    dob = 366 + 700_000 + np.arange(rows) // 3 % 20_000
    score = np.where(np.arange(rows) % 5 == 0, -np.inf, 2.0)
    struct = {
        'dob': dob[None].astype(np.int32),
        'photo_taken': np.full((1, rows), 2010, np.uint16),
        'full_path': paths,
        'gender': rng.integers(0, 2, (1, rows)).astype(np.float64),
        'name': names,
        'face_score': score[None],
        'second_face_score': np.full((1, rows), np.nan),
    }
    mat = io.BytesIO()
    scipy.io.savemat(mat, {'wiki': struct})
    images = make_images(2000, side, num_bytes)
    with tarfile.open(folder / 'wiki_crop.tar', 'w') as tar:
        contents = [('wiki.mat', mat.getvalue())]
        contents += [(path, images[k % len(images)]) for k, path in enumerate(paths[0])]
        for name, content in contents:
            member = tarfile.TarInfo(f'wiki_crop/{name}')
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            tar.members.clear()  # type: ignore[attr-defined]


def prepare(folder: pathlib.Path) -> None:
    """Prepares, and prints the figures as JSON in the last line."""
    from hybrid import datasets

    builder = datasets.create_builder('imdb_wiki/wiki', str(folder / 'data'))
    start, cpu_start = time.perf_counter(), time.process_time()
    datasets.prepare(builder, str(folder))
    seconds = time.perf_counter() - start
    images = sum(info.num_examples for info in builder.info.splits.values())
    figures = {
        'name': 'imdb_wiki/wiki',
        'images': images,
        'images/s': images / seconds,
        'seconds': seconds,
        'CPU s': time.process_time() - cpu_start,
        'peak GiB': peak_memory(resource.getrusage(resource.RUSAGE_SELF)) / 2**30,
        'TensorFlow': int('tensorflow' in sys.modules),
    }
    print(json.dumps(figures))


def main() -> None:
    """Makes the source, prepares it, and prints the figures."""
    parser = create_parser(__doc__)
    parser.add_argument('--rows', type=int, default=200_000)
    parser.add_argument('--side', type=int, default=48, help='pixels')
    parser.add_argument('--bytes', type=int, default=0, help='least size of a file')
    parser.add_argument('--prepare', type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_source(folder, options.rows, options.side, options.bytes)
        size = (folder / 'wiki_crop.tar').stat().st_size
        command = [sys.executable, __file__, f'--prepare={folder}']
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(output)
    columns = ['images', 'archive GB', 'seconds', 'CPU s', 'images/s', 'peak GiB']
    table = Table(columns, f'{options.rows:,} rows')
    table.add(json.loads(output.splitlines()[-1]) | {'archive GB': size / 1e9})
    table.end(options.json)


if __name__ == '__main__':
    main()
