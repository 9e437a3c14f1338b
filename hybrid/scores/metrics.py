"""The metrics of a split, which metrics.json holds, computed by NumPy in float64 from its rows.

Every share is between 0 and 1, every age and every age error is in years, a ratio 0/0 is NaN.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from hybrid.scores import calibration, outcomes
from hybrid.scores.bootstrap import percentile_interval, resampled_means
from hybrid.scores.outcomes import GENDERS
from hybrid.scores.rows import Rows

Scores = dict[str, float | int]

# Lower edges of all groups but the first. Groups are half-open and predictions are not rounded: a
# prediction of 12.9 years is in five_bin's 0-12, one of 13.0 in 13-25, one of -1 in the first.
AGE_GROUPS = {
    'five_bin': (13, 26, 41, 61),
    'fairface9': (3, 10, 20, 30, 40, 50, 60, 70),
}
CUMULATIVE_SCORES = (3, 5, 10)
SUBGROUP_SCORES = (
    'num_examples',
    'age/num_examples',
    'age/mae',
    'age/bias',
    'age/coverage',
    'age/mean_interval_width',
    'age/interval_num_examples',
    'age/interval_error',
    'gender/num_examples',
    'gender/accuracy',
)
# Of bands of the predicted age, for which prediction intervals promise their coverage.
COVERAGE_SCORES = ('age/num_examples', 'age/coverage', 'age/mean_interval_width')


def age_group(age: np.ndarray, scheme: str) -> np.ndarray:
    """Index `[N]` of the age group in `AGE_GROUPS[scheme]` of ages in years `[N]`, not rounded."""
    return np.digitize(age, AGE_GROUPS[scheme])


def common_age_group(low: np.ndarray, high: np.ndarray, scheme: str) -> np.ndarray:
    """Index `[N]` of the age group in which ages lie, given their bounds `[N]`.

    It is -1 where the age is unknown, and where the bounds lie in two groups.
    """
    group = age_group(low, scheme)
    return np.where(np.isnan(low) | (group != age_group(high, scheme)), -1, group)


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


def _age_scores(
    low: np.ndarray,
    high: np.ndarray,
    predicted: np.ndarray,
    between: tuple[np.ndarray, np.ndarray] | None,
    crps: np.ndarray | None,
    intervals: bool,
) -> Scores:
    """Scores of exact ages, of ranges, and of age groups, in which ranges of one group count.

    `between` are the ends of prediction intervals, `crps` the scores of distributions, if any.
    """
    exact = low == high
    error = outcomes.age_error(predicted, low, high)
    absolute = np.abs(error)
    columns = {'mae': absolute[exact], 'mse': error[exact] ** 2, 'bias': error[exact]}
    for years in CUMULATIVE_SCORES:
        columns[f'cs{years}'] = absolute[exact] <= years
    if crps is not None:
        columns['crps'] = crps[exact]
    if between is not None:
        below, above = between
        columns['coverage'] = ((below <= low) & (low <= above))[exact]
        columns['mean_interval_width'] = (above - below)[exact]
    groups = {}
    for scheme in AGE_GROUPS:
        group = common_age_group(low, high, scheme)
        right = (age_group(predicted, scheme) == group)[group >= 0]
        groups[f'group_accuracy_{scheme}'] = right
    scores: Scores = {'num_examples': int(exact.sum())}
    if exact.all():
        return scores | _means(columns | groups, intervals)
    scores |= _means(columns, intervals)
    for name, values in groups.items():
        scores |= {f'{name}_num_examples': len(values)} | _means({name: values}, intervals)
    inside = outcomes.is_inside(predicted, low, high)
    ranges = {'interval_error': absolute[~exact], 'interval_accuracy': inside[~exact]}
    return scores | {'interval_num_examples': int((~exact).sum())} | _means(ranges, intervals)


def _means(columns: Mapping[str, np.ndarray], intervals: bool) -> Scores:
    """Means of columns `[N]` of the same examples, and the root of that of `mse`."""
    means = {name: outcomes.mean(values) for name, values in columns.items()}
    if 'mse' in means:
        means['rmse'] = float(np.sqrt(means['mse']))
    scores: Scores = {**means}
    if intervals:
        resamples = dict(
            zip(columns, resampled_means(np.stack(list(columns.values()))), strict=True)
        )
        if 'mse' in means:
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


def _gender_scores(
    gender: np.ndarray, predicted: np.ndarray, probability: np.ndarray | None, intervals: bool
) -> Scores:
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
        if probability is not None:
            found = calibration.scores(probability, gender)
            scores |= {name: value for name, (value, _) in found.items()}
            scores |= _intervals({name: values for name, (_, values) in found.items()})
            # Without an interval: in resamples it is higher than here, by chance alone.
            scores['ece'] = calibration.calibration_error(probability, gender)
    return scores


def _intervals(resamples: Mapping[str, np.ndarray]) -> Scores:
    scores: Scores = {}
    for name, values in resamples.items():
        scores[f'{name}_ci95_low'], scores[f'{name}_ci95_high'] = percentile_interval(values)
    return scores


def _prefixed(prefix: str, scores: Scores) -> Scores:
    return {f'{prefix}/{name}': value for name, value in scores.items()}


def prediction_scores(rows: Rows, by: str = 'predicted', intervals: bool = False) -> Scores:
    """`num_examples`, `age/...` and `gender/...` where label and prediction are known.

    Args:
      rows: the examples.
      by: whose prediction: `predicted`, the model's, or `constant`, the constant predictor's.
      intervals: whether to give the ends of the 95 % intervals too.
    """
    low, high = (bound.astype(np.float64) for bound in outcomes.age_bounds(rows))
    predicted_age = rows[f'{by}_age'].astype(np.float64)
    if by == 'predicted':
        predicted_gender = outcomes.is_female(rows['female_probability']).astype(np.int64)
        known_gender = outcomes.is_scored(rows['female_probability'], rows['gender'])
    else:
        predicted_gender = rows[f'{by}_gender']
        known_gender = (rows['gender'] >= 0) & (predicted_gender >= 0)
    # Neither predicts what the training split has no label of.
    known_age = ~np.isnan(low) & ~np.isnan(predicted_age)
    between, crps, probability = None, None, None
    if by == 'predicted':
        probability = rows['female_probability'][known_gender]
        if 'age_crps' in rows:
            crps = rows['age_crps'].astype(np.float64)[known_age]
        if 'age_low' in rows:
            below, above = (rows[f'age_{end}'].astype(np.float64) for end in ('low', 'high'))
            between = below[known_age], above[known_age]
    ages = _age_scores(
        low[known_age], high[known_age], predicted_age[known_age], between, crps, intervals
    )
    genders = _gender_scores(
        rows['gender'][known_gender], predicted_gender[known_gender], probability, intervals
    )
    return {
        'num_examples': rows.num_examples,
        **_prefixed('age', ages),
        **_prefixed('gender', genders),
    }


def sure_scores(rows: Rows, unsure_below: float) -> Scores:
    """Of the examples whose likelier gender has at least this probability: share and accuracy.

    Returns:
      `gender/sure/num_examples`, `share` (of those of known gender) and `accuracy`.
    """
    probability = rows['female_probability']
    known = outcomes.is_scored(probability, rows['gender'])
    sure = known & (np.maximum(probability, 1 - probability) >= unsure_below)
    right = outcomes.is_right(probability, rows['gender'])
    scores: Scores = {'num_examples': int(sure.sum()), 'accuracy': outcomes.mean(right[sure])}
    return _prefixed('gender/sure', scores | {'share': outcomes.mean(sure[known])})


def _scores_and_constant(rows: Rows) -> Scores:
    return {
        **prediction_scores(rows, intervals=True),
        **_prefixed('constant', prediction_scores(rows, by='constant')),
    }


def subgroups(rows: Rows) -> dict[str, tuple[list[str], np.ndarray]]:
    """Kinds of subgroups: of each its values, and the value of each example as text `[N]`.

    Every age group (of `five_bin`) and gender is listed, whether it occurs or not; of the dataset's
    own subgroups only those that occur. An example of which it is unknown has '', as has one whose
    age is a range of more than one group.
    """
    age_names, genders = age_group_names('five_bin'), list(GENDERS)
    age = common_age_group(*outcomes.age_bounds(rows), 'five_bin')
    found = {
        'age': (age_names, np.array([*age_names, ''])[age]),
        'gender': (genders, np.array([*genders, ''])[rows['gender']]),
    }
    for name in rows.subgroups:
        found[name] = (np.unique(rows[name][rows[name] != '']).tolist(), rows[name])
    return found


def compute_metrics(rows: Rows) -> Scores:
    """The final table of one split, under flat keys such as `age/mae` and `gender/f1_female`.

    Intervals, `<metric>_ci95_low` and `_high`, are 95 % percentile bootstrap over the examples of
    known label. Where ages are ranges, there are `age/interval_error`, the distance to the range in
    years, and `age/interval_accuracy`, the share inside; a range counts in `age/group_accuracy_...`
    if it lies in one group, and in none of the other scores of age. Where there are prediction
    intervals, `age/coverage` is the share of exact ages inside, and `by_predicted_age/...` has it
    by band of the predicted age. `gender/brier`, `nll` and `ece` are those of
    `calibration.scores`. `constant/...` is the constant
    predictor, `by_gender/female/...`, `by_age/0-12/...` (the groups of `five_bin`) and
    `by_<column>/<value>/...` are subgroups, and `without_leaks/...`, present where an example has
    `leak`, is all but the subgroups on the other examples. The order of the rows has no effect.

    Returns:
      Counts as int, all else as float: years, or shares between 0 and 1; NaN where undefined.
    """
    rows = rows.by_id()
    scores = _scores_and_constant(rows)
    for column, (values, labels) in subgroups(rows).items():
        for value in values:
            subset = prediction_scores(rows.take(labels == value))
            subset = {name: subset[name] for name in SUBGROUP_SCORES if name in subset}
            scores |= _prefixed(f'by_{column}/{value}', subset)
    if 'age_low' in rows:
        band = age_group(rows['predicted_age'], 'fairface9')
        for k, name in enumerate(age_group_names('fairface9')):
            subset = prediction_scores(rows.take(band == k))
            subset = {name: subset[name] for name in COVERAGE_SCORES}
            scores |= _prefixed(f'by_predicted_age/{name}', subset)
    clean = rows.without_leaks()
    if clean.num_examples < rows.num_examples:
        scores |= _prefixed('without_leaks', _scores_and_constant(clean))
    return scores
