"""Writes the faces of photographs as `--mode=predict --detect` sees them, and a table to label."""

import csv
import hashlib
import io
import json
import os
import pathlib
import re
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from hybrid import files
from hybrid.datasets import geometry
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.threads import map_in_threads
from hybrid.photos import aligner, detection, faces, image_files
from hybrid.photos.rows import COLUMNS as FACE_COLUMNS
from hybrid.runs import workdir
from hybrid.runs.interruption import Interruption

TABLE, ERRORS = 'faces.csv', 'errors.csv'
# The faces lie in a folder of their own beside the tables.
FOLDER = 'faces'
# It is there until everything is written: how the faces are made, and of what, see `write_folder`.
UNFINISHED = 'unfinished.json'
# `path` is the face's file in the output folder, `photo` that of its photograph in the input; the
# box is in pixels of the photograph. Age and gender are to be filled in.
COLUMNS = (
    *('path', 'photo'),
    *(name for name in FACE_COLUMNS if name != 'path'),
    *('age', 'gender', 'group'),
)
ERROR_COLUMNS = ('photo', 'error')
# File systems allow 255.
_MAX_NAME_BYTES = 230

Row = dict[str, Any]


def crop(config: ConfigDict, source: str, output: str) -> None:
    """Does `--mode=crop`: writes every face of photographs, aligned, and a table of the faces.

    The folder is one for `face_csv` as soon as ages and genders are filled in. The faces of one
    photograph are one group. Photographs that cannot be read, or without a face, are in errors.csv.

    Args:
      config: Only `config.detect`, `config.crop` and `config.data.num_threads` are read.
      source: A photograph, or a folder; the folders in it are searched, too.
      output: The folder to make. One that is not empty is refused, unless this very command was
        stopped while it wrote there: then it goes on.

    Raises:
      ValueError, OSError: when the paths or the detector's file cannot be used, or another process
        is writing there.
      RuntimeError: when it was stopped by a signal.
    """
    if not source or not output:
        raise ValueError('--mode=crop needs --input=FILE_OR_FOLDER and --output=FOLDER')
    root, folder = files.expanded(source), files.expanded(output)
    if not root.exists():
        raise FileNotFoundError(f'--input={source}: no such file or folder')
    files.check_folder(folder)
    detector = detection.create_detector(config.detect)
    cut = aligner.describe(config.detect, config.crop.size)
    settings = {'input': os.path.abspath(root), 'format': config.crop.format, **cut}
    check_folder(folder, settings)
    paths, skipped = image_files.find_images(root, folder)
    if not paths:
        raise FileNotFoundError(f'--input={source}: no image in it, {skipped:,} other files')
    start = root if root.is_dir() else root.parent
    photos = {path: as_text(path.relative_to(start)) for path in paths}
    with workdir.lock(
        folder, 'another process is writing faces there; wait until it ends, or name a new --output'
    ):
        check_folder(folder, settings)  # Another process may have finished it by now.
        if not (folder / UNFINISHED).exists():
            files.write_json(folder / UNFINISHED, settings)
        geometry.write(folder, cut)
        write_folder(config, detector, photos, folder)
    (folder / workdir.LOCK).unlink(missing_ok=True)
    if skipped:
        print(f'{root}: {skipped:,} files passed over, which are not named as images')


def write_folder(
    config: ConfigDict,
    detector: detection.Detector,
    photos: Mapping[pathlib.Path, str],
    folder: pathlib.Path,
) -> None:
    """Writes the faces and the tables, and prints a summary.

    UNFINISHED gets the state of each photograph before it is read, see `files.file_state`. One that
    has the same state when the command goes on is not read again.

    Args:
      config: As for `crop`.
      detector: What finds the faces.
      photos: The photographs, and the name of each in the tables.
      folder: The output folder.

    Raises:
      OSError: when a file cannot be written.
      RuntimeError: when it was stopped by a signal.
    """
    size, suffix = config.crop.size, config.crop.format
    record = json.loads((folder / UNFINISHED).read_text())
    states = {photo: files.file_state(path) for path, photo in photos.items()}
    before = record.get('photos', states)
    same = {photo for photo in states.keys() & before.keys() if states[photo] == before[photo]}
    kept = take_up(folder / TABLE, COLUMNS, same)
    failed = take_up(folder / ERRORS, ERROR_COLUMNS, same)
    # Not before the rows of photographs that have changed are gone: the program may end here.
    files.write_json(folder / UNFINISHED, record | {'photos': states})
    done = {row['photo'] for row in (*kept, *failed)}
    waiting = [path for path, photo in photos.items() if photo not in done]
    if done:
        print(f'{folder}: going on after {len(done):,} photographs', flush=True)

    def write(path: pathlib.Path) -> tuple[list[Row], list[Row]]:
        found = faces.read_faces_or_error(path, detector, (size,))
        return write_faces(found, photos[path], folder, suffix)

    written = map_in_threads(write, waiting, config.data.num_threads, ahead=2)
    counts = [len(kept), len(failed)]
    began = time.monotonic()
    with (
        files.replacing(folder / TABLE) as table,
        files.replacing(folder / ERRORS) as errors,
        table.open('a', newline='', encoding='utf-8') as table_file,
        errors.open('a', newline='', encoding='utf-8', errors='backslashreplace') as error_file,
        ProgressBar(total=len(photos), initial=len(done), unit=' images', desc='crop') as bar,
        Interruption() as interruption,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings('ignore', module='PIL')  # What matters comes as an error.
        for of_photo in written:
            for k, (file, columns) in enumerate(
                ((table_file, COLUMNS), (error_file, ERROR_COLUMNS))
            ):
                counts[k] += len(of_photo[k])
                file.write(''.join(faces.format_row(row, '.csv', columns) for row in of_photo[k]))
                file.flush()
            bar.update()
            if interruption.requested:
                raise RuntimeError(
                    f'stopped by {interruption.name}; the same command goes on from there'
                )
    (folder / UNFINISHED).unlink()
    speed = len(waiting) / (time.monotonic() - began)
    then = (
        '. Fill in age and gender, then: --mode=prepare --config.data.dataset=face_csv/NAME '
        f'--config.data.manual_dir={folder}'
    )
    print(
        f'{folder}: {len(photos):,} photographs, {counts[0]:,} faces in {TABLE}, {counts[1]:,} '
        f'errors in {ERRORS}; {speed:.1f} images/s{then if counts[0] else ""}'
    )


def check_folder(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Checks that a folder is empty, or what this very command left unfinished.

    Raises:
      ValueError: when it is neither, naming the setting that is another.
    """
    if not set(files.visible(folder)) - {workdir.LOCK}:
        return
    path = folder / UNFINISHED
    if not path.is_file():
        raise ValueError(f'--output={folder} is not empty; name a new folder')
    try:
        before = json.loads(path.read_text())
        different = [key for key, value in settings.items() if before.get(key) != value]
        if not isinstance(before.get('photos', {}), dict):
            raise ValueError
    except (ValueError, AttributeError):
        raise ValueError(f'{path} is damaged; name a new --output') from None
    if different:
        key = different[0]
        raise ValueError(
            f'--output={folder} was begun with another {key} ({before.get(key)!r}, now '
            f'{settings[key]!r}); name a new folder'
        )


def take_up(path: pathlib.Path, columns: Sequence[str], same: Collection[str]) -> list[Row]:
    """Prepares `<path>.partial` to be added to, and returns the rows in it.

    Those of its last photograph, which may not be all, are taken out, and those of photographs that
    are not the `same` any more: they are done again if they are still there.
    """
    partial = path.with_name(path.name + '.partial')
    if path.exists():  # It was stopped between this and the other table.
        path.replace(partial)
    rows: list[Row] = []
    if partial.exists():
        text = partial.read_bytes().decode('utf-8', 'replace')
        rows = list(csv.DictReader(io.StringIO(text[: text.rfind('\n') + 1], newline='')))
        same = {*same} - {row['photo'] for row in rows[-1:]}
        # A row that somebody has made longer is done without what it has more.
        rows = [{name: row[name] for name in columns} for row in rows if row['photo'] in same]
    header = ','.join(columns) + '\n'
    lines = (faces.format_row(row, '.csv', columns) for row in rows)
    files.replace(partial, header + ''.join(lines))
    return rows


def write_faces(
    found: Sequence[tuple[faces.Row, faces.Face | None]],
    photo: str,
    folder: pathlib.Path,
    suffix: str,
) -> tuple[list[Row], list[Row]]:
    """Writes the faces of one photograph; called in several threads.

    Args:
      found: From `faces.read_faces_or_error`, at one size.
      photo: Its name in the table.
      folder: The output folder.
      suffix: Of the files, `png` or `jpg`.

    Returns:
      The rows of the table, and those of the errors.

    Raises:
      OSError: when a file cannot be written.
    """
    rows: list[Row] = []
    errors: list[Row] = []
    for row, face in found:
        if face is None:
            errors.append({'photo': photo, 'error': row['error']})
            continue
        path = f'{FOLDER}/{face_name(photo, row["face"])}.{suffix}'
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        save_face(face[0], target)
        row = {name: value for name, value in row.items() if name in COLUMNS}
        rows.append(row | {'path': path, 'photo': photo, 'group': photo})
    return rows, errors


def save_face(face: np.ndarray, target: pathlib.Path) -> None:
    """Writes uint8 [S, S, 3] as PNG, which keeps every pixel, or as JPEG of quality 95."""
    image = Image.fromarray(face)
    if target.suffix == '.png':
        image.save(target)
    else:
        image.save(target, quality=95, subsampling=0)


def face_name(photo: str, number: int) -> str:
    """Names a face after its photograph; names that no file system allows are hashed."""
    folders, _, name = photo.rpartition('/')
    name = f'{name}_{number}'
    if len(name.encode()) > _MAX_NAME_BYTES:
        name = f'{hashlib.sha256(photo.encode()).hexdigest()}_{number}'
    return f'{folders}/{name}' if folders else name


def as_text(path: pathlib.Path) -> str:
    """A path as text that a table can hold: bytes of a name that are no UTF-8 become %XX."""
    return re.sub('[\udc80-\udcff]', lambda byte: f'%{ord(byte[0]) - 0xDC00:02X}', path.as_posix())
