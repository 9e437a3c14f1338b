import collections
import csv
import io

import numpy as np
import pytest
from PIL import Image

from hybrid.scores import report, rows, subgroups

# id, age, gender, predicted age, probability of female, ethnicity.
FACES = [
    ('a', 5, 0, 8, 0.9, 'asian'),  # +3, wrong
    ('b', 7, 0, 6, 0.1, 'asian'),  # -1, right
    ('c', 9, 1, 9, 0.9, 'black'),  # 0, right
    ('d', 70, 1, 60, 0.9, ''),  # -10, right, ethnicity unknown
    ('e', np.nan, 1, 50, 0.1, 'black'),  # age unknown, wrong
    ('f', 30, -1, 34, 0.1, 'asian'),  # +4, gender unknown
]


def table(faces=FACES):
    names = ('id', 'age', 'gender', 'predicted_age', 'female_probability', 'ethnicity')
    columns = dict(zip(names, map(np.array, zip(*faces, strict=True)), strict=True))
    count = len(faces)
    return columns | {'constant_age': np.full(count, 30.0), 'constant_gender': np.zeros(count, int)}


def cross_table(columns):
    return subgroups.cross_table(rows.create(columns, ['ethnicity']))


def cell(cells, age='all', gender='all', ethnicity='all'):
    wanted = {'age': age, 'gender': gender, 'ethnicity': ethnicity}
    found = [c for c in cells if all(c[name] == value for name, value in wanted.items())]
    return found[0] if found else None


def test_cells_and_margins_hold_what_was_counted_by_hand():
    cells = cross_table(table())
    boys = cell(cells, '0-12', 'male', 'asian')
    assert (boys['num_examples'], boys['age/mae'], boys['age/bias']) == (2, 2.0, 1.0)
    assert boys['gender/accuracy'] == 0.5
    assert np.isnan(boys['age/mae_ci95_low'])
    everybody = cell(cells)
    assert (everybody['num_examples'], everybody['age/num_examples']) == (6, 5)
    assert everybody['age/mae'] == pytest.approx(18 / 5)
    assert (everybody['gender/num_examples'], everybody['gender/accuracy']) == (5, 0.6)
    # Whose ethnicity, gender or age is unknown counts in that margin only.
    assert cell(cells, '61+', 'female')['num_examples'] == 1
    assert cell(cells, '61+', 'female', 'black') is None
    assert cell(cells, ethnicity='asian')['num_examples'] == 3
    assert cell(cells, gender='male', ethnicity='asian')['num_examples'] == 2
    assert np.isnan(cell(cells, '26-40')['gender/accuracy'])
    assert cell(cells, '13-25') is None
    # By age all of known age are there, and no other.
    bands = [c for c in cells if c['age'] != 'all' and c['gender'] == c['ethnicity'] == 'all']
    assert sum(c['num_examples'] for c in bands) == 5


def test_what_was_trained_on_does_not_count():
    leak = np.array([True, False, False, False, False, False])
    assert cell(cross_table(table() | {'leak': leak}))['num_examples'] == 5
    assert cross_table(table() | {'leak': ~leak & False | True}) == []


def test_the_order_of_rows_has_no_effect():
    many = [(f'{k}', k % 90, k % 2, (7 * k) % 80, (k % 10) / 10, 'xy'[k % 2]) for k in range(200)]
    cells = cross_table(table(many))
    assert subgroups.to_csv(cells) == subgroups.to_csv(cross_table(table(many[::-1])))
    whole = cell(cells)
    assert whole['age/mae_ci95_low'] < whole['age/mae'] < whole['age/mae_ci95_high']


@pytest.mark.parametrize(
    ('hits', 'count', 'low', 'high'),
    # R's prop.test(hits, count, correct=FALSE).
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_interval_of_a_share(hits, count, low, high):
    assert subgroups.wilson_interval(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_no_share_of_nothing():
    assert np.isnan(subgroups.wilson_interval(0, 0)).all()


@pytest.mark.parametrize('leave_out', [(), ('ethnicity',)])
def test_the_files_of_a_report(tmp_path, leave_out):
    columns = {name: column for name, column in table().items() if name not in leave_out}
    kinds = [] if leave_out else ['ethnicity']
    report.write_report(rows.create(columns, kinds), tmp_path, 'title')
    read = list(csv.DictReader(io.StringIO((tmp_path / 'subgroups.csv').read_text())))
    boys = next(c for c in read if c['age'] == '0-12' and c['gender'] == 'male')
    assert (boys['age/mae'], boys['gender/accuracy']) == ('2.0000', '0.5000')
    assert boys['age/mae_ci95_low'] == ''
    assert ('ethnicity' in boys) == (not leave_out)
    with Image.open(tmp_path / 'subgroups.png') as image:
        assert min(image.size) > 300


def test_only_what_occurs_is_counted_however_many_values_there_are():
    size = 40
    columns = {
        'id': [str(k) for k in range(size)],
        'age': np.full(size, 30.0),
        'gender': np.zeros(size, int),
        'predicted_age': np.arange(size) + 10.0,
        'female_probability': np.zeros(size),
        'constant_age': np.full(size, 30.0),
        'constant_gender': np.zeros(size, int),
        # All combinations of these values would be 41 ** 6, about five thousand million.
        **{f'c{k}': np.array([f'v{n}' for n in range(size)]) for k in range(6)},
    }
    cells = subgroups.cross_table(rows.create(columns, [f'c{k}' for k in range(6)]))
    # Of each row its own value or `all` in six columns, where not all of them are `all`; times the
    # age band or `all`, times the gender or `all`; and the four cells of everybody.
    assert len(cells) == size * (2**6 - 1) * 4 + 4
    assert cells[-1]['num_examples'] == size
    assert collections.Counter(cell['num_examples'] for cell in cells) == {
        1: size * (2**6 - 1) * 4,
        size: 4,
    }
