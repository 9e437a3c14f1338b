r"""Predicts age and gender of faces with the model in this folder.

    pip install numpy pillow onnxruntime
    python predict.py face1.jpg face2.jpg --output=predictions.csv

The images are crops of one face each, cut as `model.json` says. Of one that is not square the
middle is taken. This file and `hybrid`, where it comes from, use the same code.
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, NoReturn

import numpy as np
from PIL import ExifTags, Image

FORMAT, VERSION = 'hybrid export', 1
DESCRIPTION, MODEL = 'model.json', 'model.onnx'
# So many faces go through the model at once: more are not faster on a CPU.
BATCH = 32
# Only plain image formats: Pillow would start an interpreter for others, such as PostScript.
FORMATS = (
    *('JPEG', 'PNG', 'GIF', 'BMP', 'DIB', 'TIFF', 'WEBP', 'AVIF', 'HEIF', 'JPEG2000', 'PPM'),
)
# Pillow warns of images with more.
MAX_PIXELS = 89_478_485
_TURNS = dict(enumerate((0, 3, 1, 5, 4, 6, 2), start=2))  # EXIF's to Image.Transpose's.
GENDERS = ('male', 'female')
# With which a table begins.
COLUMNS = ['path', 'age', 'gender', 'female_probability']

Description = dict[str, Any]


def read_description(folder: pathlib.Path) -> Description:
    """Reads model.json.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it is damaged, or of something else.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f'{folder} holds no export: there is no {DESCRIPTION} in it')
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{path} is damaged ({reason}); export the model again') from None
    if not isinstance(record, dict) or record.get('format') != FORMAT:
        raise ValueError(f'{path} does not describe a {FORMAT}; is it of another program?')
    if record.get('format_version') != VERSION:
        raise ValueError(
            f'{path} is of version {record.get("format_version")!r} of the format, and this '
            f'program reads {VERSION}; take the predict.py beside it, or another version of hybrid'
        )
    try:
        fine = (
            (type(record['input']['size']) is int and 0 < record['input']['size'] < 2**14)
            and all(type(shape) is list for shape in record['outputs'].values())
            and all(
                pathlib.PurePath(name).name == name and len(entry['sha256']) == 64
                for name, entry in record['files'].items()
            )
            and 0.5 <= record['unsure_below'] <= 1
            and all(
                isinstance(low, int | float) and isinstance(high, int | float)
                for low, high in record.get('known_faces', {}).values()
            )
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        fine = False
    if not fine:
        raise ValueError(
            f'{path} is damaged: parts of it are missing or changed; export the model again'
        )
    return record


def check_files(folder: pathlib.Path, record: Description) -> None:
    """Checks the files of an export but for the program; those that nobody needs may be gone.

    Raises:
      ValueError: when one is not what was exported.
    """
    for name, entry in record['files'].items():
        path = folder / name
        if not path.exists() or path.suffix == '.py':
            continue
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        if digest != entry['sha256']:
            raise ValueError(
                f'{path} is damaged, or another file than the one that was exported: its sha256 is '
                f'not that in {DESCRIPTION}; export the model again, or copy the folder anew'
            )


class Runner:
    """The model of an export; several threads may call it.

    Args:
      folder: The export.
      name: Of its ONNX file.

    Attributes:
      description: What model.json says.
      size: Side R of its faces in pixels.

    Raises:
      FileNotFoundError, ValueError: when the folder holds no export, or a damaged one.
      RuntimeError: when onnxruntime is not installed.
    """

    def __init__(self, folder: str | os.PathLike, name: str = MODEL):
        folder = pathlib.Path(folder)
        self.description = read_description(folder)
        self.size: int = self.description['input']['size']
        path = folder / name
        if name not in self.description['files'] or not path.is_file():
            raise FileNotFoundError(f'{path}: this export has no such file')
        check_files(folder, self.description)
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise RuntimeError(
                'onnxruntime is not installed: pip install numpy pillow onnxruntime'
            ) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:
            reason = ' '.join(str(error).split())[:300]
            raise ValueError(f'{path}: onnxruntime cannot use it ({reason})') from None
        inputs = [(one.name, one.type, one.shape[1:]) for one in self._session.get_inputs()]
        self._outputs = list(self.description['outputs'])
        shapes = {one.name: one.shape[1:] for one in self._session.get_outputs()}
        described = self.description['outputs'].items()
        if (
            inputs != [('image', 'tensor(uint8)', [self.size, self.size, 3])]
            or not described
            or any(shapes.get(output) != shape for output, shape in described)
        ):
            raise ValueError(f'{path} has other inputs or outputs than {DESCRIPTION} says')

    def __call__(self, faces: np.ndarray) -> dict[str, np.ndarray]:
        """Predicts faces.

        Args:
          faces: uint8 [N, R, R, 3], RGB.

        Returns:
          The outputs that model.json describes, float32 [N, ...].

        Raises:
          RuntimeError: when onnxruntime fails, as for want of memory.
        """
        if not len(faces):  # At which onnxruntime's LSTM ends the whole program.
            shapes = self.description['outputs'].items()
            return {name: np.zeros((0, *shape), np.float32) for name, shape in shapes}
        try:
            parts = [
                self._session.run(self._outputs, {'image': faces[start : start + BATCH]})
                for start in range(0, len(faces), BATCH)
            ]
        except Exception as error:  # onnxruntime has a dozen kinds of its own.
            reason = ' '.join(str(error).split())[:300]
            raise RuntimeError(f'onnxruntime failed: {reason}') from None
        joined = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return dict(zip(self._outputs, joined, strict=True))


def read_file(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file as `to_rgb` does, turned as its EXIF data say.

    Raises:
      ValueError: with the reason in one line.
    """
    path = pathlib.Path(os.path.expanduser(path))
    if not path.is_file():
        raise ValueError('a folder, not a file' if path.is_dir() else 'no such file')
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        with path.open('rb') as file, _open(file, known) as opened:
            if opened.width * opened.height <= MAX_PIXELS:
                opened.load()
                return to_rgb(opened)
    except Image.UnidentifiedImageError:
        raise ValueError(f'not an image in a known format ({", ".join(known)})') from None
    except Exception as error:  # Pillow raises all kinds of them on a damaged file.
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'cannot be decoded: {reason}') from None
    raise ValueError(f'more than {MAX_PIXELS:,} pixels')


def _open(file: BinaryIO, formats: Sequence[str]) -> Image.Image:
    """As Image.open, but without its warning of many pixels, which is a matter of all threads."""
    head = file.read(16)
    for name in formats:
        factory, accept = Image.OPEN[name]
        try:
            accepted = accept is None or accept(head)
            if accepted and not isinstance(accepted, str):  # A text is a reason against it.
                file.seek(0)
                return factory(file, '')
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    raise Image.UnidentifiedImageError


def to_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of an upright image, uint8 [H, W, 3]; what is transparent is shown on white.

    Raises:
      ValueError: for grey of which nobody knows what is white.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Damaged EXIF data is no reason to refuse the pixels.
        turn = None
    if turn is not None:
        image = image.transpose(Image.Transpose(turn))
    if image.mode.startswith('I'):  # 16-bit grey, for which Pillow's convert would clip at 255.
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError('32-bit grey with values outside 0..65535')
        if image.mode == 'I' and 0 < values.max() < 256:
            raise ValueError(
                "as 16-bit grey it is black; if white is 255, make it 8-bit: image.convert('L')"
            )
        return np.repeat(((values + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == 'F':
        raise ValueError('floating-point grey, of which nobody knows what is white')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return np.asarray(image.convert('RGB'))


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Brings uint8 [H, W, 3] to [size, size, 3]: the middle square, resized.

    As in training, which uses OpenCV, but that a few pixels in a thousand may be a grey level off.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = pixels[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(pixels)
    return _shrink(pixels, size) if side > size else _grow(pixels, size)


def _shrink(pixels: np.ndarray, size: int) -> np.ndarray:
    """The mean over the area of each pixel, of uint8 [side, side, 3]."""
    side, place, scale = len(pixels), np.arange(size)[:, None], len(pixels) / size
    ends = np.minimum(place * scale + scale, np.arange(side) + 1)
    weights = np.maximum(ends - np.maximum(place * scale, np.arange(side)), 0) / scale
    down = np.empty((size, side, 3))
    for start in range(0, side, 256):  # So that a large image takes little memory.
        down[:, start : start + 256] = np.tensordot(weights, pixels[:, start : start + 256], 1)
    # What rounding has left of a half would be rounded up on one machine and down on another.
    resized = np.round(weights @ down, 6)
    # OpenCV rounds halves up where it halves images, and to the even number elsewhere.
    return (np.floor(resized + 0.5) if scale == 2 else np.rint(resized)).astype(np.uint8)


def _grow(pixels: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, in the whole numbers that OpenCV computes with: weights are in 2048ths."""
    side = len(pixels)
    place = ((np.arange(size) + 0.5) * (side / size) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    after = np.rint((place - first) * 2048).astype(np.int64)
    before, places = 2048 - after, np.clip([first, first + 1], 0, side - 1)
    left, right = (pixels[:, x].astype(np.int64) for x in places)
    across = (left * before[:, None] + right * after[:, None]) // 16
    upper, lower = (across[y] for y in places)
    upper, lower = upper * before[:, None, None] // 65536, lower * after[:, None, None] // 65536
    return ((upper + lower + 2) // 4).astype(np.uint8)


def gender_name(female_probability: float, unsure_below: float) -> str:
    """The likelier gender, or 'unsure' if its probability is below a threshold."""
    if max(female_probability, 1 - female_probability) < unsure_below:
        return 'unsure'
    return GENDERS[int(female_probability > 0.5)]


def predict_rows(runner: Runner, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Predicts files: for each a row with its path, and with predictions or an `error`."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(paths), BATCH):
        faces = []
        for path in paths[start : start + BATCH]:
            rows.append({'path': path})
            try:
                faces.append((rows[-1], resize(read_file(path), runner.size)))
            except ValueError as error:
                rows[-1]['error'] = str(error)
        if not faces:
            continue
        columns = runner(np.stack([face for _, face in faces]))
        for place, (row, _) in enumerate(faces):
            values = {name: x[place] for name, x in columns.items() if x.ndim == 1}
            if not np.isfinite(list(values.values())).all():
                row['error'] = 'the model predicts no finite number'
                continue
            if 'female_probability' in values:
                threshold = runner.description['unsure_below']
                row['gender'] = gender_name(values['female_probability'], threshold)
            row |= values
    return rows


def describe_row(row: dict[str, Any]) -> str:
    """One line about an image."""
    said = []
    if 'age' in row:
        age = f'{row["age"]:.1f} years'
        if 'age_low' in row:
            age += f' ({row["age_low"]:.1f} to {row["age_high"]:.1f})'
        said.append(age)
    if 'gender' in row:
        said.append(f'{row["gender"]} (female with {row["female_probability"]:.3f})')
    path = ' '.join(row['path'].splitlines())
    return f'{path}: {row.get("error") or ", ".join(said)}'


def write_table(path: pathlib.Path, rows: Sequence[dict[str, Any]], outputs: Sequence[str]) -> None:
    """Writes rows as CSV, paths as they are."""
    names = [*COLUMNS, *(name for name in outputs if name not in COLUMNS), 'error']
    partial = path.with_name(path.name + '.partial')
    with partial.open('w', encoding='utf-8', errors='backslashreplace', newline='') as file:
        writer = csv.DictWriter(file, names, extrasaction='ignore', lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def is_table(path: pathlib.Path) -> bool:
    """Whether a file begins as those of `write_table` do, or is empty."""
    with path.open(encoding='utf-8', errors='replace') as file:
        first = file.readline()
    names = first.strip().split(',')
    return not first or (names[:4] == COLUMNS and names[-1] == 'error')


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(f'error: {message}')


def main() -> int:
    """Predicts the images that the command line names; 1 if one of them could not be read."""
    parser = _Parser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='a crop of a face')
    parser.add_argument('--output', default='', help='a .csv file to write')
    parser.add_argument('--model', default=MODEL, help='model.onnx, or model_fp16.onnx')
    options = parser.parse_args()
    sys.stdout.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]
    output = pathlib.Path(options.output)
    if options.output and (output.suffix != '.csv' or output.is_dir()):
        parser.error(f'--output={output}: the name must be that of a .csv file')
    if options.output and not output.parent.is_dir():
        parser.error(f'--output={output}: there is no folder {output.parent}')
    if options.output and any(
        os.path.exists(path) and output.exists() and output.samefile(path)
        for path in options.images
    ):
        parser.error(f'--output={output} would overwrite an image')
    try:
        if options.output and output.exists() and not is_table(output):
            parser.error(
                f'--output={output} exists and is no table of predictions, so it is not replaced; '
                'name another file'
            )
        runner = Runner(pathlib.Path(__file__).resolve().parent, options.model)
        rows = predict_rows(runner, options.images)
        for row in rows:
            print(describe_row(row))
        if options.output:
            scalars = [name for name, shape in runner.description['outputs'].items() if not shape]
            write_table(output, rows, scalars)
    except (ValueError, OSError, RuntimeError) as error:
        parser.error(' '.join(str(error).split()))
    except KeyboardInterrupt:
        parser.error('interrupted')
    return int(any('error' in row for row in rows))


if __name__ == '__main__':
    sys.exit(main())
