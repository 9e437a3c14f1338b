"""Faces to predictions: pads them to whole batches, compiles, and combines the members."""

import threading
from collections.abc import Sequence

import numpy as np

from hybrid import devices
from hybrid.runs import calibration, face_ranges, trained
from hybrid.scores import combination

# On a CPU so many faces a device are about as fast as more, and take less memory.
_MOST_ON_CPU = 32


def batch_sizes(batch_size: int) -> list[int]:
    """The batch sizes that predictors are compiled for, up to `config.evaluate.batch_size`.

    There are several, so that a lone face does not wait for the arithmetic of a whole batch.

    Raises:
      ValueError: when the devices do not divide the batch size.
    """
    devices.check_batch_size(batch_size, 'config.evaluate.batch_size')
    count = devices.device_count()
    most = min(batch_size, _MOST_ON_CPU * count) if devices.on_cpu() else batch_size
    return sorted({min(most, faces * count) for faces in (1, 8, 32)} | {most})


class Predictor:
    """Predicts age and gender of faces with one model, or with several that are combined.

    Several threads may call it; they wait for each other.

    Args:
      models: One, or several to be combined.
      weights: With which members are combined; None for equal ones.
      calibrated: What validation says of the predictions; None leaves them as they are.

    Attributes:
      face_sizes: Side R in pixels at which each model wants a face.
      most: The largest number of faces that one call takes.
      known_faces: The ranges of the faces that the first model was trained on.
      unsure_below: The probability below which the likelier gender is not named.

    Raises:
      ValueError: when the devices do not divide the batch size.
    """

    def __init__(
        self,
        models: Sequence[trained.Trained],
        weights: combination.Weights | None = None,
        calibrated: calibration.Calibration | None = None,
    ):
        self._models = models
        self._calibrated = calibrated
        self._settings = models[0].config.evaluate
        self.unsure_below = self._settings.unsure_below
        self._sizes = batch_sizes(models[0].config.evaluate.batch_size)
        kept = np.array([number is not None for number in trained.member_numbers(models)])
        counts = [len(model.learner.members) for model in models]
        predicting = {
            kind: np.repeat([kind in model.predicts for model in models], counts)
            for kind in trained.KINDS
        }
        # Which count, of the members that predict a kind.
        self._kept = {kind: kept[which] for kind, which in predicting.items()}
        self._weights = weights and weights.of(*(which[kept] for which in predicting.values()))
        self._compiled: set[int] = set()
        self._columns: dict[str, tuple[int, ...]] = {}
        self._lock = threading.Lock()
        self.face_sizes = [model.config.data.resize_size for model in models]
        self.most = self._sizes[-1]
        self.known_faces = face_ranges.load(models[0].folder)

    def prepare(self, count: int) -> dict[str, tuple[int, ...]]:
        """Compiles the batch size that suits so many faces, unless that was done before.

        Later calls take whatever size is compiled before they compile one of their own. So two
        predictors that were prepared alike give the same numbers to the last bit.

        Returns:
          The names of the columns of a prediction, and the shape of what each has for one face: ()
          for a number.
        """
        count = min(max(count, 1), self.most)
        size = next(size for size in self._sizes if size >= count)
        if size not in self._compiled or not self._columns:  # Another thread may be at it.
            faces = [np.zeros((count, r, r, 3), np.uint8) for r in self.face_sizes]
            predicted = self._predict(faces, size)
            self._columns = {name: column.shape[1:] for name, column in predicted.items()}
        return self._columns

    def __call__(self, faces: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Predicts faces.

        Args:
          faces: For each model uint8 [B, R, R, 3], the same B faces, at most `most`.

        Returns:
          The columns of `eval_step.create_predict_step` but for `index`: `predicted_age` [B] in
          years and `female_probability` [B], float32, and others; of several members those of
          `combination.combine`, and those of `Calibration.apply`. What the trainings had no labels
          of is left out.
        """
        fitting = [size for size in self._sizes if size >= len(faces[0])]
        return self._predict(
            faces, next((size for size in fitting if size in self._compiled), fitting[0])
        )

    def _predict(self, faces: Sequence[np.ndarray], size: int) -> dict[str, np.ndarray]:
        count = len(faces[0])
        index = np.arange(size, dtype=np.int32)
        of_models = []
        with self._lock:
            for model, own in zip(self._models, faces, strict=True):
                padded = np.zeros((size, *own.shape[1:]), np.uint8)
                padded[:count] = own
                batch = devices.shard_batch({'image': padded, 'index': index})
                rows = devices.gather_rows([model.learner.predict_step(model.variables, batch)])
                order = np.argsort(rows.pop('index'))[:count]
                of_models.append(
                    {
                        name: column[order]
                        for name, column in rows.items()
                        if trained.kind_of(name) in model.predicts
                    }
                )
            self._compiled.add(size)
        columns = self._combine(of_models)
        if self._calibrated:
            columns |= self._calibrated.apply(columns, self._settings)
        return columns

    def _combine(self, of_models: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Combines columns, for each model [B, ...], or of an ensemble [B, ..., K]."""
        if len(self._models) == 1 and not self._models[0].learner.is_ensemble:
            return of_models[0]

        def join(name: str) -> np.ndarray | None:
            kind = trained.kind_of(name)
            columns = []
            for model, predicted in zip(self._models, of_models, strict=True):
                if kind not in model.predicts:
                    continue
                if name not in predicted:
                    return None  # What only some predict cannot be combined.
                column = predicted[name]
                columns.append(column if model.learner.is_ensemble else column[..., None])
            if len({column.shape[:-1] for column in columns}) != 1:
                return None
            return np.concatenate(columns, axis=-1)[..., self._kept[kind]]

        count = len(next(iter(of_models[0].values())))
        ages, female = join('predicted_age'), join('female_probability')
        combined = combination.combine(
            np.empty((count, 0)) if ages is None else ages,
            np.empty((count, 0)) if female is None else female,
            self._weights,
            join('age_width'),
            join('age_probabilities'),
            self._models[0].config.evaluate.age_estimate,
        )
        kinds = trained.predicted(self._models)
        return {n: column for n, column in combined.items() if trained.kind_of(n) in kinds}
