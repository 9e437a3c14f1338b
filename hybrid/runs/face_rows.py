"""Predictions of faces: the rows of `--mode=predict`, and the arrays that a `Model` returns."""

import dataclasses
import pathlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

# Nothing here may import JAX or OpenCV: exports are used without them.
from hybrid.photos.rows import COLUMNS, LANDMARKS, Face, Row
from hybrid.runs.export import predict
from hybrid.scores.outcomes import gender_name

# Of each face. `age` is in years, `gender` is the likelier one, 'male' or 'female', or 'unsure'.
PREDICTED = ('age', 'gender', 'female_probability')
# Photographs may have several faces; so many for each are prepared for.
FACES_IN_A_PHOTOGRAPH = 8
# So many rows for each face that a batch holds wait for it to fill: where few photographs have a
# face, rows are written before it has.
_MOST_WAITING = 4
NOT_FINITE = 'the model predicts no finite number'

# How many faces of the batch, and how many rows, there were up to a row: see predict_placed_rows.
Place = tuple[int, int]


class AnyPredictor(Protocol):
    """What predicts faces: a `predictor.Predictor`, or an export, see `export.loaded`."""

    @property
    def face_sizes(self) -> Sequence[int]:
        """Side R in pixels at which each model wants a face."""

    @property
    def most(self) -> int:
        """The largest number of faces that one call takes."""

    @property
    def known_faces(self) -> Mapping[str, Sequence[float]] | None:
        """The ranges of the faces of the training; None where nobody can measure faces."""

    @property
    def unsure_below(self) -> float:
        """The probability below which the likelier gender is not named."""

    def __call__(self, faces: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Predicts faces, for each model uint8 [B, R, R, 3]; see `Predictor.__call__`."""


def columns(predicted: Mapping[str, tuple[int, ...]], videos: bool = False) -> tuple[str, ...]:
    """The columns of a table of predictions.

    Args:
      predicted: From `Predictor.prepare`. The columns beyond `PREDICTED` that have one number for a
        face, such as `age_std` (years) and `gender_agreement` of an ensemble, stand before the last
        two, `unusual` and `error`.
      videos: Whether there may be videos, whose rows say which `frame` they are of (from 0), and at
        what `time` it is shown (seconds).
    """
    others = [name for name, shape in _others(predicted).items() if not shape]
    path, *where = COLUMNS
    return (
        path,
        *(('frame', 'time') if videos else ()),
        *where,
        *PREDICTED,
        *others,
        'unusual',
        'error',
    )


def is_table(path: pathlib.Path) -> bool:
    """Whether a file begins like a table of predictions, CSV or JSON lines, or is empty.

    That may be one of an export's predict.py.
    """
    with path.open('rb') as file:
        first = file.readline(1 << 16)
    return (
        not first
        or all(name in first for name in (b'path', b'unusual', b'error'))
        or first.startswith(','.join(predict.COLUMNS).encode())
    )


def _others(predicted: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    known = ('predicted_age', *PREDICTED)
    return {name: shape for name, shape in predicted.items() if name not in known}


def predict_rows(
    found: Iterable[tuple[Row, Face | None]], predictor: AnyPredictor
) -> Iterator[Row]:
    """Fills in the predictions, `predictor.most` faces at a time; keeps the order.

    Args:
      found: From `faces.read_faces`.
      predictor: What predicts.

    Yields:
      The rows, with what is predicted as Python numbers (and arrays, of what is more than a number
      for a face); or with an `error` instead of it where the model predicts no finite number.
    """
    return (row for row, _ in predict_placed_rows(found, predictor))


def predict_placed_rows(
    found: Iterable[tuple[Row, Face | None]],
    predictor: AnyPredictor,
    place: Place = (0, 0),
) -> Generator[tuple[Row, Place]]:
    """As `predict_rows`, and says of each row where it stood, so that a later call can go on there.

    A face may get other last bits in another place of a batch. A call that goes on puts every face
    in the place that it would have had, so that its rows are those of a call that was not stopped.

    Args:
      found: From `faces.read_faces`: what comes after the row that had the `place`.
      predictor: What predicts.
      place: Where the last row before these stood.

    Yields:
      The rows as those of `predict_rows`, and the place of each.
    """
    most_waiting = _MOST_WAITING * predictor.most
    if not 0 < place[0] < predictor.most or place[1] >= most_waiting:
        place = (0, 0)  # After it the batch was done.
    faces_before, rows_before = place
    batch: list[tuple[Row, Face]] = [
        ({}, tuple(np.zeros((size, size, 3), np.uint8) for size in predictor.face_sizes))
        for _ in range(faces_before)
    ]
    waiting: list[tuple[Row, Place]] = []

    for row, face in found:
        if face is not None:
            batch.append((row, face))
        waiting.append((row, (len(batch), rows_before + len(waiting) + 1)))
        if len(batch) == predictor.most or rows_before + len(waiting) >= most_waiting:
            _predict_batch(batch, faces_before, predictor)
            batch.clear()
        if not batch:
            yield from waiting
            waiting.clear()
            faces_before = rows_before = 0
    _predict_batch(batch, faces_before, predictor)
    yield from waiting


def _predict_batch(batch: Sequence[tuple[Row, Face]], first: int, predictor: AnyPredictor) -> None:
    """Fills in the rows of a batch from the `first` on."""
    if first == len(batch):
        return
    for row, face in batch[first:]:
        where = min(row['width'], row['height']), row.pop(LANDMARKS, None)
        if predictor.known_faces is not None:
            from hybrid.photos import quality  # Which needs OpenCV.

            row['unusual'] = ', '.join(quality.unusual(face[0], predictor.known_faces, *where))
    of_models = zip(*(face for _, face in batch), strict=True)
    predicted = predictor([np.stack(images) for images in of_models])
    for place, (row, _) in enumerate(batch[first:], first):
        values = {name: column[place] for name, column in predicted.items()}
        if all(np.isfinite(value).all() for value in values.values()):
            # By way of text: the shortest number that is this float32.
            row |= {
                name: value if np.ndim(value) else float(str(value))
                for name, value in values.items()
            }
            if 'predicted_age' in row:
                row['age'] = row.pop('predicted_age')
            if 'female_probability' in row:
                row['gender'] = gender_name(row['female_probability'], predictor.unsure_below)
        else:
            row['error'] = NOT_FINITE


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """What a model says of N faces, in the order of the images, within one from left to right.

    Attributes:
      age: float32 [N], years, at least 0; NaN where the model predicts no finite number, and
        everywhere if the training had no ages.
      gender: str [N], 'male' or 'female', whichever is likelier; 'unsure' where its probability is
        below `config.evaluate.unsure_below`; '' where the model does not say, and everywhere if the
        training had no genders.
      female_probability: float32 [N]; NaN likewise.
      more: What else is predicted, float32 [N, ...] by name, each also an attribute: of an ensemble
        `age_std`, the standard deviation of its members' ages in years, and `gender_agreement`, the
        share of members whose own gender is the ensemble's; of a head that predicts distributions
        of age `age_width`, their standard deviation in years, and `age_probabilities` [N, years];
        where validation has told how far off ages are, `age_low` and `age_high`, the ends of the
        interval of `config.evaluate.interval_level`, in years.
      image: int [N], the place among the images that were given, from 0.
      path: str [N], the image's file; '' for one that came as pixels.
      face: int [N], the number of the face in its image, from the left, from 0.
      x, y, width, height: int [N], the face's box in pixels of the upright image as it is in its
        file; the whole image for crops.
      detection_score: float32 [N], 0..1; NaN for crops.
      turn: int [N], by how many degrees the image has to be turned clockwise for the face to be
        upright, or nearest to it: 0, 90, 180 or 270. Crops are taken as they are: 0.
      unusual: str [N], in which ways the face is far from those of the training, such as 'tiny,
        blurred', see `quality.unusual`; '' if in none, and everywhere of an export without OpenCV.
      errors: For each image without a face in these arrays, by its place: why.
    """

    age: np.ndarray
    gender: np.ndarray
    female_probability: np.ndarray
    more: Mapping[str, np.ndarray]
    image: np.ndarray
    path: np.ndarray
    face: np.ndarray
    x: np.ndarray
    y: np.ndarray
    width: np.ndarray
    height: np.ndarray
    detection_score: np.ndarray
    turn: np.ndarray
    unusual: np.ndarray
    errors: Mapping[int, str]
    _rows: Sequence[Row]

    @classmethod
    def from_rows(
        cls, rows: Sequence[Row], predicted: Mapping[str, tuple[int, ...]]
    ) -> 'Predictions':
        """Makes arrays of rows.

        Args:
          rows: From `predict_rows`, each also with the place of its `image`.
          predicted: From `Predictor.prepare`.
        """
        names = columns(predicted)
        found = [row for row in rows if 'face' in row]

        def array(name: str, dtype: Any, missing: Any, shape: tuple[int, ...] = ()) -> np.ndarray:
            values = [row.get(name) for row in found]
            values = [np.full(shape, missing) if value is None else value for value in values]
            return np.array(values, dtype).reshape(-1, *shape)

        return cls(
            **{name: array(name, np.float32, np.nan) for name in ('age', 'female_probability')},
            **{name: array(name, np.str_, '') for name in ('gender', 'path', 'unusual')},
            **{n: array(n, np.int64, 0) for n in ('image', 'face', 'x', 'y', 'width', 'height')},
            turn=array('turn', np.int64, 0),
            detection_score=array('detection_score', np.float32, np.nan),
            more={
                name: array(name, np.float32, np.nan, shape)
                for name, shape in _others(predicted).items()
            },
            errors={row['image']: row['error'] for row in rows if 'face' not in row},
            _rows=[{name: row.get(name) for name in (*names, 'image')} for row in rows],
        )

    def __len__(self) -> int:
        return len(self.age)

    def __repr__(self) -> str:
        shown = []
        for age, gender, female in zip(
            self.age[:3], self.gender[:3], self.female_probability[:3], strict=True
        ):
            parts = [f'{age:.1f} years'] if np.isfinite(age) else []
            parts += [f'{gender} ({female:.2f} female)'] if np.isfinite(female) else []
            shown.append(' '.join(parts) or 'no prediction')
        more = [f'and {len(self) - 3} more'] if len(self) > 3 else []
        errors = [f'errors: {len(self.errors)}'] if self.errors else []
        return f'<Predictions: {", ".join([*shown, *more, *errors]) or "no face"}>'

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.more})

    def __getattr__(self, name: str) -> np.ndarray:
        # Only for what is no field; `more` itself is missing while a copy is being made.
        if name != 'more' and name in self.more:
            return self.more[name]
        raise AttributeError(f'{name!r}: this model predicts no such thing')

    def to_rows(self) -> list[dict[str, Any]]:
        """The rows that `--mode=predict` writes: plain dicts of text, numbers and None.

        Each also has the place of its `image` among those that were given, from 0.
        There is a row for each face, and one for each image of `errors`, which has an `error`
        instead of a prediction.
        """
        return [dict(row) for row in self._rows]
