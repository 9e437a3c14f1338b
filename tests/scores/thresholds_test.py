import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

from hybrid.scores import bootstrap, report, rows, subgroups, threshold_plots, thresholds

# id, age, gender (0 = male), estimate, ethnicity.
FACES = [
    ('a', 5, 0, 7.0, 'asian'),
    ('b', 9, 1, 13.0, 'asian'),  # among those of 8 to 12: estimated within 13 to 16
    ('c', 12, 0, 12.9, 'black'),  # not rounded: is not
    ('d', 13, 1, 16.99, 'black'),  # right
    ('e', 14, 0, 18.0, 'asian'),  # passes at 18
    ('f', 16, 1, 25.0, 'asian'),  # passes at 25, not at 26
    ('g', 17, 0, 17.9, ''),  # passes nowhere
    ('h', 17.9, 1, 30.5, 'asian'),  # passes at 30
    ('i', 18, 0, 17.99, 'black'),  # an adult who does not pass at 18
    ('j', 24, 1, 24.9, 'black'),  # nor this one at 25
    ('k', 31, 0, 30.0, 'asian'),  # nobody of age fails this one
    ('l', 22, -1, 16.0, 'asian'),  # among those of 17 to 22: within 13 to 16
]


def table(faces=FACES, **more):
    names = ('id', 'age', 'gender', 'predicted_age', 'ethnicity')
    columns = dict(zip(names, map(list, zip(*faces, strict=True)), strict=True))
    count = len(faces)
    columns |= {'female_probability': [0.5] * count, 'constant_age': [30] * count}
    return columns | {'constant_gender': [0] * count} | more


def create(faces=FACES, **more):
    return rows.create(table(faces, **more), ['ethnicity'])


def find(figures, figure, challenge=None, group='all', limit=18):
    limit = None if challenge is None else limit
    wanted = (limit, challenge, group, figure)
    (found,) = [f for f in figures if f[:4] == wanted]
    return found


@pytest.mark.parametrize(
    ('challenge', 'under', 'near', 'over'),
    # Of 8 under 18, of 4 from 14 to 17, of 4 of 18 or older.
    [(18, 3 / 8, 3 / 4, 2 / 4), (25, 2 / 8, 2 / 4, 3 / 4), (26, 1 / 8, 1 / 4, 3 / 4)],
)
def test_rates_are_what_was_counted_by_hand(challenge, under, near, over):
    figures = thresholds.compute(create())
    found = [
        find(figures, name, challenge)
        for name in ('false_positive_rate', 'false_positive_rate_14_17', 'false_negative_rate')
    ]
    assert [f.value for f in found] == [under, near, over]
    assert [f.n for f in found] == [8, 4, 4]
    for figure in found:
        ends = subgroups.wilson_interval(round(figure.value * figure.n), figure.n)
        assert (figure.low, figure.high) == ends
    assert {f.challenge for f in figures if f.limit} == set(range(18, 31))
    assert find(figures, 'false_negative_rate', 30).value == 3 / 4


def test_the_interval_of_a_rate_is_the_one_of_the_books():
    # 81 of 263: R's prop.test(81, 263, correct=FALSE).
    faces = [(f'{k:03}', 10, 0, 20 if k < 81 else 10, '') for k in range(263)]
    figures = thresholds.compute(create([*faces, ('z', 40, 0, 40, '')]))
    found = find(figures, 'false_positive_rate', 18)
    assert found[4:] == pytest.approx((81 / 263, 0.2553, 0.3662, 263), abs=1e-4)
    # None of 1: 0 to 1 / (1 + 1 / z²).
    assert find(figures, 'false_negative_rate', 25)[4:] == pytest.approx(
        (0, 0, 0.7935, 1), abs=1e-4
    )
    assert np.isnan(find(figures, 'false_positive_rate_14_17', 18)[4:7]).all()


def test_child_safety():
    figures = thresholds.compute(create())
    right, younger, older = (find(figures, name) for name in thresholds.child_names())
    assert right.figure == 'child_safety/true_positive_rate_13_16'
    assert (right.value, right.n) == (1 / 3, 3)  # d of d, e, f
    assert (younger.value, younger.n) == (1 / 2, 2)  # b of b, c
    assert (older.value, older.n) == (1 / 4, 4)  # l of g, h, i, l


def test_groups_are_of_their_own():
    figures = thresholds.compute(create())
    women = find(figures, 'false_positive_rate', 18, 'gender/female')
    assert (women.value, women.n) == (2 / 4, 4)
    asian = find(figures, 'false_positive_rate', 18, 'ethnicity/asian')
    assert (asian.value, asian.n) == (3 / 5, 5)
    # Crossed groups are counted, but too small here for a rate.
    crossed = find(figures, 'false_positive_rate', 18, 'gender/female+ethnicity/asian')
    assert crossed.n == 3
    assert np.isnan(crossed[4:7]).all()
    many = [(f'{x[0]}{k}', *x[1:]) for x in FACES for k in range(10)]
    found = thresholds.compute(create(many))
    crossed = find(found, 'false_positive_rate', 18, 'gender/female+ethnicity/asian')
    assert (crossed.value, crossed.n) == (2 / 3, 30)
    # Nobody of unknown ethnicity, nor of unknown gender, is a group.
    assert len({f.group for f in figures}) == 1 + 2 + 2 + 4


def full_cells():
    """A child, and two of each gender and age from 18 to 30: women err by 2, men by 4 or 6."""
    faces: list[tuple] = [('child', 3, 0, 3, '')]
    for age in range(18, 31):
        faces += [(f'w{age}{k}', age, 1, age + 2, 'x') for k in range(2)]
        faces += [(f'm{age}{k}', age + 0.5, 0, age + 4.5 + 2 * k, 'x') for k in range(2)]
    # Many of one cell weigh no more than one of it.
    return faces + [(f'w20{k}', 20, 1, 22, 'x') for k in range(10, 60)]


def test_mae_is_the_mean_over_genders_and_ages():
    figures = thresholds.compute(create(full_cells()))
    found = find(figures, 'mae_18_30')
    assert (found.value, found.n) == (pytest.approx((2 + 5) / 2), 102)
    assert find(figures, 'mae_18_30', group='gender/female').value == 2
    men = find(figures, 'mae_18_30', group='gender/male')
    assert (men.value, men.n) == (5, 26)
    assert np.isnan(men.low)  # of fewer than 30 no bootstrap
    assert find(figures, 'mae_18_30_num_cells').value == 26
    # The mean of 13 means of two draws from 4 and 6 has the standard deviation 1 / sqrt(26), half
    # of which remains when the women are averaged in.
    half = 1.96 / np.sqrt(26) / 2
    assert found.low == pytest.approx(3.5 - half, abs=0.03)
    assert found.high == pytest.approx(3.5 + half, abs=0.03)
    resampled = bootstrap.resampled_means(np.array([[4.0, 6.0]]), seed=1)
    assert resampled.std() == pytest.approx(1 / np.sqrt(2), rel=0.05)


def test_no_mae_with_an_empty_cell():
    figures = thresholds.compute(create([x for x in full_cells() if not x[0].startswith('w25')]))
    found = find(figures, 'mae_18_30')
    assert np.isnan(found[4:7]).all()
    assert found.n == 100
    assert find(figures, 'mae_18_30_num_cells').value == 25
    assert find(figures, 'mae_18_30', group='gender/male').value == 5
    text = '\n'.join(threshold_plots.format_lines(thresholds.to_metrics(figures)))
    assert 'age/mae of ages 18 to 30: none, of 100 examples; 25 of 2 x 13 cells filled' in text


def test_ranges_count_where_they_decide():
    low = [10, 15, 14, 20, 70, 12, 18]
    high = [17, 19, 17, 29, np.inf, 13, 18]
    faces = [(f'{k}', np.nan, 0, 20.0, '') for k in range(6)] + [('6', 18, 0, 20.0, '')]
    figures = thresholds.compute(create(faces, age_min=low, age_max=high))
    rate = find(figures, 'false_positive_rate', 18)
    assert (rate.value, rate.n) == (1, 3)  # 10-17, 14-17, 12-13
    assert find(figures, 'false_positive_rate_14_17', 18).n == 1
    assert find(figures, 'false_negative_rate', 18).n == 3  # 20-29, 70+, 18
    (undecided,) = [f for f in figures if f.figure == 'num_undecided']
    assert (undecided.value, undecided.n) == (1, 7)
    # 14-17 is not within 13 to 16, nor 12-13.
    assert [find(figures, name).n for name in thresholds.child_names()] == [0, 0, 1]
    assert find(figures, 'mae_18_30').n == 1
    scores = thresholds.to_metrics(figures)
    assert scores['thresholds/18/num_undecided'] == 1
    assert '  1 ages are ranges about 18, and do not count' in threshold_plots.format_lines(scores)


def test_other_limits():
    figures = thresholds.compute(create(), limits=(13, 21, 60))
    assert {f.limit for f in figures} == {13, 21, None}
    rate = find(figures, 'false_positive_rate', 13, limit=13)
    assert (rate.value, rate.n) == (1 / 3, 3)
    assert find(figures, 'false_positive_rate_17_20', 21, limit=21).n == 3
    scores = thresholds.to_metrics(figures)
    assert scores['thresholds/21/challenge_28/false_negative_rate'] == 2 / 3
    assert 'thresholds/21/challenge_27/false_negative_rate' not in scores


def test_what_was_trained_on_does_not_count():
    leak = [face[0] == 'h' for face in FACES]
    assert find(thresholds.compute(create(leak=leak)), 'false_positive_rate', 18).n == 7
    scores = report.compute_metrics(create(leak=leak))
    assert threshold_plots.format_lines(scores)[-1].endswith('; without leaks')
    assert thresholds.compute(create(leak=[True] * len(FACES))) == []


@pytest.mark.parametrize(
    'faces',
    [
        [('a', 30, 0, 20.0, 'x'), ('b', 40, 1, 10.0, 'x')],  # nobody under the limit
        [('a', 3, 0, 20.0, 'x'), ('b', 4, 1, 10.0, 'x')],  # nobody above
        [('a', np.nan, 0, 20.0, 'x'), ('b', np.nan, 1, 10.0, 'x')],  # no ages
        [('a', 10, 0, np.nan, 'x'), ('b', 40, 1, np.nan, 'x')],  # no estimates
    ],
)
def test_a_split_on_one_side_of_the_limit_has_no_figures(faces):
    assert thresholds.compute(create(faces)) == []
    assert thresholds.compute(create(faces, leak=[True, False])) == []


def test_then_there_are_no_files_either(tmp_path):
    (tmp_path / 'thresholds.csv').write_text('of an earlier evaluation')
    scores = report.write_report(create(FACES[:3]), tmp_path, 'x')
    assert not [key for key in scores if key.startswith('thresholds')]
    assert not list(tmp_path.glob('thresholds*'))
    assert 'age limit' not in report.format_table(scores)


def test_metrics_and_csv_hold_the_same():
    figures = thresholds.compute(create())
    scores = thresholds.to_metrics(figures)
    key = 'thresholds/18/challenge_25/false_positive_rate'
    assert (scores[key], scores[f'{key}_num_examples']) == (0.25, 8)
    low, high = subgroups.wilson_interval(2, 8)
    assert (scores[f'{key}_ci95_low'], scores[f'{key}_ci95_high']) == (low, high)
    lines = list(csv.DictReader(io.StringIO(thresholds.to_csv(figures))))
    assert len(lines) == len(figures)
    line = next(x for x in lines if x['challenge'] == '25' and x['group'] == 'all')
    assert line == {
        'limit': '18',
        'challenge': '25',
        'group': 'all',
        'figure': 'false_positive_rate',
        'value': '0.25',
        'low': f'{low:.6g}',
        'high': f'{high:.6g}',
        'n': '8',
    }
    line = next(x for x in lines if x['figure'] == 'mae_18_30')
    assert (line['limit'], line['value'], line['n']) == ('', '', '2')  # i and j; l has no gender


def test_the_order_of_rows_has_no_effect():
    faces = full_cells()
    one, other = (thresholds.to_csv(thresholds.compute(create(f))) for f in (faces, faces[::-1]))
    assert one == other


def test_the_printed_table_and_the_picture(tmp_path):
    figures = thresholds.compute(create(), limits=(18, 21))
    text = '\n'.join(threshold_plots.format_lines(thresholds.to_metrics(figures)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    line = next(x for x in lines if 'Challenge 25' in x)
    assert re.findall(r'([\d.]+) %', line) == ['25.0', '50.0', '75.0']
    assert any(x.startswith('  T = 28, Challenge 28') for x in lines)
    assert 'not advice to decide by' in lines[-1]
    threshold_plots.plot(figures, tmp_path / 'a.png', 'title')
    with Image.open(tmp_path / 'a.png') as image:
        assert image.size[0] > 1000
    assert threshold_plots.format_lines({'age/mae': 1.0}) == []
