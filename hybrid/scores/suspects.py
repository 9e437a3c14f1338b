"""Labels that a model thinks wrong, for somebody to look at.

A model that was not trained on a face has no reason to repeat a wrong label. What it says may be
wrong as well, and is more often so for faces of which it has seen few; so this is a list to look
through, not one to delete.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from hybrid import files
from hybrid.scores import intervals, outcomes
from hybrid.scores.rows import Rows

# An age is suspected from so many usual errors on, a gender below such a probability.
LARGEST_ERROR = 5.0
LEAST_PROBABILITY = 0.05
_LEAST_USUAL = 1.0  # Years: labels are of whole ones.


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A label that looks wrong.

    Attributes:
      id: The example's.
      what: 'age' or 'gender'.
      label: Of the dataset: years, a range of years, or a gender.
      predicted: By the model: years or a gender.
      suspicion: Of an age its error over the median error of the faces with a predicted age in the
        same band, but for those inside of a range; of a gender the probability of the other one.
    """

    id: str
    what: str
    label: str
    predicted: str
    suspicion: float


def find(tables: Sequence[Rows]) -> list[Suspect]:
    """The labels of evaluated examples that look wrong, ages first, the most suspected first."""
    found = [suspect for rows in tables for suspect in (*_ages(rows), *_genders(rows))]
    return sorted(found, key=lambda one: (one.what, -one.suspicion))


def _ages(rows: Rows) -> Iterator[Suspect]:
    low, high = outcomes.age_bounds(rows)
    predicted = rows['predicted_age']
    error = outcomes.absolute_age_error(predicted, low, high)
    known = ~np.isnan(error)
    edges = intervals.joined_edges(predicted[known])
    band = np.digitize(predicted, edges)
    for number in np.unique(band[known]):
        inside = known & (band == number)
        # Most ranges are met: their zeros would make any other error look large.
        errors = error[inside & ((error > 0) | (low == high))]
        times = error / max(float(np.median(errors)) if errors.size else 0.0, _LEAST_USUAL)
        for k in np.flatnonzero(inside & (times >= LARGEST_ERROR)):
            label = outcomes.age_text(low[k], high[k])
            yield Suspect(str(rows['id'][k]), 'age', label, f'{predicted[k]:.1f}', float(times[k]))


def _genders(rows: Rows) -> Iterator[Suspect]:
    gender, probability = rows['gender'], rows['female_probability']
    other = np.where(gender == 1, 1 - probability, probability)
    for k in np.flatnonzero((gender >= 0) & (other > 1 - LEAST_PROBABILITY)):
        names = outcomes.GENDERS[gender[k]], outcomes.GENDERS[1 - gender[k]]
        yield Suspect(str(rows['id'][k]), 'gender', *names, float(other[k]))


def to_csv(suspects: list[Suspect]) -> str:
    """A table of them, with their attributes as columns."""
    names = [field.name for field in dataclasses.fields(Suspect)]
    rows = map(dataclasses.astuple, suspects)
    return files.to_csv(names, *((*row[:-1], f'{row[-1]:.3f}') for row in rows))
