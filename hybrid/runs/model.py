"""A model that is loaded: predicts images of all kinds, from any thread."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import NoReturn

from hybrid import devices
from hybrid.datasets.threads import map_in_threads
from hybrid.photos.detection import Detector, FaceDetector, create_detector
from hybrid.photos.faces import read_faces, read_faces_or_error
from hybrid.photos.given import ImageLike, naming, numbered, several
from hybrid.runs import calibration, dataset_record, member_weights, trained
from hybrid.runs.export import folder
from hybrid.runs.face_rows import FACES_IN_A_PHOTOGRAPH, Predictions, predict_rows
from hybrid.runs.predictor import Predictor
from hybrid.runs.trained import Trained

# Of models and a folder; returns the folder.
Exporter = Callable[[Sequence[Trained], str | os.PathLike], pathlib.Path]
# JAX hangs in a process that was forked after it had started.
_OTHER_PROCESS = (
    'this model belongs to the process that loaded it: call hybrid.load in each process, started '
    "by multiprocessing.get_context('spawn'), or load an export in each"
)


class Model:
    """A trained model, or several that are combined; `hybrid.load` makes one.

    Several threads may use it at once. They wait for each other while the model computes, not while
    images are read. Other processes cannot use it.

    Args:
      models: One, or several to be combined.
      exporter: Writes an export of models into a folder; None for `export.folder.write`.

    Attributes:
      models: As given.
      config: The config of the first workdir, with overrides.
      folders: The workdirs.
      predicts: What the trainings had labels of, 'age', 'gender' or both. The rest is not
        predicted: it is NaN, and an empty gender.
    """

    def __init__(self, models: Sequence[Trained], exporter: Exporter | None = None):
        self.models = tuple(models)
        self._exporter = exporter or folder.write
        self.config = models[0].config
        self.folders = [model.folder for model in models]
        self.predicts = trained.predicted(models)
        self._process = os.getpid()
        self._predictor: Predictor | None = None
        self._warned = False
        self._detectors: dict[str, FaceDetector] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        parts = [
            f'{model.folder}{"" if model.member is None else f"#{model.member}"} '
            f'({model.checkpoint} checkpoint, step {model.step})'
            for model in self.models
        ]
        return f'Model({", ".join(parts)})'

    def __reduce__(self) -> NoReturn:
        raise TypeError(_OTHER_PROCESS)

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> Predictions:
        """Predicts age and gender for aligned crops of one face each, such as UTKFace's.

        Of a crop that is not square the middle is taken. It is resized and cropped as the images of
        the training were. For whole photographs there is `predict_photos`.

        Args:
          images: One image, or any number: a list, an iterator, or an array [N, H, W, C]. An image
            is a path; a Pillow image; or uint8 [H, W] (grey), [H, W, 3] (RGB) or [H, W, 4] (RGBA,
            shown on white). They may be of different kinds and sizes.

        Returns:
          The predictions, one for each image in their order. One image gives a result of length 1.

        Raises:
          ValueError: when an image cannot be read, naming its path or its place from 0.
          TypeError: when something is no kind of image.
          RuntimeError: in another process than the one that loaded the model.
        """
        predictor = self._get_predictor()

        def read(numbered: tuple[int, ImageLike]) -> list:
            place, image = numbered
            with naming(place, image):
                return [
                    (row | {'image': place}, face)
                    for row, face in read_faces(image, None, predictor.face_sizes)
                ]

        return self._predict(images, read, 1)

    def predict_photos(
        self,
        photos: ImageLike | Iterable[ImageLike],
        detector: str | os.PathLike | Detector | None = None,
    ) -> Predictions:
        """Finds all faces of photographs, and predicts age and gender for each.

        Args:
          photos: As for `predict`.
          detector: The file of the face detector YuNet, by default `config.detect.model`; or
            anything else that is a `hybrid.photos.detection.Detector`.

        Returns:
          The predictions, one for each face that was found. A photograph that cannot be read, or
          has no face, stops nothing: its place and the reason are in `errors`, and among
          `to_rows()`.

        Raises:
          FileNotFoundError: when the detector's file is not there; says where to get it.
          TypeError: when something is no kind of image.
          RuntimeError: in another process than the one that loaded the model.
        """
        predictor = self._get_predictor()
        finder = self._get_detector(detector)
        with self._lock:
            folders, self._warned = [] if self._warned else self.folders, True
        for run in folders:
            dataset_record.warn_of_photographs(run)

        def read(numbered: tuple[int, ImageLike]) -> list:
            place, image = numbered
            return [
                (row | {'image': place}, face)
                for row, face in read_faces_or_error(image, finder, predictor.face_sizes)
            ]

        return self._predict(photos, read, FACES_IN_A_PHOTOGRAPH)

    def export(self, output: str | os.PathLike) -> pathlib.Path:
        """Exports the model for use without this program, as `--mode=export` does.

        Args:
          output: The folder to make, or an export that is to be replaced. `hybrid.load` takes it.

        Returns:
          The folder.

        Raises:
          RuntimeError: when the package onnx is not installed.
          ValueError, OSError: when nothing may be written there, or a part of the model cannot be
            exported.
        """
        self.check_process()
        return self._exporter(self.models, output)

    def _predict(
        self, images: ImageLike | Iterable[ImageLike], read: Callable, faces: int
    ) -> Predictions:
        predictor = self._get_predictor()
        given = several(images)
        count = len(given) if isinstance(given, Sized) else predictor.most
        predicted = predictor.prepare(faces * count)
        of_images = map_in_threads(read, numbered(given), self.config.data.num_threads, ahead=2)
        with contextlib.closing(of_images):
            found = (face for of_image in of_images for face in of_image)
            return Predictions.from_rows(list(predict_rows(found, predictor)), predicted)

    def check_process(self) -> None:
        """Raises RuntimeError in another process than the one that loaded the model."""
        if os.getpid() != self._process:
            raise RuntimeError(_OTHER_PROCESS)

    def _get_predictor(self) -> Predictor:
        self.check_process()
        with self._lock:
            if self._predictor is None:
                if devices.process_count() > 1:
                    raise ValueError('prediction runs in one process, not in several together')
                weights = member_weights.find(self.models)
                calibrated = calibration.find(self.models, weights)
                self._predictor = Predictor(self.models, weights, calibrated)
            return self._predictor

    def _get_detector(self, detector: str | os.PathLike | Detector | None) -> Detector:
        if detector is not None and not isinstance(detector, str | os.PathLike):
            if not callable(getattr(detector, 'detect', None)):
                raise TypeError(f'detector={detector!r} has no method detect; see FaceDetector')
            return detector
        settings = self.config.detect
        path = settings.model if detector is None else os.fspath(detector)
        with self._lock:
            if path not in self._detectors:
                self._detectors[path] = create_detector(settings, path)
            return self._detectors[path]
