"""What a run's validation split says of its predictions: how far off ages are, how sure genders.

It is fitted whenever a run's own validation split is evaluated, as at the end of a training, and
kept in calibration.json of the workdir. Evaluations of other splits, and predictions, use it.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.data import split_names
from hybrid.runs import dataset_record, fitted, member_weights, trained, workdir
from hybrid.runs.trained import Trained
from hybrid.scores import calibration, combination, intervals
from hybrid.scores.intervals import Intervals
from hybrid.scores.rows import Rows
from hybrid.training import groups

FILE = 'calibration.json'
# Keys of `config.evaluate` that change what is predicted, and so what was fitted.
PREDICTING = ('flip_average', 'scales', 'resolutions', 'age_estimate')
_NO_WIDTH = (
    "config.evaluate.interval_errors='scaled' needs a head that predicts a distribution of age "
    "(config.model.head.age other than 'regression'); 'absolute' and 'auto' do not"
)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was fitted on validation.

    Attributes:
      temperature: By which logits of gender are divided.
      absolute: Prediction intervals by errors in years; None of a run without ages.
      scaled: Those by errors in units of the predicted width; None if no width is predicted.
    """

    temperature: float = 1.0
    absolute: Intervals | None = None
    scaled: Intervals | None = None

    @property
    def fingerprint(self) -> str:
        """Names the calibration by a hash of all that was fitted."""
        return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """A dict for a JSON file, from which `find` makes the same calibration."""
        return {
            'temperature': self.temperature,
            'absolute': self.absolute and self.absolute.to_json(),
            'scaled': self.scaled and self.scaled.to_json(),
        }

    def intervals(self, settings: ConfigDict) -> Intervals | None:
        """The intervals that `config.evaluate` asks for, None if it asks for none.

        Raises:
          ValueError: when it asks for scaled ones, but the model predicts no width.
        """
        if not settings.interval_level:
            return None
        kind = settings.interval_errors
        if kind == 'scaled' and self.scaled is None and self.absolute is not None:
            raise ValueError(_NO_WIDTH)
        return self.absolute if kind == 'absolute' or self.scaled is None else self.scaled

    def apply(
        self, columns: Mapping[str, np.ndarray], settings: ConfigDict
    ) -> dict[str, np.ndarray]:
        """What changes of predictions, and what is added to them.

        Args:
          columns: `predicted_age` [N], `female_probability` [N] and others, from which what is not
            predicted may be missing.
          settings: `config.evaluate`.

        Returns:
          `female_probability` [N], if it is predicted, and `age_low` and `age_high` [N] in years,
          if there are intervals.
        """
        changed: dict[str, np.ndarray] = {}
        if 'female_probability' in columns and settings.calibrate_gender:
            changed['female_probability'] = calibration.at_temperature(
                columns['female_probability'], self.temperature
            )
        if 'predicted_age' in columns and (found := self.intervals(settings)):
            ends = found(
                columns['predicted_age'], columns.get('age_width'), settings.interval_level
            )
            changed |= dict(zip(('age_low', 'age_high'), ends, strict=True))
        return changed


def apply_to_rows(found: Calibration | None, rows: Rows, settings: ConfigDict) -> Rows:
    """Rows with what a calibration says of them; the same if there is none."""
    return rows.replace(found.apply(rows, settings)) if found else rows


def find(
    models: Sequence[Trained],
    weights: combination.Weights | None,
    folder: pathlib.Path | None = None,
) -> Calibration | None:
    """Reads what an evaluation of the validation split has left.

    Args:
      models: One, or several that are combined.
      weights: With which members are combined; None for equal ones.
      folder: Where to look first; after that it is the workdir, or the folder beside several.

    Returns:
      The calibration; None if there is none for these checkpoints, members, weights and views.

    Raises:
      ValueError: when the file is damaged.
    """
    own = member_weights.combined_folder([model.results for model in models])
    for place in dict.fromkeys((folder or own, own)):
        record = fitted.read(place / FILE, _source(models, weights))
        if record is None:
            continue
        try:
            of_kinds = {
                kind: Intervals.from_json(record[kind]) if record[kind] else None
                for kind in ('absolute', 'scaled')
            }
            return Calibration(float(record['temperature']), **of_kinds)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{place / FILE} holds no calibration ({error!r}); remove it and evaluate the '
                'validation split'
            ) from None
    return None


def find_or_fit(
    models: Sequence[Trained],
    rows: Rows,
    split: str,
    other: bool,
    members: Sequence[int],
    weights: combination.Weights | None,
    folder: pathlib.Path,
) -> Calibration | None:
    """Finds the calibration, or on the run's own validation split fits it and keeps it.

    Whatever flags call the validation split, it is that of the training: intervals that were fitted
    on what was trained on would be too narrow, and on the test split nobody could test them. Of
    several datasets it is fitted to the validation splits of all together.

    Args:
      models: One, or several that are combined.
      rows: What they predict of a split, not calibrated, with the labels.
      split: The split.
      other: Whether it is one of another dataset than those that they were trained on.
      members: From `predictions.predict_members`.
      weights: With which members are combined.
      folder: Where to look first, and to write.
    """
    validation = fitted.validation_split(models[0])
    if other or not validation or not split_names.same(split, validation):
        return find(models, weights, folder)
    columns: Mapping[str, np.ndarray] = rows.without_leaks()
    if 'datasets' in dataset_record.load(models[0].folder):
        # The evaluation of another one of them may have fitted it already.
        kept = find(models, weights, folder)
        # To predict takes all processes, so all of them have to agree.
        if not devices.any_process(kept is None):
            return kept
        predicted, labels = member_weights.predict_validation(models, members)
        if members:
            estimate = models[0].config.evaluate.age_estimate
            predicted = combination.combine_known(predicted, weights, estimate)
        columns = predicted | labels
    found = fit(columns)
    if devices.is_main_process():
        fitted.write(folder / FILE, _source(models, weights), **found.to_json())
    return found


def fit(columns: Mapping[str, np.ndarray]) -> Calibration:
    """Fits what there are labels for.

    Args:
      columns: `age`, `gender`, `predicted_age` and `female_probability` [N], maybe `age_width`.
    """
    predicted = columns['predicted_age']
    temperature = calibration.fit_temperature(columns['female_probability'], columns['gender'])
    width = columns.get('age_width')
    absolute = intervals.fit(columns['age'], predicted)
    scaled = None if width is None else intervals.fit(columns['age'], predicted, width)
    return Calibration(temperature, absolute, scaled)


def why_no_intervals(models: Sequence[Trained], found: Calibration | None) -> list[str]:
    """A line that says why predictions have no intervals, or intervals that say nothing.

    There is none if they have intervals, or need none.
    """
    settings, validation = models[0].config.evaluate, fitted.validation_split(models[0])
    level = settings.interval_level
    if not level or 'age' not in trained.predicted(models):
        return []
    if not validation and found is None:
        return ['ages have no intervals: the training had no validation split to fit them on']
    if found is None:
        return [
            f'ages have no intervals yet: --mode=evaluate --split={validation} with the same '
            'flags, but without --output, fits them'
        ]
    asked = found.intervals(settings)
    if asked is None:
        return [
            f'ages have no intervals: {validation} has fewer than {intervals.SMALLEST} exact ages'
        ]
    endless = [len(x) for x in asked.errors if np.isinf(intervals.quantile(x, level))]
    if endless:
        return [
            f'some intervals are 0 to 125 years: {100 * level:g} % takes more than the '
            f'{min(endless):,} errors of a band; lower config.evaluate.interval_level'
        ]
    return []


def check_errors(config: ConfigDict, learnt: Sequence[str]) -> None:
    """Checks before a training that the intervals can be made that are asked for after it.

    Args:
      config: The config of the training.
      learnt: From `dataset_record.learnt`.

    Raises:
      ValueError: when they are to be scaled by a width that not every member predicts.
    """
    settings = config.evaluate
    if 'age' not in learnt or not settings.interval_level or settings.interval_errors != 'scaled':
        return
    if any(group.config.model.head.age == 'regression' for group in groups.all_groups(config)):
        raise ValueError(_NO_WIDTH)


def _source(models: Sequence[Trained], weights: combination.Weights | None) -> dict[str, Any]:
    members = [number for number in trained.member_numbers(models) if number is not None]
    settings = models[0].config.evaluate
    views = {key: settings[key] for key in PREDICTING if key in settings}
    # Each model predicts with its own settings; of the others only what flags have changed is said.
    keys = tuple(f'evaluate.{key}' for key in PREDICTING)
    others = [workdir.overridden(model.folder, model.config, keys) for model in models[1:]]
    if any(others):
        views['others'] = others
    of_members = {} if weights is None else {'weights': member_weights.to_lists(weights)}
    return fitted.source(models, members) | views | of_members
