"""Prediction for image files: aligned face crops as they are, or photographs searched for faces."""

import collections
import csv
import dataclasses
import itertools
import json
import logging
import math
import pathlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import IO

import numpy as np
from ml_collections import ConfigDict

from hybrid import (
    alignment,
    detection,
    draw,
    evaluate,
    image_files,
    input_pipeline,
    parallel,
)
from hybrid.datasets.progress import ProgressBar
from hybrid.interruption import Interruption

_LOG = logging.getLogger(__name__)
NO_FACE = 'no face found'


@dataclasses.dataclass
class Row:
    """One face of a file, or a file's error; None is an empty cell.

    Attributes:
      path: Of the file.
      face: Number of the face in it, from the left, from 0.
      x: Left edge of the face's box, in pixels of the upright picture.
      y: Top edge.
      width: Of the box; without detection the box is the whole picture.
      height: Of the box.
      detection_score: 0..1; None without detection.
      age: Years.
      gender: `male` or `female`, whichever is likelier.
      female_probability: 0..1.
      error: Why there is no prediction.
    """

    path: str
    face: int | None = None
    x: int | None = None
    y: int | None = None
    width: int | None = None
    height: int | None = None
    detection_score: float | None = None
    age: float | None = None
    gender: str | None = None
    female_probability: float | None = None
    error: str | None = None


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
# Images uint8 [B, R, R, 3] to age [B] in years and female probability [B].
Predictor = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def read_faces(
    path: pathlib.Path, detector: detection.FaceDetector | None, size: int
) -> list[tuple[Row, np.ndarray | None]]:
    """Reads the faces of one file.

    Args:
      path: Of the file.
      detector: Finds the faces of a photograph; None takes the file for a crop of one.
      size: Side R in pixels of a face.

    Returns:
      (row, uint8 [R, R, 3]) for each face; if there is none, one row with the error, and None.
    """
    try:
        image = image_files.read_image(path)
        height, width = image.shape[:2]
        if detector is None:
            return [(Row(str(path), 0, 0, 0, width, height), input_pipeline.resize(image, size))]
        faces: list[tuple[Row, np.ndarray | None]] = []
        for number, face in enumerate(detector.detect(image)):
            corners = np.concatenate([face.box[:2], face.box[:2] + face.box[2:]])
            x, y, right, bottom = np.clip(np.rint(corners), 0, [width, height] * 2).astype(int)
            row = Row(str(path), number, int(x), int(y), int(right - x), int(bottom - y))
            row.detection_score = round(face.score, 4)
            faces.append((row, alignment.align_face(image, face.landmarks, size)))
        return faces or [(Row(str(path), error=NO_FACE), None)]
    # Whatever is wrong with one file, the others get their rows.
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        return [(Row(str(path), error=reason), None)]


def read_ahead(
    paths: Iterable[pathlib.Path], read: Callable, num_threads: int
) -> Iterator[tuple[Row, np.ndarray | None]]:
    """Yields what `read` gives for each path, in order, a few files ahead in threads."""
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
    faces: Iterable[tuple[Row, np.ndarray | None]], predictor: Predictor, batch_size: int
) -> Iterator[Row]:
    """Fills in the predictions, in batches; the order stays."""
    waiting: list[Row] = []
    images: list[np.ndarray] = []
    rows: list[Row] = []

    def predict() -> None:
        batch = np.zeros((batch_size, *images[0].shape), np.uint8)  # Padded: one compiled shape.
        batch[: len(images)] = images
        for row, age, female in zip(rows, *predictor(batch), strict=False):
            if not (math.isfinite(age) and math.isfinite(female)):
                row.error = 'the model predicts no finite number'
                continue
            # By way of text: the shortest number that is this float32.
            row.age, row.female_probability = float(str(age)), float(str(female))
            row.gender = 'female' if female > 0.5 else 'male'
        images.clear()
        rows.clear()

    for row, image in faces:
        waiting.append(row)
        if image is not None:
            rows.append(row)
            images.append(image)
        if len(images) == batch_size:
            predict()
        if not images:
            yield from waiting
            waiting.clear()
    if images:
        predict()
    yield from waiting


def create_predictor(config: ConfigDict, folder: pathlib.Path, checkpoint: str) -> Predictor:
    """Restores the model of a workdir and compiles it.

    Raises:
      FileNotFoundError: when there is no such checkpoint.
      ValueError: when the devices do not divide the batch size.
    """
    batch_size, size = config.evaluate.batch_size, config.data.resize_size
    parallel.check_batch_size(batch_size, 'config.evaluate.batch_size')
    model, state = evaluate.restore(config, folder, checkpoint)
    variables = state.eval_variables
    eval_step = parallel.compile_eval_step(evaluate.create_eval_step(model, config))
    unknown = {
        'age': np.full(batch_size, np.nan, np.float32),
        'gender': np.full(batch_size, -1, np.int32),
        'index': np.arange(batch_size, dtype=np.int32),
    }

    def predictor(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = parallel.shard_batch({'image': images, **unknown})
        rows = parallel.gather_rows([eval_step(variables, batch)])
        order = np.argsort(rows['index'], kind='stable')
        return rows['predicted_age'][order], rows['female_probability'][order]

    predictor(np.zeros((batch_size, size, size, 3), np.uint8))  # Compiles.
    return predictor


def _check_paths(source: pathlib.Path, output: pathlib.Path, drawings: pathlib.Path | None) -> None:
    if not source.exists():
        raise FileNotFoundError(f'--input={source}: no such file or folder')
    if output.suffix not in ('.csv', '.jsonl'):
        raise ValueError(f'--output={output}: the name must end in .csv or .jsonl')
    if not output.parent.is_dir():
        raise FileNotFoundError(f'--output={output}: there is no folder {output.parent}')
    if output.is_dir():
        raise IsADirectoryError(f'--output={output} is a folder; name a file in it')
    if drawings is None:
        return
    if drawings.exists() and not drawings.is_dir():
        raise NotADirectoryError(f'--draw={drawings} is a file; name a folder')
    root = (source if source.is_dir() else source.parent).resolve()
    if drawings.resolve() in (root, *root.parents):
        raise ValueError(f'--draw={drawings} holds --input={source}, which must not be drawn over')


class _RowFile:
    """Writes rows as CSV or JSON lines to a file beside `path`, which `close` renames to it."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.partial = path.with_name(path.name + '.partial')
        # File names need not be text in any encoding.
        self._file: IO[str] = open(  # noqa: SIM115
            self.partial, 'w', newline='', encoding='utf-8', errors='backslashreplace'
        )
        self._csv = csv.writer(self._file) if path.suffix == '.csv' else None
        if self._csv:
            self._csv.writerow(COLUMNS)

    def write(self, row: Row) -> None:
        if self._csv:
            self._csv.writerow(dataclasses.astuple(row))
        else:
            self._file.write(json.dumps(dataclasses.asdict(row), allow_nan=False) + '\n')

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.partial.replace(self._path)


class _Drawings:
    """Draws photographs into a folder, under the names that they have in `root`."""

    def __init__(self, folder: pathlib.Path, root: pathlib.Path):
        self._folder, self._root = folder, root
        self._names: set[pathlib.Path] = set()
        self.failed = 0

    def add(self, path: pathlib.Path, rows: list[Row]) -> None:
        if any(row.error not in (None, NO_FACE) for row in rows):
            return
        name = path.relative_to(self._root)
        while name.suffix.lower() not in ('.jpg', '.jpeg', '.png') or name in self._names:
            name = name.with_name(name.name + '.jpg')
        self._names.add(name)
        target = self._folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Read again: keeping the photographs until here could take any amount of memory.
            picture = draw.draw_predictions(image_files.read_image(path), rows)
            picture.save(target, quality=92)
        except (OSError, ValueError) as error:
            if not self.failed:
                _LOG.warning('%s: not drawn: %s', target, error)
            self.failed += 1


def predict(
    config: ConfigDict,
    folder: pathlib.Path,
    checkpoint: str,
    source: str,
    output: str,
    *,
    detect: bool = False,
    drawings: str = '',
) -> None:
    """`--mode=predict`: predicts age and gender for image files and prints a summary.

    A file that cannot be used gets its error in its row. What is written before something else
    fails stays in `<output>.partial`.

    Args:
      config: The workdir's, with `detect`.
      folder: The workdir.
      checkpoint: `best` or `last`.
      source: An image file, or a folder of them with all its folders.
      output: The .csv or .jsonl to write; its columns are those of `Row`.
      detect: Search photographs for faces, rather than take them for aligned crops.
      drawings: Folder for pictures with boxes and predictions on them; '' for none.

    Raises:
      ValueError, OSError: for what is wrong with the paths, the workdir, or the detector's file.
      RuntimeError: when a signal stops it.
    """
    if not source or not output:
        raise ValueError('--mode=predict needs --input=FILE_OR_FOLDER and --output=FILE.csv')
    if parallel.process_count() > 1:
        raise ValueError('--mode=predict runs in one process; give each its own part of the files')
    root, target = pathlib.Path(source).expanduser(), pathlib.Path(output).expanduser()
    draw_folder = pathlib.Path(drawings).expanduser() if drawings else None
    _check_paths(root, target, draw_folder)
    paths, skipped = image_files.find_images(root, draw_folder)
    if not paths:
        raise FileNotFoundError(f'--input={source}: no image files ({skipped} others)')
    detector = detection.create_detector(config.detect) if detect else None
    rows_file = _RowFile(target)
    predictor = create_predictor(config, folder, checkpoint)
    drawn = _Drawings(draw_folder, root if root.is_dir() else root.parent) if draw_folder else None

    def read(path: pathlib.Path) -> list[tuple[Row, np.ndarray | None]]:
        return read_faces(path, detector, config.data.resize_size)

    faces = read_ahead(paths, read, config.data.num_threads)
    rows = predict_rows(faces, predictor, config.evaluate.batch_size)
    counts: collections.Counter[str] = collections.Counter()
    start = time.monotonic()
    try:
        with (
            Interruption() as interruption,
            ProgressBar(total=len(paths), unit=' images', desc='predict') as bar,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings('ignore', module='PIL')  # What matters comes as an error.
            for path, group in itertools.groupby(rows, key=lambda row: row.path):
                of_file = list(group)
                for row in of_file:
                    rows_file.write(row)
                    counts['faces' if row.error is None else 'errors'] += 1
                if drawn:
                    drawn.add(pathlib.Path(path), of_file)
                bar.update()
                rows_file.flush()
                if interruption.requested:
                    raise RuntimeError(f'stopped by {interruption.name}')
        rows_file.close()
    except (OSError, RuntimeError) as error:
        raise RuntimeError(f'{error}; the rows so far are in {rows_file.partial}') from error
    seconds = time.monotonic() - start
    print(
        f'{target}: {len(paths):,} files, {counts["faces"]:,} faces, {counts["errors"]:,} errors, '
        f'in {seconds:.1f} s ({len(paths) / seconds:.1f} images/s)'
        + (f'; {skipped:,} other files passed over' if skipped else '')
    )
    if drawn:
        print(f'{draw_folder}: pictures' + (f', {drawn.failed:,} failed' if drawn.failed else ''))
