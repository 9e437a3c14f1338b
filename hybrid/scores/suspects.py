"""Labels that a model thinks wrong, for somebody to look at.

A model that was not trained on a face has no reason to repeat a wrong label. What it says may be
wrong as well, and is more often so for faces of which it has seen few; so this is a list to look
through, not one to delete.
"""

import csv
import dataclasses
import io
from typing import Any

import numpy as np

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
        same band; of a gender the probability of the other one.
    """

    id: str
    what: str
    label: str
    predicted: str
    suspicion: float


def find(rows: Rows) -> list[Suspect]:
    """The labels of evaluated examples that look wrong, the most suspected first, ages first."""
    low, high = outcomes.age_bounds(rows)
    predicted, probability = rows['predicted_age'], rows['female_probability']
    error = outcomes.absolute_age_error(predicted, low, high)
    known = ~np.isnan(error)
    times = np.full(len(error), np.nan)
    edges = intervals.joined_edges(predicted[known])
    band = np.digitize(predicted, edges)
    for k in range(len(edges) + 1):
        if (inside := known & (band == k)).any():
            times[inside] = error[inside] / max(float(np.median(error[inside])), _LEAST_USUAL)
    other = np.where(rows['gender'] == 1, 1 - probability, probability)
    other = np.where(rows['gender'] < 0, np.nan, other)
    found = []
    for k in np.argsort(-times, kind='stable'):
        if times[k] >= LARGEST_ERROR:
            ends = (f'{low[k]:g}', f'{high[k]:g}')
            label = f'{ends[0]}+' if np.isinf(high[k]) else '-'.join(dict.fromkeys(ends))
            entry = (str(rows['id'][k]), 'age', label, f'{predicted[k]:.1f}', float(times[k]))
            found.append(Suspect(*entry))
    for k in np.argsort(-other, kind='stable'):
        if other[k] > 1 - LEAST_PROBABILITY:
            gender = rows['gender'][k]
            names = outcomes.GENDERS[gender], outcomes.GENDERS[1 - gender]
            found.append(Suspect(str(rows['id'][k]), 'gender', *names, float(other[k])))
    return found


def to_csv(suspects: list[Suspect]) -> str:
    """A table of them, with their attributes as columns."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(Suspect)]
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(names)
    for suspect in suspects:
        cells: dict[str, Any] = dataclasses.asdict(suspect)
        writer.writerow((cells | {'suspicion': f'{suspect.suspicion:.3f}'}).values())
    return text.getvalue()
