"""Archives of random images under UTKFace's names, and what became of them once prepared."""

import csv
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from hybrid import datasets
from hybrid.datasets import near_duplicates

WITHOUT_DECODING = {'image': tfds.decode.SkipDecoding()}


def jpeg(seed: int, mode: str = 'RGB', quality: int = 90) -> bytes:
    """A random image of large blocks: other seeds are far apart, other qualities are near."""
    blocks = np.random.default_rng(seed).integers(0, 256, (16, 17, 3), np.uint8)
    image = Image.fromarray(blocks).resize((51, 48), Image.Resampling.NEAREST).convert(mode)
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=quality)
    return file.getvalue()


def hash_of(content: bytes) -> np.ndarray:
    return near_duplicates.difference_hash(Image.open(io.BytesIO(content)))


def name_of(age: int, number: int, gender: int = 0) -> str:
    return f'{age}_{gender}_2_{20170109000000000 + number}.jpg.chip.jpg'


def many_faces(count: int = 60) -> dict[str, bytes]:
    """Enough different faces that no split is empty."""
    return {name_of(20 + i % 40, i): jpeg(i) for i in range(count)}


def write_archive(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / 'UTKFace.tar.gz'
    with tarfile.open(path, 'w:gz') as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name if '/' in name else f'UTKFace/{name}')
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def prepare(manual_dir: Path, data_dir: Path, name: str = 'utkface', **parameters):
    builder = datasets.create_builder(name, str(data_dir), parameters)
    datasets.prepare(builder, str(manual_dir))
    return builder


def read(builder, split: str) -> list[dict]:
    source = builder.as_data_source(split, decoders=WITHOUT_DECODING)
    return [source[index] for index in range(len(source))]


def read_all(builder) -> dict[str, dict]:
    rows = [row for split in builder.info.splits for row in read(builder, split)]
    return {row['id'].decode(): row for row in rows}


def report(builder) -> dict:
    return json.loads((builder.data_path / 'quarantine.json').read_text())


def quarantined(builder) -> dict[str, str]:
    with open(builder.data_path / 'quarantine.csv', newline='') as file:
        return {row['file']: row['reason'] for row in csv.DictReader(file)}
