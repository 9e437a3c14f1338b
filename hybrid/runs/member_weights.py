"""The weights with which members are combined: fitted on validation, kept in the workdir."""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from hybrid import devices
from hybrid.data import parts, records, split_names
from hybrid.runs import dataset_record, fitted, leaks, predictions, trained, trained_on
from hybrid.runs.trained import Trained
from hybrid.scores import combination, rows
from hybrid.training import groups

NO_VALIDATION = (
    "config.ensemble.weights='validation' needs config.data.validation_split; uniform, the other "
    'choice, does not'
)
FILE = 'ensemble_weights.json'


def find(models: Sequence[Trained]) -> combination.Weights | None:
    """Finds the weights that an evaluation has left, if the config asks for any.

    Returns:
      The weights; None for one model, and for members that count the same.

    Raises:
      ValueError: when there are none for these checkpoints, or not of all members that count.
    """
    if models[0].config.ensemble.weights != 'validation':
        return None
    members = [number for number in trained.member_numbers(models) if number is not None]
    folder = combined_folder([model.results for model in models])
    weights = load(folder, fitted.source(models, members))
    if weights is None and (len(models) > 1 or models[0].learner.is_ensemble):
        raise ValueError(
            f"config.ensemble.weights='validation', but {folder / FILE} has none for this "
            'checkpoint and these settings; --mode=evaluate on any split with the same flags, but '
            'without --output, fits them (in Python hybrid.evaluate), and '
            "config.ensemble.weights='uniform' does without"
        )
    return weights


def find_or_fit(
    models: Sequence[Trained],
    builder: tfds.core.DatasetBuilder,
    split: str,
    labels: parts.Columns,
    predicted: Mapping[str, np.ndarray],
    members: Sequence[int],
    folder: pathlib.Path,
) -> combination.Weights | None:
    """Finds the weights in a folder, or fits them on validation and keeps them there.

    On the validation split itself they are always fitted anew.

    Args:
      models: Several, or one.
      builder: The prepared dataset that they were trained on; of several datasets any, because
        weights are fitted to the validation splits of all together.
      split: Its split that is evaluated.
      labels: Those of that split, from `leaks.mark`.
      predicted: What `predict_members` gives for that split.
      members: The numbers of the members, as `predict_members` gives them.
      folder: Where the weights are kept for other splits and for prediction.

    Returns:
      The weights; None for one model, and for members that count the same.

    Raises:
      ValueError: when there is no validation split, or other members predict it than this split.
    """
    if not members or models[0].config.ensemble.weights != 'validation':
        return None
    validation = fitted.validation_split(models[0])
    if not validation:
        raise ValueError(NO_VALIDATION)
    fitted_to = fitted.source(models, members)
    together = 'datasets' in dataset_record.load(models[0].folder)
    on_it = split_names.same(split, validation)
    found = None if on_it else load(folder, fitted_to)
    # To predict takes all processes, so all of them have to agree.
    if not devices.any_process(found is None):
        assert found is not None
        return found
    if together:
        predicted, labels = predict_validation(models, members)
    else:
        if not on_it:
            predicted = _predict(models, builder, validation, members)
            labels = records.read_columns(builder, validation)
            labels = leaks.mark(labels, builder, validation, models, other=False)
    predicted, labels = _without_leaks(predicted, labels)
    weights = combination.fit_weights(
        predicted['predicted_age'], predicted['female_probability'], labels
    )
    if devices.is_main_process():
        save(folder, fitted_to, weights)
    return weights


def check(config: ConfigDict) -> None:
    """Checks before a training that the weights can be fitted that are asked for after it.

    Raises:
      ValueError: when they are to be fitted, but there is no validation split.
    """
    fitted_ones = groups.is_ensemble(config) and config.ensemble.weights == 'validation'
    if fitted_ones and not config.data.validation_split:
        raise ValueError(NO_VALIDATION)


def _predict(
    models: Sequence[Trained],
    builder: tfds.core.DatasetBuilder,
    validation: str,
    members: Sequence[int],
) -> dict[str, np.ndarray]:
    predicted, found = predictions.predict_members(models, builder, validation)
    if found != list(members):
        raise ValueError(f'members {members} predict, but {found} predict {validation}')
    return predicted


def predict_validation(
    models: Sequence[Trained], members: Sequence[int]
) -> tuple[dict[str, np.ndarray], parts.Columns]:
    """Predicts the validation splits of all datasets of a run; labels come with them.

    Returns:
      Those columns of `predict_members` that `rows.OF_MODELS` declares, and distributions of age,
      of all splits one after the other, without what is left out of them and what leaks into them;
      their ids and labels.

    Raises:
      ValueError: when other members predict these splits.
    """
    split = fitted.validation_split(models[0])
    found = trained_on.open_validation(models[0].config, models[0].folder)
    predicted = [_predict(models, part.builder, split, members) for part in found]
    kept = [part.kept(split) for part in found]
    joined = {
        name: np.concatenate([x[name][places] for x, places in zip(predicted, kept, strict=True)])
        for name in (*rows.OF_MODELS, 'age_probabilities')
        if all(name in x for x in predicted)
    }
    labels = []
    for part, places in zip(found, kept, strict=True):
        # What the runs have seen that the models began with is marked, too.
        columns = leaks.mark(part.columns[split], part.builder, split, models, other=False)
        labels.append({name: column[places] for name, column in columns.items()})
    return _without_leaks(joined, parts.join_labels(labels))


def _without_leaks(
    predicted: Mapping[str, np.ndarray], labels: parts.Columns
) -> tuple[dict[str, np.ndarray], parts.Columns]:
    """Leaves out what the training has seen, on which errors are too small."""
    kept = ~labels['leak'] if 'leak' in labels else np.ones(len(labels['id']), bool)
    of_both = [{name: column[kept] for name, column in x.items()} for x in (predicted, labels)]
    return of_both[0], of_both[1]


def save(folder: pathlib.Path, source: dict[str, Any], weights: combination.Weights) -> None:
    """Writes ensemble_weights.json: the weights, and to which checkpoints they belong."""
    fitted.write(folder / FILE, source, weights=to_lists(weights))


def predictor(models: Sequence[Trained], weights: combination.Weights | None) -> dict[str, Any]:
    """Says what predicts, as evaluation.json does: the checkpoints, the weights, the settings."""
    of_members = {} if weights is None else {'weights': to_lists(weights)}
    return trained.sources(models) | of_members | models[0].config.evaluate.to_dict()


def to_lists(weights: combination.Weights) -> dict[str, list[float]]:
    """The weights as they are written to JSON files."""
    return {'age': weights.age.tolist(), 'gender': weights.gender.tolist()}


def load(folder: pathlib.Path, source: dict[str, Any]) -> combination.Weights | None:
    """Reads ensemble_weights.json; None if there is none, or it belongs to another checkpoint.

    Raises:
      ValueError: when it is damaged.
    """
    path = folder / FILE
    if (record := fitted.read(path, source)) is None:
        return None
    try:
        values = record['weights']
        age, gender = (np.array(values[head], np.float64) for head in ('age', 'gender'))
        if not age.shape == gender.shape == (len(source['members']),):
            raise ValueError(f'of {age.size} and {gender.size} members')
        return combination.Weights(age, gender)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} holds no weights ({error}); remove it and evaluate') from None


def combined_folder(folders: Sequence[pathlib.Path]) -> pathlib.Path:
    """Where the results of workdirs go: the only one, or a folder beside the first of several."""
    if len(folders) == 1:
        return folders[0]
    paths = [folder.resolve() for folder in folders]
    name = '+'.join(path.name for path in paths)
    # Other runs may have the same names, and a name may be longer than file systems allow.
    if len({path.parent for path in paths}) > 1 or len(name.encode()) > 200:
        digest = hashlib.sha256('\n'.join(map(str, paths)).encode()).hexdigest()[:8]
        name = f'{paths[0].name}+{len(paths) - 1}_more_{digest}'
    return folders[0].parent / name
