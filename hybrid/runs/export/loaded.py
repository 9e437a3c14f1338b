"""An export that is loaded: it predicts as `runs.model.Model` does, by onnxruntime, without JAX.

To find faces in photographs it needs OpenCV, to predict crops NumPy and Pillow alone.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from hybrid import files
from hybrid.photos.given import (
    ImageLike,
    check_array,
    file_name,
    naming,
    numbered,
    several,
)
from hybrid.photos.rows import Face, Row
from hybrid.runs.export import predict
from hybrid.runs.face_rows import Predictions, predict_rows

if TYPE_CHECKING:
    from hybrid.photos.detection import Detector

# Outputs that columns of predictions have other names for.
_COLUMNS = {'age': 'predicted_age'}


def holds_export(path: str | os.PathLike) -> bool:
    """Whether a path is a folder with an export, whole or not, or a file in one."""
    path = files.expanded(path)
    folder = path.parent if path.is_file() else path
    names = (predict.DESCRIPTION, predict.MODEL)
    return not (folder / 'config.json').exists() and any((folder / n).is_file() for n in names)


class Exported:
    """The model of an export; `hybrid.load` makes one of its folder.

    Several threads may use it at once.

    Args:
      path: The folder, or an ONNX file in it, such as `model_fp16.onnx`.

    Attributes:
      folder: The folder.
      description: What its model.json says.
      predicts: What the trainings had labels of, 'age', 'gender' or both.

    Raises:
      FileNotFoundError, ValueError: when it is no export, or a damaged one.
      RuntimeError: when onnxruntime is not installed.
    """

    def __init__(self, path: str | os.PathLike):
        path = files.expanded(path)
        if path.is_file() and path.suffix != '.onnx':
            raise ValueError(f'{path} is a file of an export; name the folder, {path.parent}')
        self.folder, name = (path.parent, path.name) if path.is_file() else (path, predict.MODEL)
        self._runner = predict.Runner(self.folder, name)
        self.description = self._runner.description
        outputs = self.description['outputs']
        kinds = {'age': 'age', 'gender': 'female_probability'}
        self.predicts = tuple(kind for kind, name in kinds.items() if name in outputs)
        self._warned = False
        # What `face_rows.predict_rows` wants to know of a predictor.
        self.face_sizes = [self._runner.size]
        self.most = predict.BATCH
        self.unsure_below: float = self.description['unsure_below']
        self.known_faces: dict[str, list[float]] | None = None
        if _has_opencv():
            self.known_faces = self.description.get('known_faces', {})

    def __repr__(self) -> str:
        return f'Exported({self.folder})'

    def __call__(self, faces: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """As `runs.predictor.Predictor`, whose columns these are; `faces` has one entry."""
        return {_COLUMNS.get(name, name): x for name, x in self._runner(faces[0]).items()}

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> Predictions:
        """Predicts age and gender for aligned crops of one face each; see `Model.predict`."""

        def read() -> Iterator[tuple[Row, Face]]:
            for place, image in numbered(several(images)):
                with naming(place, image):
                    pixels = _read(image)
                row = {'path': file_name(image), 'image': place, 'face': 0, 'x': 0, 'y': 0}
                size = {'width': pixels.shape[1], 'height': pixels.shape[0]}
                yield row | size, (predict.resize(pixels, self._runner.size),)

        return self._predict(read())

    def predict_photos(
        self,
        photos: ImageLike | Iterable[ImageLike],
        detector: 'str | os.PathLike | Detector | None' = None,
    ) -> Predictions:
        """Finds all faces of photographs, and predicts each; see `Model.predict_photos`.

        Raises:
          RuntimeError: when OpenCV, or what else finding faces takes, is not installed.
        """
        try:
            from hybrid import default_config
            from hybrid.datasets import geometry
            from hybrid.photos.detection import create_detector
            from hybrid.photos.faces import read_faces_or_error
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f'to find faces in photographs all of hybrid has to be installed ({error}); '
                'predict takes crops'
            ) from None
        if detector is None or isinstance(detector, str | os.PathLike):
            settings = default_config.get_config().detect
            # Older exports have none, and newer ones may have keys that are not known here.
            own = self.description.get('detect', {})
            settings.update({name: own[name] for name in own if name in settings})
            path = settings.model if detector is None else os.fspath(detector)
            detector = create_detector(settings, path)
        elif not callable(getattr(detector, 'detect', None)):
            raise TypeError(f'detector={detector!r} has no method detect; see FaceDetector')
        if not self._warned:
            geometry.warn_of_photographs(self.folder, self.description['faces'])
            self._warned = True
        return self._predict(
            (row | {'image': place}, face)
            for place, image in numbered(several(photos))
            for row, face in read_faces_or_error(image, detector, self.face_sizes)
        )

    def _predict(self, found: Iterable[tuple[Row, Face | None]]) -> Predictions:
        shapes = {
            _COLUMNS.get(name, name): tuple(shape)
            for name, shape in self.description['outputs'].items()
        }
        return Predictions.from_rows(list(predict_rows(found, self)), shapes)


def _read(image: Any) -> np.ndarray:
    """Upright RGB, uint8 [H, W, 3]; raises ValueError with the reason in one line."""
    if isinstance(image, str | os.PathLike):
        return predict.read_file(image)
    if isinstance(image, Image.Image):
        try:
            return predict.to_rgb(image)
        except ValueError:
            raise
        except Exception as error:  # The file behind it is decoded only now; AVIF raises others.
            raise ValueError(f'cannot be decoded: {error}') from None
    pixels = check_array(image)
    if pixels.shape[2] == 4:
        return predict.to_rgb(Image.fromarray(pixels))
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _has_opencv() -> bool:
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True
