"""Predicts age and gender for image files: crops of faces, or photographs, whose faces it finds."""

import collections
import csv
import io
import itertools
import json
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Sequence

from ml_collections import ConfigDict

from hybrid import devices, files
from hybrid.datasets import geometry
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.threads import map_in_threads
from hybrid.photos import detection, draw, image_files
from hybrid.photos.faces import NO_FACE, Face, Row, read_faces_or_error
from hybrid.runs import face_rows, member_weights, trained, workdir
from hybrid.runs.interruption import Interruption
from hybrid.runs.predictor import Predictor


def check_paths(source: pathlib.Path, output: pathlib.Path, drawings: pathlib.Path | None) -> None:
    """Raises ValueError or OSError, naming the flag, for paths that cannot be read or written."""
    if not source.exists():
        raise FileNotFoundError(f'--input={source}: no such file or folder')
    if output.suffix not in ('.csv', '.jsonl'):
        raise ValueError(f'--output={output}: the name must end in .csv or .jsonl')
    if not output.parent.is_dir():
        raise FileNotFoundError(f'--output={output}: there is no folder {output.parent}')
    if output.exists() and output.samefile(source):
        raise ValueError(f'--output={output} would overwrite --input')
    if output.is_dir():
        raise IsADirectoryError(f'--output={output} is a folder; name a file in it')
    if not os.access(output.parent, os.W_OK):
        raise PermissionError(f'--output={output}: {output.parent} may not be written to')
    if drawings is None:
        return
    if drawings.exists() and not drawings.is_dir():
        raise NotADirectoryError(f'--draw={drawings} is a file; name a folder')
    root = (source if source.is_dir() else source.parent).resolve()
    if drawings.resolve() in (root, *root.parents):
        raise ValueError(f'--draw={drawings}: would draw over --input={source}; name a new folder')


def format_row(row: Row, suffix: str, columns: Sequence[str]) -> str:
    """Returns the line that a row becomes in a `.csv` or a `.jsonl` file."""
    if suffix == '.jsonl':
        return json.dumps({name: row.get(name) for name in columns}, allow_nan=False) + '\n'
    line = io.StringIO()
    # With this line end csv quotes a carriage return in a name too.
    csv.DictWriter(line, columns, lineterminator='\r\n').writerow(row)
    return line.getvalue().removesuffix('\r\n') + '\n'


def drawing_names(paths: list[pathlib.Path], root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Names each picture as its file in `root`, with .jpg added where that is no JPEG or PNG."""
    names: dict[pathlib.Path, str] = {}
    for path in paths:
        name = path.relative_to(root)
        while name.suffix.lower() not in ('.jpg', '.jpeg', '.png') or name in names:
            name = name.with_name(name.name + '.jpg')
        names[name] = str(path)
    return {path: name for name, path in names.items()}


def draw_predictions(path: str, rows: list[Row], target: pathlib.Path) -> None:
    """Draws the faces of one file; a file that could not be read is passed over.

    Args:
      path: The file. It is read again, since to keep photographs could take any amount of memory.
      rows: The rows of its faces.
      target: The .jpg or .png to write; its folder is made.

    Raises:
      ValueError, OSError: when it cannot be read any more, or the picture cannot be written.
    """
    if rows[0].get('error', NO_FACE) != NO_FACE:
        return
    boxes, labels = [], []
    for row in rows:
        if 'face' in row and 'error' not in row:
            boxes.append((row['x'], row['y'], row['width'], row['height']))
            words = []
            if 'age' in row:
                words.append(f'{row["age"]:.0f}')
            if 'gender' in row:
                female = row['female_probability']
                share = female if row['gender'] == 'female' else 1 - female
                words.append(f'{row["gender"]} {share:.0%}')
            labels.append(', '.join(words))
    target.parent.mkdir(parents=True, exist_ok=True)
    image = image_files.read_image(pathlib.Path(path))
    draw.draw_boxes(image, boxes, labels).save(target, quality=92)


def predict(
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    checkpoint: str,
    source: str,
    output: str,
    *,
    detect: bool = False,
    drawings: str = '',
) -> None:
    """Does `--mode=predict`: predicts age and gender for image files, and prints a summary.

    The row of a file that cannot be read says why. Should anything else fail, the rows that were
    written so far are in `<output>.partial`.

    Args:
      configs: The configs of the workdirs. The first one says how to detect, how large a batch is,
        and how many threads read.
      folders: The workdir, or several whose models are combined.
      checkpoint: `best` or `last`.
      source: An image file, or a folder; the folders in it are searched, too.
      output: The .csv or .jsonl file to write; see `face_rows.columns`.
      detect: Search photographs for faces, rather than take them for aligned crops.
      drawings: Folder for pictures with boxes and predictions on them; '' for none.

    Raises:
      ValueError, OSError: when the paths, the workdir or the detector's file cannot be used.
      RuntimeError: when it was stopped by a signal, or the rows could not be written.
    """
    if not source or not output:
        raise ValueError('--mode=predict needs --input=FILE_OR_FOLDER and --output=FILE.csv')
    if devices.process_count() > 1:
        raise ValueError('--mode=predict runs in one process; give each its own part of the files')
    root, target = pathlib.Path(source).expanduser(), pathlib.Path(output).expanduser()
    draw_folder = pathlib.Path(drawings).expanduser() if drawings else None
    check_paths(root, target, draw_folder)
    paths, skipped = image_files.find_images(root, draw_folder)
    if not paths:
        raise FileNotFoundError(f'--input={source}: no image in it, {skipped:,} other files')
    names = drawing_names(paths, root if root.is_dir() else root.parent) if draw_folder else {}
    config = configs[0]
    detector = detection.create_detector(config.detect) if detect else None
    models = trained.restore_all(configs, folders, checkpoint)
    for folder in folders if detect else ():
        cut = workdir.load_geometry(folder)
        if cut['geometry'] == 'box':  # Of faces that came as they were, nobody knows.
            geometry.warn(folder, cut, '--detect', geometry.UTKFACE_CHIPS)
    predictor = Predictor(models, member_weights.find(models))
    faces_in_a_file = face_rows.FACES_IN_A_PHOTOGRAPH if detect else 1
    columns = face_rows.columns(predictor.prepare(faces_in_a_file * len(paths)))

    def read(path: pathlib.Path) -> list[tuple[Row, Face | None]]:
        return read_faces_or_error(path, detector, predictor.face_sizes)

    of_files = map_in_threads(read, paths, config.data.num_threads, ahead=2)
    found = (face for of_file in of_files for face in of_file)
    rows = face_rows.predict_rows(found, predictor)
    counts: collections.Counter[str] = collections.Counter()
    start = time.monotonic()
    try:
        with (
            files.replacing(target) as partial,
            # File names need not be text in any encoding.
            partial.open('w', newline='', encoding='utf-8', errors='backslashreplace') as file,
            ProgressBar(total=len(paths), unit=' images', desc='predict') as bar,
            Interruption() as interruption,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings('ignore', module='PIL')  # What matters comes as an error.
            if target.suffix == '.csv':
                file.write(','.join(columns) + '\n')
            for path, group in itertools.groupby(rows, key=lambda row: row['path']):
                of_file = list(group)
                file.writelines(format_row(row, target.suffix, columns) for row in of_file)
                file.flush()
                errors = sum('error' in row for row in of_file)
                counts.update(errors=errors, faces=len(of_file) - errors)
                if draw_folder:
                    try:
                        draw_predictions(path, of_file, draw_folder / names[path])
                    except (OSError, ValueError) as error:
                        bar.write(f'{draw_folder / names[path]}: not drawn: {error}', sys.stderr)
                bar.update()
                if interruption.requested:
                    raise RuntimeError(f'stopped by {interruption.name}')
    except (OSError, RuntimeError) as error:
        raise RuntimeError(f'{error}; the rows so far are in {partial}') from error
    speed = len(paths) / (time.monotonic() - start)
    print(
        f'{target}: {len(paths):,} files, {counts["faces"]:,} faces, {counts["errors"]:,} errors; '
        f'{speed:.1f} images/s'
    )
    for line in trained.not_predicted(models):
        print(line)
    if skipped:
        print(f'{root}: {skipped:,} files passed over, which are not named as images')
