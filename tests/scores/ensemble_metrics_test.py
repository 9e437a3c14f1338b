import itertools
import re

import numpy as np
import pytest

from hybrid.scores import bootstrap, combination, ensemble_metrics, metrics, predictions_csv, report
from hybrid.scores import rows as rows_lib


def make_columns(count=200, members=3, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.uniform(0, 90, count).astype(np.float32)
    gender = rng.integers(0, 2, count)
    spread = rng.uniform(1, 20, count)
    ages = age[:, None] + spread[:, None] * rng.normal(0, 1, (count, members))
    female = np.clip(gender[:, None] + 0.4 * rng.normal(0, 1, (count, members)), 0, 1)
    ages, female = ages.astype(np.float32), female.astype(np.float32)
    age[::9], gender[::8] = np.nan, -1
    rows = {
        'id': np.array([f'{k:04}' for k in range(count)]),
        'age': age,
        'gender': gender,
        **combination.combine(ages, female),
        'constant_age': np.full(count, 40, np.float32),
        'constant_gender': np.zeros(count, int),
    }
    for k in range(members):
        rows[f'member_{k}_age'], rows[f'member_{k}_female_probability'] = ages[:, k], female[:, k]
    return rows


def make_rows(count=200, members=3, seed=0):
    return rows_lib.create(make_columns(count, members, seed))


def maes(rows, subsets):
    known = ~np.isnan(rows['age'])
    ages = np.stack([rows[f'member_{k}_age'] for k in range(3)], -1).astype(np.float64)
    return [np.abs(ages[:, list(s)].mean(axis=1) - rows['age'])[known].mean() for s in subsets]


def without_ensemble(columns):
    names = ('age_std', 'gender_agreement')
    return {
        name: column
        for name, column in columns.items()
        if name not in names and not name.startswith('member_')
    }


def test_members_have_the_scores_that_they_have_alone():
    rows = make_rows()
    scores = ensemble_metrics.compute_metrics(rows)
    for k in range(3):
        alone = without_ensemble(rows)
        alone['predicted_age'] = rows[f'member_{k}_age']
        alone['female_probability'] = rows[f'member_{k}_female_probability']
        expected = metrics.compute_metrics(rows_lib.create(alone))
        for name in ('age/mae', 'age/rmse', 'age/cs5', 'gender/accuracy', 'gender/f1_female'):
            assert scores[f'member_{k}/{name}'] == pytest.approx(expected[name], rel=1e-12)
    values = [scores[f'member_{k}/age/mae'] for k in range(3)]
    assert scores['members/age/mae_median'] == sorted(values)[1]
    assert scores['members/age/mae_mean'] == pytest.approx(np.mean(values))


def test_the_curve_averages_over_all_subsets():
    rows = make_rows()
    scores = ensemble_metrics.compute_metrics(rows)
    for size in (1, 2, 3):
        expected = maes(rows, itertools.combinations(range(3), size))
        assert scores[f'curve/{size}/num_subsets'] == len(expected)
        assert scores[f'curve/{size}/age/mae_mean'] == pytest.approx(np.mean(expected), rel=1e-6)
        assert scores[f'curve/{size}/age/mae_std'] == pytest.approx(
            np.std(expected), rel=1e-6, abs=1e-12
        )
        assert scores[f'curve/{size}/age/mae_max'] == pytest.approx(max(expected), rel=1e-6)
    ensemble = metrics.compute_metrics(rows)
    assert scores['curve/3/age/mae_mean'] == pytest.approx(ensemble['age/mae'], rel=1e-6)
    assert scores['curve/3/gender/accuracy_mean'] == ensemble['gender/accuracy']


def test_many_members_have_drawn_subsets_each_once():
    drawn = list(ensemble_metrics.subsets(20, 10))
    assert len(drawn) == len(set(drawn)) == ensemble_metrics.MAX_SUBSETS
    assert all(len(set(s)) == 10 for s in drawn)
    assert drawn == list(ensemble_metrics.subsets(20, 10))
    assert len(list(ensemble_metrics.subsets(5, 2))) == 10


def test_disagreement_by_fifths():
    rows = make_rows()
    scores = ensemble_metrics.compute_metrics(rows)
    known = ~np.isnan(rows['age'])
    std = rows['age_std'][known].astype(np.float64)
    error = np.abs(rows['predicted_age'] - rows['age'])[known].astype(np.float64)
    parts = np.array_split(np.argsort(std, kind='stable'), 5)
    for q, part in enumerate(parts, 1):
        assert scores[f'disagreement/quintile_{q}/num_examples'] == len(part)
        assert scores[f'disagreement/quintile_{q}/age/mae'] == pytest.approx(error[part].mean())
        assert scores[f'disagreement/quintile_{q}/age_std'] == pytest.approx(std[part].mean())
    assert scores['disagreement/quintile_5/age/mae'] > scores['disagreement/quintile_1/age/mae']
    ranks = [np.argsort(np.argsort(x)) for x in (std, error)]
    assert scores['disagreement/age_error_correlation'] == pytest.approx(
        np.corrcoef(ranks[0], ranks[1])[0, 1], rel=1e-6
    )
    assert scores['disagreement/gender_differs'] == np.mean(rows['gender_agreement'] < 1)
    counts = [scores[f'disagreement/gender_{k}/num_examples'] for k in ('agreed', 'differed')]
    assert sum(counts) == np.count_nonzero(rows['gender'] >= 0)


def test_the_difference_to_the_best_member_is_paired():
    rows = make_rows()
    scores = ensemble_metrics.compute_metrics(rows, best_member=1)
    known = ~np.isnan(rows['age'])
    errors = [
        np.abs(rows[name].astype(np.float64) - rows['age'])[known]
        for name in ('predicted_age', 'member_1_age')
    ]
    keys = ('', '_ci95_low', '_ci95_high')
    found = [scores[f'minus_best_member/age/mae{key}'] for key in keys]
    np.testing.assert_allclose(found, bootstrap.paired_bootstrap(*errors), rtol=1e-9)
    assert scores['best_member/number'] == 1
    assert scores['best_member/age/mae'] == scores['member_1/age/mae']
    assert 'best_member/number' not in ensemble_metrics.compute_metrics(rows)


def test_members_are_numbers_and_not_subgroups_in_the_report(tmp_path):
    columns = make_columns() | {'camera': np.array(['a', 'b'] * 100)}
    rows = rows_lib.create(columns, ['camera'])
    scores = report.write_report(rows, tmp_path, 'x', best_member=2)
    assert {name.split('/')[0] for name in scores if name.startswith('by_')} == {
        'by_age',
        'by_gender',
        'by_camera',
    }
    again = predictions_csv.read_predictions(tmp_path / 'predictions.csv')
    for name, column in rows.items():
        np.testing.assert_array_equal(again[name], column)
    recomputed = report.compute_metrics(again, 2)
    assert report.to_json(recomputed) == (tmp_path / 'metrics.json').read_text()
    for name in ('ensemble_curve.png', 'disagreement.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')
    table = report.format_table(scores)
    mae = scores['member_2/age/mae']
    assert f'member 2, best on validation{mae:>18.2f}' in table
    assert max(map(len, table.splitlines())) <= 100


@pytest.mark.parametrize(
    ('ends', 'said'),
    [
        (('_age', 'age_std'), r'members disagree on \d+\.\d % of genders$'),
        (
            ('female_probability', 'agreement'),
            r'members disagree by \d+\.\d\d years \(.*deviation\)$',
        ),
    ],
)
def test_members_do_not_disagree_on_what_they_do_not_predict(ends, said):
    columns = make_columns()
    for name in columns:
        if name.endswith(ends) and not name.startswith('constant'):
            columns[name] = columns[name] * np.nan
    rows = rows_lib.create(columns)
    scores = metrics.compute_metrics(rows) | ensemble_metrics.compute_metrics(rows, 2)
    table = report.format_table(scores)
    assert re.search(said, table, re.MULTILINE)
    assert 'nan' not in table
    predicts_gender = '_age' in ends
    assert ('by fifths' in table) != predicts_gender
    counts = [scores[f'disagreement/gender_{k}/num_examples'] for k in ('agreed', 'differed')]
    assert bool(sum(counts)) == predicts_gender


def test_rows_without_members_have_none_of_it():
    rows = rows_lib.create(without_ensemble(make_columns()))
    assert ensemble_metrics.compute_metrics(rows) == {}
    assert rows.members == []


def test_a_member_that_predicts_no_number_is_refused():
    columns = make_columns()
    columns['member_1_age'][3] = np.nan
    with pytest.raises(ValueError, match="member_1_age of example '0003' is nan"):
        rows_lib.create(columns)


def test_members_that_predict_one_kind_alone_are_scored_in_that_kind():
    columns = make_columns(members=2)
    columns['predicted_age'] = columns['member_0_age'] = columns['predicted_age'].copy()
    columns['female_probability'] = columns['member_1_female_probability']
    columns['member_1_age'] = np.full(200, np.nan, np.float32)
    columns['member_0_female_probability'] = np.full(200, np.nan, np.float32)
    rows = rows_lib.create(columns)
    scores = ensemble_metrics.compute_metrics(rows)
    whole = metrics.compute_metrics(rows)
    for name in ('age/mae', 'gender/accuracy'):
        for key in (f'curve/1/{name}_mean', f'curve/2/{name}_mean', f'members/{name}_max'):
            assert scores[key] == pytest.approx(whole[name], rel=1e-6), key
