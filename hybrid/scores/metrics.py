"""The metrics of a split, NumPy in float64 over one row per example: what metrics.json holds.

Every share is between 0 and 1, every age and every age error is in years, a ratio 0/0 is NaN.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrid.scores.bootstrap import percentile_interval, resampled_means

Rows = dict[str, np.ndarray]
Scores = dict[str, float | int]

GENDERS = ('male', 'female')
# Lower edges of all groups but the first. Groups are half-open and predictions are not rounded: a
# prediction of 12.9 years is in five_bin's 0-12, one of 13.0 in 13-25, one of -1 in the first.
AGE_GROUPS = {
    'five_bin': (13, 26, 41, 61),
    'fairface9': (3, 10, 20, 30, 40, 50, 60, 70),
}
CUMULATIVE_SCORES = (3, 5, 10)
COLUMNS = (
    'id',
    'age',
    'gender',
    'predicted_age',
    'female_probability',
    'constant_age',
    'constant_gender',
)
# Of an ensemble: spread in years, share of members that agree, and the members' predictions. Of
# heads that predict distributions of age: their standard deviation in years.
ENSEMBLE_COLUMNS = re.compile(
    r'age_std|age_width|gender_agreement|member_\d+_(age|female_probability)'
)
SUBGROUP_SCORES = (
    'num_examples',
    'age/num_examples',
    'age/mae',
    'age/bias',
    'gender/num_examples',
    'gender/accuracy',
)


def age_group(age: np.ndarray, scheme: str) -> np.ndarray:
    """Index `[N]` of the age group in `AGE_GROUPS[scheme]` of ages in years `[N]`, not rounded."""
    return np.digitize(age, AGE_GROUPS[scheme])


def age_group_names(scheme: str) -> list[str]:
    """Names such as `0-12`, `13-25`, `61+`."""
    edges = (0, *AGE_GROUPS[scheme])
    closed = [f'{low}-{high - 1}' for low, high in itertools.pairwise(edges)]
    return [*closed, f'{edges[-1]}+']


def confusion_matrix(gender: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts `[2, 2]`, true by predicted, male first, of 0/1 arrays `[N]`."""
    return np.bincount(2 * gender + predicted, minlength=4).reshape(2, 2)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise ratio, NaN where the denominator is 0."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0)


def _age_scores(age: np.ndarray, predicted: np.ndarray, intervals: bool) -> Scores:
    error = predicted - age
    columns = {'mae': np.abs(error), 'mse': error**2, 'bias': error}
    for years in CUMULATIVE_SCORES:
        columns[f'cs{years}'] = np.abs(error) <= years
    for scheme in AGE_GROUPS:
        same = age_group(predicted, scheme) == age_group(age, scheme)
        columns[f'group_accuracy_{scheme}'] = same
    means = {name: values.mean() if len(age) else np.nan for name, values in columns.items()}
    means['rmse'] = np.sqrt(means['mse'])
    scores: Scores = {'num_examples': len(age), **{k: float(v) for k, v in means.items()}}
    if intervals:
        resamples = dict(
            zip(columns, resampled_means(np.stack(list(columns.values()))), strict=True)
        )
        resamples['rmse'] = np.sqrt(resamples['mse'])
        scores |= _intervals(resamples)
    return scores


def _gender_ratios(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Gender metrics `[...]` of confusion counts `[..., 2, 2]`, true by predicted.

    Balanced accuracy is the mean of the two recalls, so NaN where one gender does not occur.
    """
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    recall = _ratio(hits, true)
    ratios = {
        'accuracy': _ratio(hits.sum(axis=-1), true.sum(axis=-1)),
        'balanced_accuracy': recall.mean(axis=-1),
    }
    for k, name in enumerate(GENDERS):
        ratios[f'precision_{name}'] = _ratio(hits[..., k], predicted[..., k])
        ratios[f'recall_{name}'] = recall[..., k]
        ratios[f'f1_{name}'] = _ratio(2 * hits[..., k], true[..., k] + predicted[..., k])
    return ratios


def _gender_scores(gender: np.ndarray, predicted: np.ndarray, intervals: bool) -> Scores:
    confusion = confusion_matrix(gender, predicted)
    scores: Scores = {'num_examples': len(gender)}
    scores |= {name: float(value) for name, value in _gender_ratios(confusion).items()}
    for t, true in enumerate(GENDERS):
        for p, guess in enumerate(GENDERS):
            scores[f'confusion/{true}_as_{guess}'] = int(confusion[t, p])
    if intervals:
        # Not `rng.multinomial` of the four counts: its draws differ between versions of numpy.
        cells = np.repeat(np.eye(4), confusion.ravel(), axis=1)
        resamples = resampled_means(cells).T
        scores |= _intervals(_gender_ratios(resamples.reshape(-1, 2, 2)))
    return scores


def _intervals(resamples: Mapping[str, np.ndarray]) -> Scores:
    scores: Scores = {}
    for name, values in resamples.items():
        scores[f'{name}_ci95_low'], scores[f'{name}_ci95_high'] = percentile_interval(values)
    return scores


def _prefixed(prefix: str, scores: Scores) -> Scores:
    return {f'{prefix}/{name}': value for name, value in scores.items()}


def _scores(rows: Rows, by: str = 'predicted', intervals: bool = False) -> Scores:
    """Scores of the columns `<by>_age` and `<by>_gender` where label and prediction are known."""
    # The constant predictor is unknown where the training split has no label of a kind.
    known_age = ~np.isnan(rows['age']) & ~np.isnan(rows[f'{by}_age'])
    known_gender = (rows['gender'] >= 0) & (rows[f'{by}_gender'] >= 0)
    age, gender = rows['age'][known_age], rows['gender'][known_gender]
    return {
        'num_examples': len(rows['id']),
        **_prefixed('age', _age_scores(age, rows[f'{by}_age'][known_age], intervals)),
        **_prefixed(
            'gender', _gender_scores(gender, rows[f'{by}_gender'][known_gender], intervals)
        ),
    }


def _scores_and_constant(rows: Rows) -> Scores:
    return {
        **_scores(rows, intervals=True),
        **_prefixed('constant', _scores(rows, by='constant')),
    }


def prediction_scores(rows: Rows) -> Scores:
    """`num_examples`, `age/...` and `gender/...` of canonical rows, without intervals."""
    female = rows['female_probability'] > 0.5
    ages = {name: rows[name].astype(np.float64) for name in ('age', 'predicted_age')}
    return _scores({**rows, **ages, 'predicted_gender': female.astype(np.int64)})


def is_float(name: str) -> bool:
    """Whether a column of rows holds float32 numbers."""
    floats = ('age', 'predicted_age', 'female_probability', 'constant_age')
    return name in floats or ENSEMBLE_COLUMNS.fullmatch(name) is not None


def canonical_rows(rows: Mapping[str, Any]) -> Rows:
    """Checks the rows and gives every column the type that predictions.csv can hold exactly.

    Args:
      rows: columns `[N]`, at least `COLUMNS`: `age` in years (NaN = unknown), `gender` (0 = male,
        1 = female, -1 = unknown), `predicted_age` in years, `female_probability`, and the training
        split's median age and majority gender in every row of `constant_age`, `constant_gender`.
        `leak` (bool) marks examples that the training split holds too. `ENSEMBLE_COLUMNS` are
        numbers. Any other column names a subgroup of each example as text, such as `ethnicity`;
        '' = unknown.

    Returns:
      A copy: float32, int64, str and bool columns.

    Raises:
      ValueError: for a missing column, columns of different lengths, a label that is no gender, or
        a prediction that is not finite, naming the first such id.
    """
    missing = [name for name in COLUMNS if name not in rows]
    if missing:
        raise ValueError(f'Rows lack the columns {missing}; they have {sorted(rows)}.')
    result: Rows = {}
    for name, column in rows.items():
        if is_float(name):
            result[name] = np.asarray(column, np.float32)
        elif name in ('gender', 'constant_gender'):
            result[name] = np.asarray(column, np.int64)
        elif name == 'leak':
            result[name] = np.asarray(column, bool)
        else:
            texts = [x.decode() if isinstance(x, bytes) else str(x) for x in column]
            result[name] = np.array(texts, dtype=str)
    lengths = {name: len(column) for name, column in result.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f'Columns differ in length: {lengths}.')
    labels = ('age', 'constant_age')
    predictions = [name for name in result if is_float(name) and name not in labels]
    for name, ok in {
        **{name: np.isfinite(result[name]) for name in predictions},
        'gender': np.isin(result['gender'], (-1, 0, 1)),
        'constant_gender': np.isin(result['constant_gender'], (-1, 0, 1)),
    }.items():
        if not ok.all():
            first = int(np.argmin(ok))
            raise ValueError(
                f'{name} of example {str(result["id"][first])!r} is {result[name][first]}: '
                f'{len(ok) - ok.sum()} of {len(ok)} rows have no valid {name}.'
            )
    return result


def subgroups(rows: Rows) -> dict[str, tuple[list[str], np.ndarray]]:
    """Kinds of subgroups: of each its values, and the value of each example as text `[N]`.

    All ages (of `five_bin`) and genders are listed, whichever occur; of other columns those that
    occur. An example of which it is unknown has ''.

    Args:
      rows: of `canonical_rows`.
    """
    age_names, genders = age_group_names('five_bin'), list(GENDERS)
    age = np.where(np.isnan(rows['age']), -1, age_group(rows['age'], 'five_bin'))
    found = {
        'age': (age_names, np.array([*age_names, ''])[age]),
        'gender': (genders, np.array([*genders, ''])[rows['gender']]),
    }
    for name, column in rows.items():
        if name not in (*COLUMNS, 'predicted_gender', 'leak') and not is_float(name):
            found[name] = (np.unique(column[column != '']).tolist(), column)
    return found


def compute_metrics(rows: Mapping[str, Any]) -> Scores:
    """The final table of one split, under flat keys such as `age/mae` and `gender/f1_female`.

    Gender is female where `female_probability` > 0.5. Intervals, `<metric>_ci95_low` and `_high`,
    are 95 % percentile bootstrap over the examples of known label. `constant/...` is the constant
    predictor, `by_gender/female/...`, `by_age/0-12/...` (the groups of `five_bin`) and
    `by_<column>/<value>/...` are subgroups, and `without_leaks/...`, present where an example has
    `leak`, is all but the subgroups on the other examples. The order of rows has no effect.

    Args:
      rows: as `canonical_rows` takes them.

    Returns:
      Counts as int, all else as float: years, or shares between 0 and 1; NaN where undefined.

    Raises:
      ValueError: as `canonical_rows`.
    """
    rows = canonical_rows(rows)
    order = np.argsort(rows['id'], kind='stable')
    rows = {name: column[order] for name, column in rows.items()}
    for name in ('age', 'predicted_age', 'constant_age'):
        rows[name] = rows[name].astype(np.float64)
    rows['predicted_gender'] = (rows['female_probability'] > 0.5).astype(np.int64)
    scores = _scores_and_constant(rows)

    for column, (values, labels) in subgroups(rows).items():
        for value in values:
            inside = labels == value
            subset = _scores({name: column[inside] for name, column in rows.items()})
            subset = {name: subset[name] for name in SUBGROUP_SCORES}
            scores |= _prefixed(f'by_{column}/{value}', subset)

    if 'leak' in rows and rows['leak'].any():
        clean = {name: column[~rows['leak']] for name, column in rows.items()}
        scores |= _prefixed('without_leaks', _scores_and_constant(clean))
    return scores
