"""Predicts age and gender for crops of faces, or for the faces that photographs and videos show."""

import collections
import contextlib
import itertools
import pathlib
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence

from ml_collections import ConfigDict

from hybrid import devices, files
from hybrid.datasets.image_sources import EXTENSIONS
from hybrid.datasets.progress import ProgressBar
from hybrid.datasets.threads import map_in_threads
from hybrid.photos import detection, image_files, videos
from hybrid.photos.drawings import Drawings
from hybrid.photos.faces import Face, Row
from hybrid.photos.pictures import Picture, pictures, read_picture
from hybrid.runs import (
    calibration,
    dataset_record,
    face_rows,
    member_weights,
    partial_rows,
    trained,
)
from hybrid.runs.interruption import Interruption
from hybrid.runs.partial_rows import PartialRows
from hybrid.runs.predictor import Predictor


def check_paths(source: pathlib.Path, output: pathlib.Path, drawings: pathlib.Path | None) -> None:
    """Raises ValueError or OSError, naming the flag, for paths that cannot be read or written."""
    if not source.exists():
        raise FileNotFoundError(f'--input={source}: no such file or folder')
    if output.suffix not in ('.csv', '.jsonl'):
        raise ValueError(f'--output={output}: the name must end in .csv or .jsonl')
    files.check_file(output)
    for end in ('', '.partial', '.partial.journal', '.partial.ordered'):
        written = output.with_name(output.name + end)
        if written.exists() and written.samefile(source):
            raise ValueError(f'--output={output} would overwrite --input')
    if output.exists() and not face_rows.is_table(output):
        raise ValueError(
            f'--output={output} exists and is no table of predictions, so it is not replaced; name '
            'another file'
        )
    if drawings is None:
        return
    files.check_folder(drawings, '--draw')
    root = (source if source.is_dir() else source.parent).resolve()
    if drawings.resolve() in (root, *root.parents):
        raise ValueError(f'--draw={drawings}: would draw over --input={source}; name a new folder')


def find_faces(
    paths: Iterable[pathlib.Path],
    detector: detection.Detector | None,
    config: ConfigDict,
    sizes: Sequence[int],
    interruption: Interruption,
) -> Iterator[tuple[Row, Face | None]]:
    """Reads the faces of files, by several threads and a bounded way ahead.

    Args:
      paths: The files.
      detector: Finds the faces of photographs and videos; None takes images for crops.
      config: Says how many threads read, and how much of a video.
      sizes: As for `faces.read_faces`.
      interruption: What may ask for an end.

    Raises:
      RuntimeError: when an end was asked for.
    """

    def read(picture: Picture) -> list[tuple[Row, Face | None]]:
        return read_picture(picture, detector, sizes)

    stream = pictures(paths, config.video if detector else None)
    with contextlib.closing(map_in_threads(read, stream, config.data.num_threads, 2)) as found:
        for of_picture in found:
            interruption.check()
            yield from of_picture


def write_file(
    path: str,
    placed: Iterable[tuple[Row, face_rows.Place]],
    partial: PartialRows,
    drawn: Drawings | None,
    bar: ProgressBar,
    interruption: Interruption,
) -> collections.Counter[str]:
    """Writes and draws the rows of one file, of a video frame by frame, as they come.

    Args:
      path: The file.
      placed: Its rows, from `face_rows.predict_placed_rows`.
      partial: Where they go.
      drawn: Where the drawing goes.
      bar: Counts the pictures.
      interruption: What may ask for an end.

    Returns:
      What there was, for the summary.

    Raises:
      RuntimeError: when an end was asked for.
      OSError: when the rows cannot be written.
    """
    drawing = drawn.begin(path) if drawn else None
    counts: collections.Counter[str] = collections.Counter(files=1)
    place = (0, 0)
    for _, group in itertools.groupby(placed, lambda placed: placed[0].get('frame')):
        interruption.check()
        of_picture = list(group)
        rows, place = [row for row, _ in of_picture], of_picture[-1][1]
        for row in rows:
            kind = 'errors' if 'error' in row else 'faces'
            counts[kind] += 1
            counts['cut'] += row.get('error', '').startswith(videos.CUT)
        partial.write(rows)
        if drawing:
            drawing.add(rows)
        counts['pictures'] += 1
        bar.update()
    bar.total += counts['pictures'] - 1  # A video has several.
    if drawing:
        drawing.close()
        if drawing.problem:
            bar.write(f'{drawing.target}: not drawn: {drawing.problem}', sys.stderr)
    partial.end_file(path, place, counts)
    return counts


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
    """Does `--mode=predict`: predicts age and gender for files, and prints a summary.

    The row of a file that cannot be read says why. Should anything else fail, the rows that were
    written so far are in `<output>.partial`, and the same call goes on after them.

    Args:
      configs: The configs of the workdirs. The first one says how to detect, how large a batch is,
        how many threads read, and how much of a video.
      folders: The workdir, or several whose models are combined.
      checkpoint: `best` or `last`.
      source: An image or video file, or a folder; the folders in it are searched, too.
      output: The .csv or .jsonl file to write; see `face_rows.columns`.
      detect: Search photographs and videos for faces, rather than take images for aligned crops.
      drawings: Folder for pictures with boxes and predictions on them; '' for none.

    Raises:
      ValueError, OSError: when the paths, the workdir or the detector's file cannot be used.
      RuntimeError: when it was stopped by a signal, or the rows could not be written.
    """
    if not source or not output:
        raise ValueError('--mode=predict needs --input=FILE_OR_FOLDER and --output=FILE.csv')
    if devices.process_count() > 1:
        raise ValueError('--mode=predict runs in one process; give each its own part of the files')
    root, target = files.expanded(source), files.expanded(output)
    draw_folder = files.expanded(drawings) if drawings else None
    check_paths(root, target, draw_folder)
    paths, skipped = image_files.find_images(
        root, draw_folder, EXTENSIONS + image_files.VIDEO_EXTENSIONS
    )
    if not paths:
        raise FileNotFoundError(f'--input={source}: no image in it, {skipped:,} other files')
    config = configs[0]
    draw_root = root if root.is_dir() else root.parent
    drawn = Drawings(draw_folder, paths, draw_root, config.video) if draw_folder else None
    detector = detection.create_detector(config.detect) if detect else None
    models = trained.restore_all(configs, folders, checkpoint)
    for folder in folders if detect else ():
        dataset_record.warn_of_photographs(folder)
    weights = member_weights.find(models)
    calibrated = calibration.find(models, weights)
    predictor = Predictor(models, weights, calibrated)
    has_videos = detect and any(map(videos.is_video, paths))
    faces_in_a_file = face_rows.FACES_IN_A_PHOTOGRAPH if detect else 1
    predicted = predictor.prepare(predictor.most if has_videos else faces_in_a_file * len(paths))
    columns = face_rows.columns(predicted, has_videos)
    identity = partial_rows.identify(models, weights, calibrated, detect)
    identity |= {'--input': str(root), '--draw': str(draw_folder or '')}
    partial = PartialRows(target, identity, columns, paths, drawn.targets if drawn else {})
    start = time.monotonic()
    try:
        with partial, Interruption() as interruption, warnings.catch_warnings():
            warnings.filterwarnings('ignore', module='PIL')  # What matters comes as an error.
            earlier = collections.Counter[str]()
            for done in partial.done:
                earlier.update(done.counts)
            counts = earlier.copy()
            found = find_faces(
                partial.remaining(), detector, config, predictor.face_sizes, interruption
            )
            placed = face_rows.predict_placed_rows(found, predictor, partial.place)
            with (
                ProgressBar(
                    total=len(paths), initial=len(partial.done), unit=' images', desc='predict'
                ) as bar,
                contextlib.closing(placed),
            ):
                for path, of_file in itertools.groupby(placed, lambda placed: placed[0]['path']):
                    counts += write_file(path, of_file, partial, drawn, bar, interruption)
                    interruption.check()
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f'{error}; the rows so far are in {partial.path}, the same command goes on after them'
        ) from error
    speed = (counts['pictures'] - earlier['pictures']) / (time.monotonic() - start)
    print(
        f'{target}: {len(paths):,} files, {counts["faces"]:,} faces, {counts["errors"]:,} errors; '
        f'{speed:.1f} images/s'
    )
    for line in (
        *trained.not_predicted(models),
        *calibration.why_no_intervals(models, calibrated),
    ):
        print(line)
    if skipped:
        print(f'{root}: {skipped:,} files passed over, which are not named as images or videos')
    if counts['cut']:
        print(f'{counts["cut"]:,} videos were cut by a limit of config.video: see their last rows')
