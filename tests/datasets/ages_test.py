import math

import pytest

from hybrid.datasets import ages

INF = math.inf


@pytest.mark.parametrize(
    ('cell', 'low', 'high'),
    [
        ('35', 35, 35),
        (' 34.5 ', 34.5, 34.5),
        ('35 years', 35, 35),
        ('35-35', 35, 35),
        # FairFace.
        ('0-2', 0, 2),
        ('20-29', 20, 29),
        ('more than 70', 70, INF),
        # Adience, with ranges that overlap with others, and as tuples or lists of Python.
        ('(25, 32)', 25, 32),
        ('(8, 23)', 8, 23),
        ('(60, 100)', 60, 100),
        ('[48,53]', 48, 53),
        # Other dashes and words.
        ('20\u201329', 20, 29),
        ('20 \u2014 29', 20, 29),
        ('20\uff5e29', 20, 29),
        ('20 to 29', 20, 29),
        ('20_29', 20, 29),
        ('20..29', 20, 29),
        ('between 20 and 29', 20, 29),
        ('20-29 years old', 20, 29),
        ('age_20_29', 20, 29),
        ('aged 20-29', 20, 29),
        ("20's", 20, 29),
        # Without an upper end.
        *((cell, 60, INF) for cell in ('60+', '60-', '>60', '>=60', '\u226560', '60 and over')),
        *((cell, 60, INF) for cell in ('60 years or older', 'at least 60', 'AgeOver60')),
        ('[60, inf)', 60, INF),
        # Without a lower end.
        *((cell, 0, 17) for cell in ('<18', 'under 18', 'less than 18', 'AgeLess18', '<= 17')),
        *((cell, 0, 5) for cell in ('up to 5', '5 and under', '\u22645')),
        ('<1', 0, 0),
        # As pandas.cut writes them: completed years.
        ('(20, 30]', 21, 30),
        ('(20.0, 30.0]', 21, 30),
        ('[20, 30)', 20, 29),
        ('(-0.001, 20.0]', 0, 20),
        ('(-inf, 20.0]', 0, 20),
        ('(60.0, inf]', 61, INF),
    ],
)
def test_ages_and_ranges(cell, low, high):
    age = ages.parse(cell)
    assert (age.low, age.high) == (low, high)
    if low == high:
        assert age.exact == low
    else:
        assert math.isnan(age.exact)


@pytest.mark.parametrize('cell', ['', ' ', 'None', 'nan', 'NA', 'N/A', 'null', 'unknown', '?', '-'])
def test_unknown_ages(cell):
    assert all(map(math.isnan, (*ages.parse(cell), ages.parse(cell).exact)))


@pytest.mark.parametrize(
    'cell',
    [
        *('-1', '-5-3', '200', '20-200', '131+', '29-20', '<0', '[20, 20)', 'inf', '1e9', '3,5'),
        *('x', 'young', '5)', '()', '(20, 30', '6 months', '20_', '+', 'age', 'years'),
    ],
)
def test_what_is_no_age_is_refused(cell):
    with pytest.raises(ValueError, match=r'is no number of years from 0 to 130 and no range') as e:
        ages.parse(cell)
    assert repr(cell) in str(e.value)


@pytest.mark.parametrize('cell', ['9-Mar', 'Oct-19', '2019-10-01', '10/19/2019'])
def test_a_date_is_known_for_what_a_spreadsheet_does(cell):
    with pytest.raises(ValueError, match='looks like a date, which a spreadsheet makes of a range'):
        ages.parse(cell)
