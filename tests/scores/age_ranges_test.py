"""Scores of ages that are ranges, by hand, and beside exact ages."""

import json

import numpy as np
import pytest

from hybrid import default_config
from hybrid.scores import (
    bootstrap,
    ensemble_metrics,
    joining,
    metrics,
    outcomes,
    plots,
    predictions_csv,
    report,
    subgroups,
    validation,
)

NAN, INF = float('nan'), float('inf')
# Lower and upper bound, gender, predicted age.
FACES = [
    (20, 29, 0, 24.5),  # Inside.
    (20, 29, 1, 29.5),  # Half a year outside, but inside in completed years.
    (70, INF, 0, 68),  # By 2 years outside.
    (25, 32, 1, 40),  # By 8; a range of two groups in either scheme.
    (10, 10, 0, 13),  # Exact.
    (NAN, NAN, 1, 50),
    (0, 2, 1, 3),  # By 1.
]
LOW, HIGH, GENDER, PREDICTED = (np.array(column) for column in zip(*FACES, strict=True))
LABELS = {
    'id': np.array(list('abcdefg')),
    'age': np.where(LOW == HIGH, LOW, NAN).astype(np.float32),
    'age_min': LOW.astype(np.float32),
    'age_max': HIGH.astype(np.float32),
    'gender': GENDER,
}
CONSTANT = {'constant_age': 30.0, 'constant_gender': 1}


def join(predicted=PREDICTED, members=(), which=slice(None)):
    predicted = np.asarray(predicted, np.float32)
    columns = {'predicted_age': predicted, 'female_probability': np.full_like(predicted, 0.7)}
    labels = {name: column[which] for name, column in LABELS.items()}
    columns = {name: column[which] for name, column in columns.items()}
    return joining.join(columns, labels, CONSTANT, {}, members)


def test_scores_have_hand_computed_values():
    scores = metrics.compute_metrics(join())
    expected = {
        'num_examples': 7,
        'age/num_examples': 1,
        'age/mae': 3,
        'age/bias': 3,
        'age/interval_num_examples': 5,
        'age/interval_error': (0 + 0.5 + 2 + 8 + 1) / 5,
        'age/interval_accuracy': 2 / 5,
        # The exact age and four ranges: right are 24.5, 29.5 and 13, not 68 and 3.
        'age/group_accuracy_fairface9': 3 / 5,
        'age/group_accuracy_fairface9_num_examples': 5,
        # 20-29 is of two groups; right are 68 for 70+ and 3 for 0-2, not 13 for 10.
        'age/group_accuracy_five_bin': 2 / 3,
        'age/group_accuracy_five_bin_num_examples': 3,
        'constant/age/mae': 20,
        'constant/age/interval_error': (1 + 1 + 40 + 0 + 28) / 5,
        'constant/age/interval_accuracy': 1 / 5,
        'by_age/0-12/num_examples': 2,
        'by_age/0-12/age/num_examples': 1,
        'by_age/0-12/age/interval_error': 1,
        'by_age/61+/age/interval_error': 2,
        'by_age/13-25/num_examples': 0,
        'by_gender/female/age/interval_num_examples': 3,
        'by_gender/female/age/interval_error': (0.5 + 8 + 1) / 3,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    for name, values in (
        ('interval_error', [0, 0.5, 2, 8, 1]),
        ('interval_accuracy', [1, 1, 0, 0, 0]),
        ('group_accuracy_fairface9', [1, 1, 0, 1, 0]),
    ):
        resampled = bootstrap.resampled_means(np.array([values], float))[0]
        ends = tuple(scores[f'age/{name}_ci95_{end}'] for end in ('low', 'high'))
        assert ends == bootstrap.percentile_interval(resampled), name


def test_of_ranges_alone_the_mae_is_undefined_and_of_exact_ages_nothing_is_added():
    scores = metrics.compute_metrics(join(which=[0, 1, 2]))
    assert np.isnan([scores['age/mae'], scores['age/bias']]).all()
    assert scores['age/num_examples'] == 0
    assert scores['age/interval_error'] == pytest.approx(2.5 / 3)
    exact = join(which=[4, 5])
    assert not {'age_min', 'age_max'} & set(exact)
    assert not [name for name in metrics.compute_metrics(exact) if 'interval' in name]


def test_rows_of_ranges_come_back_from_their_file(tmp_path):
    joined = join()
    predictions_csv.write_predictions(joined, tmp_path / 'predictions.csv')
    lines = (tmp_path / 'predictions.csv').read_text().splitlines()
    assert lines[0].endswith('constant_age,constant_gender,age_min,age_max')
    assert lines[3] == 'c,,male,68.0,0.7,30.0,female,70.0,inf'
    assert lines[5] == 'e,10.0,male,13.0,0.7,30.0,female,10.0,10.0'
    assert lines[6] == 'f,,female,50.0,0.7,30.0,female,,'
    again = predictions_csv.read_predictions(tmp_path / 'predictions.csv')
    assert metrics.compute_metrics(again) == pytest.approx(
        metrics.compute_metrics(joined), nan_ok=True
    )


def test_crossed_subgroups():
    cells = subgroups.cross_table(join())
    (whole,) = [c for c in cells if c['age'] == c['gender'] == 'all']
    assert (whole['age/num_examples'], whole['age/mae']) == (1, 3)
    assert (whole['age/interval_num_examples'], whole['age/interval_error']) == (5, 2.3)
    (girls,) = [c for c in cells if (c['age'], c['gender']) == ('0-12', 'female')]
    assert (girls['age/num_examples'], girls['age/interval_error']) == (0, 1)


def test_the_table_and_the_pictures_of_ranges(tmp_path):
    for which, heads in (
        (slice(None), ['exact age (1 labelled)', 'age ranges (5 labelled)']),
        ([0, 1, 2], ['age ranges (3 labelled)']),
    ):
        scores = report.write_report(join(which=which), tmp_path, 'ranges')
        text = report.format_table(scores, 'ranges')
        assert [line[:28].strip() for line in text.splitlines() if 'labelled' in line][:-1] == heads
        assert max(map(len, text.splitlines())) <= 100
        assert 'nan' not in text
        (line,) = [x for x in text.splitlines() if x.startswith('  interval_error')]
        assert line.split()[1] == f'{scores["age/interval_error"]:.2f}'
        assert line.split()[-1] == f'{scores["constant/age/interval_error"]:.2f}'
        assert json.loads((tmp_path / 'metrics.json').read_text())['age/interval_error']
    # A leak that is the only range, and a training without ages.
    labels = {name: column[[4, 6]] for name, column in LABELS.items()}
    labels['leak'] = np.array([False, True])
    predicted = {'predicted_age': np.ones(2), 'female_probability': np.ones(2)}
    unknown = CONSTANT | {'constant_age': None}
    scores = metrics.compute_metrics(joining.join(predicted, labels, unknown, {}))
    (line,) = [
        x for x in report.format_table(scores).splitlines() if x.startswith('  interval_error')
    ]
    assert line.split()[1:] == ['0.00', '0.00', '..', '0.00', '-', '-', '-']


def test_an_ensemble_on_ranges():
    ages = np.stack([PREDICTED, PREDICTED + 1], -1)
    joined = join(ages, members=[0, 1])
    scores = ensemble_metrics.compute_metrics(joined, best_member=0)
    # Of the second member 25.5, 30.5, 69, 41 and 4.
    assert scores['member_0/age/interval_error'] == pytest.approx(2.3)
    assert scores['member_1/age/interval_error'] == pytest.approx((0 + 1.5 + 1 + 9 + 2) / 5)
    combined = (0 + 1 + 1.5 + 8.5 + 1.5) / 5
    assert scores['curve/2/age/interval_error_mean'] == pytest.approx(combined)
    assert scores['minus_best_member/age/interval_error'] == pytest.approx(combined - 2.3)
    text = report.format_table(metrics.compute_metrics(joined) | scores)
    assert 'nan' not in text
    (line,) = [x for x in text.splitlines() if x.startswith('  member 1')]
    assert line.split()[-1] == '2.70'


@pytest.mark.parametrize(
    ('which', 'expected'),
    [
        ([4, 5], 3),  # Exact ages: the MAE.
        ([0, 2, 5], 1),  # Ranges: the interval error.
        ([0, 2, 4], (0 + 2 + 3) / 3),  # Both.
    ],
)
def test_the_best_checkpoint_has_the_least_mean_error_of_all_ages(which, expected):
    labels = {name: column[which] for name, column in LABELS.items()}
    predicted = np.stack([PREDICTED[which], PREDICTED[which]], -1)
    losses = dict.fromkeys(('age_loss', 'gender_loss'), np.zeros((len(which), 2)))
    columns = {'predicted_age': predicted, 'female_probability': np.full_like(predicted, 0.7)}
    scores = validation.validation_metrics(
        columns | losses, labels, default_config.get_config(), [0, 1]
    )
    assert ('age/interval_error' in scores) == (which != [4, 5])
    found = validation.selection_scores(scores, labels, [0, 1])
    assert found == pytest.approx(dict.fromkeys((None, 0, 1), expected))
    bad = {**scores, 'age/mae': NAN, 'age/interval_error': NAN}
    assert validation.selection_score(bad, labels) is None


@pytest.mark.parametrize(
    ('low', 'high', 'expected'),
    [
        ([1, 9, 2, NAN], [1, 9, 2, NAN], 2),
        ([1, 2], [1, 2], 1.5),
        ([NAN], [NAN], None),
        ([20, 30, 70], [29, 39, INF], 34.5),  # From 30 to 39 years all have the same error.
        ([60, 70], [INF, INF], 70),
        ([60, 70, 5], [INF, INF, 5], 65),
    ],
)
def test_the_constant_age_has_the_least_mean_error(low, high, expected):
    low, high = np.array(low, np.float32), np.array(high, np.float32)
    found = outcomes.median_age(low, high)
    assert found == expected
    if found is not None:

        def error(age):
            return np.nanmean(outcomes.absolute_age_error(np.full(len(low), age), low, high))

        assert error(found) <= min(error(age) for age in np.arange(0, 100, 0.5)) + 1e-6


def test_bands_hold_the_distances_of_their_ranges(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, 'save', lambda figure, path: drawn.append(figure))
    plots.plot_age_error_by_band(join(), tmp_path / 'picture.png')
    model = [bar.get_height() for bar in drawn[0].axes[0].patches if bar.get_height()]
    # Bands 0-2, 10-19, 20-29 and 70+, of the model and of 30 years.
    assert model == pytest.approx([1, 3, 0.25, 2, 28, 20, 1, 40])
    assert drawn[0].axes[0].get_title() == '5 examples of known age or range in one band'
    plots.plot_age_scatter(join(), tmp_path / 'picture.png')
    lines = drawn[1].axes[0].collections[1].get_segments()
    assert [line.tolist() for line in lines[:3]] == [
        [[20, 24.5], [29, 24.5]],
        [[20, 29.5], [29, 29.5]],
        [[70, 68], [80, 68]],  # To the end of the axis.
    ]
