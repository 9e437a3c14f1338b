"""Prediction for image files: aligned face crops as they are, or photographs searched for faces."""

import collections
import csv
import io
import itertools
import json
import math
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hybrid import devices, files
from hybrid.data import input_pipeline
from hybrid.datasets.progress import ProgressBar
from hybrid.photos import alignment, detection, draw, image_files
from hybrid.runs import member_weights, trained
from hybrid.runs.interruption import Interruption
from hybrid.scores import combination
from hybrid.scores.outcomes import GENDERS, is_female
from hybrid.scores.rows import OF_ENSEMBLES

# One row a face, or one with the error of a file: `face` counts from the left, from 0; the box is
# in pixels of the upright picture, and is the whole picture without detection; `age` is in years,
# `gender` the likelier one. What a row lacks is an empty cell, or null.
COLUMNS = (
    *('path', 'face', 'x', 'y', 'width', 'height', 'detection_score'),
    *('age', 'gender', 'female_probability', 'error'),
)
NO_FACE = 'no face found'
Row = dict[str, Any]
# A face at the size of each model, uint8 [R, R, 3].
Face = tuple[np.ndarray, ...]
# Images uint8 [B, R, R, 3] for each model, B at most `batch_sizes(...)[-1]`, to columns [B]:
# `predicted_age` in years and `female_probability`, of an ensemble also `OF_ENSEMBLES`.
Predictor = Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]


def read_faces(
    path: pathlib.Path, detector: detection.FaceDetector | None, sizes: Sequence[int]
) -> list[tuple[Row, Face | None]]:
    """Reads the faces of one file.

    Args:
      path: Of the file.
      detector: Finds the faces of a photograph; None takes the file for a crop of one.
      sizes: Side R in pixels of a face, for each model.

    Returns:
      (row, images) for each face; if there is none, one row with the error, and None.
    """
    start: Row = {'path': str(path)}
    try:
        image = image_files.read_image(path)
        height, width = image.shape[:2]
        if detector is None:
            whole = {'face': 0, 'x': 0, 'y': 0, 'width': width, 'height': height}
            return [(start | whole, tuple(input_pipeline.resize(image, r) for r in sizes))]
        faces: list[tuple[Row, Face | None]] = []
        for number, face in enumerate(detector.detect(image)):
            corners = np.concatenate([face.box[:2], face.box[:2] + face.box[2:]])
            corners = np.clip(np.rint(corners), 0, [width, height, width, height])
            x, y, right, bottom = (int(value) for value in corners)
            box = {'face': number, 'x': x, 'y': y, 'width': right - x, 'height': bottom - y}
            row = start | box | {'detection_score': round(face.score, 4)}
            faces.append(
                (row, tuple(alignment.align_face(image, face.landmarks, r) for r in sizes))
            )
        return faces or [(start | {'error': NO_FACE}, None)]
    # Whatever is wrong with one file, the others get their rows.
    except Exception as error:
        return [(start | {'error': ' '.join(str(error).split()) or type(error).__name__}, None)]


def read_ahead(
    paths: Iterable[pathlib.Path], read: Callable, num_threads: int
) -> Generator[tuple[Row, Face | None]]:
    """Yields the faces that `read` gives for each path, in order, by threads a few files ahead."""
    queue: collections.deque[futures.Future] = collections.deque()
    remaining = iter(paths)
    with futures.ThreadPoolExecutor(num_threads, thread_name_prefix='read') as pool:
        try:
            # So many and no more, or the faces of a large folder would pile up.
            for path in itertools.islice(remaining, 2 * num_threads):
                queue.append(pool.submit(read, path))
            while queue:
                faces = queue.popleft().result()
                for path in itertools.islice(remaining, 1):
                    queue.append(pool.submit(read, path))
                yield from faces
        finally:
            for future in queue:
                future.cancel()


def predict_rows(
    faces: Iterable[tuple[Row, Face | None]], predictor: Predictor, batch_size: int
) -> Iterator[Row]:
    """Fills in the predictions, in batches of which the last may be smaller; keeps the order."""
    waiting: list[Row] = []
    batch: list[tuple[Row, Face]] = []

    def predict() -> None:
        of_models = zip(*(face for _, face in batch), strict=True)
        columns = predictor([np.stack(images) for images in of_models])
        for place, (row, _) in enumerate(batch):
            values = {name: column[place] for name, column in columns.items()}
            if all(map(math.isfinite, values.values())):
                # By way of text: the shortest number that is this float32.
                row |= {name: float(str(value)) for name, value in values.items()}
                row['age'] = row.pop('predicted_age')
                row['gender'] = GENDERS[int(is_female(row['female_probability']))]
            else:
                row['error'] = 'the model predicts no finite number'
        batch.clear()

    for row, image in faces:
        waiting.append(row)
        if image is not None:
            batch.append((row, image))
        if len(batch) == batch_size:
            predict()
        if not batch:
            yield from waiting
            waiting.clear()
    if batch:
        predict()
    yield from waiting


def batch_sizes(batch_size: int) -> list[int]:
    """The sizes that predictors are compiled for, up to `config.evaluate.batch_size`.

    A lone face does not wait for the arithmetic of a whole batch. On a CPU 32 faces are about as
    fast as more, and take less memory.

    Raises:
      ValueError: when the devices do not divide the batch size.
    """
    devices.check_batch_size(batch_size, 'config.evaluate.batch_size')
    count = devices.device_count()
    most = min(batch_size, 32 * count) if devices.on_cpu() else batch_size
    return sorted({min(most, faces * count) for faces in (1, 8, 32)} | {most})


def create_predictor(
    models: Sequence[trained.Trained],
    weights: combination.Weights | None = None,
    first: int | None = None,
) -> Predictor:
    """Compiles models, or an ensemble, as one predictor.

    Args:
      models: One, or several to be combined.
      weights: With which members are combined; None for equal ones.
      first: For so many faces it is compiled at once, by default the most that it takes.

    Raises:
      ValueError: when the devices do not divide the batch size.
    """
    sizes = batch_sizes(models[0].config.evaluate.batch_size)
    compiled: set[int] = set()
    kept = [number is not None for number in trained.member_numbers(models)]

    def predictor(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        count = len(images[0])
        # What is compiled already, rather than what has less padding.
        fitting = [s for s in sizes if s >= count]
        size = next((s for s in fitting if s in compiled), fitting[0])
        compiled.add(size)
        labels = {
            'age': np.full(size, np.nan, np.float32),
            'gender': np.full(size, -1, np.int32),
            'index': np.arange(size, dtype=np.int32),
        }
        ages, female = [], []
        for model, own in zip(models, images, strict=True):
            padded = np.zeros((size, *own.shape[1:]), np.uint8)
            padded[:count] = own
            batch = devices.shard_batch({'image': padded, **labels})
            rows = devices.gather_rows([model.learner.eval_step(model.variables, batch)])
            order = np.argsort(rows['index'])[:count]
            ages.append(rows['predicted_age'][order].reshape(count, -1))
            female.append(rows['female_probability'][order].reshape(count, -1))
        if len(models) == 1 and not models[0].learner.is_ensemble:
            return {'predicted_age': ages[0][:, 0], 'female_probability': female[0][:, 0]}
        return combination.combine(
            np.concatenate(ages, axis=1)[:, kept], np.concatenate(female, axis=1)[:, kept], weights
        )

    first = min(first or sizes[-1], sizes[-1])
    predictor([np.zeros((first, r, r, 3), np.uint8) for r in face_sizes(models)])
    return predictor


def face_sizes(models: Sequence[trained.Trained]) -> list[int]:
    """Side in pixels at which each model wants a face."""
    return [model.config.data.resize_size for model in models]


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


def format_row(row: Row, suffix: str, columns: Sequence[str] = COLUMNS) -> str:
    """The line of a row in a `.csv` or a `.jsonl` file."""
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
      path: Of the file, which is read again: to keep photographs could take any amount of memory.
      rows: Of the file.
      target: The .jpg or .png to write; its folder is made.

    Raises:
      ValueError, OSError: when it cannot be read any more, or the picture cannot be written.
    """
    if rows[0].get('error', NO_FACE) != NO_FACE:
        return
    boxes, labels = [], []
    for row in rows:
        if 'age' in row:
            female = row['female_probability']
            share = female if row['gender'] == 'female' else 1 - female
            boxes.append((row['x'], row['y'], row['width'], row['height']))
            labels.append(f'{row["age"]:.0f}, {row["gender"]} {share:.0%}')
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
    """`--mode=predict`: predicts age and gender for image files and prints a summary.

    A file that cannot be used gets its error in its row. Should anything else fail, the rows so far
    are in `<output>.partial`.

    Args:
      configs: The workdirs'; of the first are `detect`, the batch size and the number of threads.
      folders: The workdir, or several whose models are combined.
      checkpoint: `best` or `last`.
      source: An image file, or a folder; the folders in it are searched, too.
      output: The .csv or .jsonl file to write, see `COLUMNS` and `OF_ENSEMBLES`.
      detect: Search photographs for faces, rather than take them for aligned crops.
      drawings: Folder for pictures with boxes and predictions on them; '' for none.

    Raises:
      ValueError, OSError: for what is wrong with paths, workdir or the detector's file.
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
    # A photograph may have several faces.
    first = len(paths) if detector is None else 8 * len(paths)
    predictor = create_predictor(models, member_weights.find(models), first)
    columns: tuple[str, ...] = COLUMNS
    if len(models) > 1 or models[0].learner.is_ensemble:
        columns = (*COLUMNS[:-1], *OF_ENSEMBLES, COLUMNS[-1])

    def read(path: pathlib.Path) -> list[tuple[Row, Face | None]]:
        return read_faces(path, detector, face_sizes(models))

    faces = read_ahead(paths, read, config.data.num_threads)
    rows = predict_rows(faces, predictor, batch_sizes(config.evaluate.batch_size)[-1])
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
    if skipped:
        print(f'{root}: {skipped:,} files passed over, which are not named as images')
