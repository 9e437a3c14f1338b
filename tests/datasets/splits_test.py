import pytest

from hybrid.datasets import splits

FRACTIONS = {'train': 0.8, 'validation': 0.1, 'test': 0.1}


def test_unit_hash_is_the_first_32_bits_of_sha256():
    # sha256('abc') = ba7816bf 8f01cfea ... (FIPS 180-2)
    assert splits.unit_hash('abc') == 0xBA7816BF / 2**32


def test_assignment_follows_the_cumulated_fractions():
    # unit_hash('abc') = 0.7284
    assert splits.assign_split('abc', FRACTIONS) == 'train'
    assert splits.assign_split('abc', {'train': 0.7284, 'validation': 0.2716}) == 'train'
    assert splits.assign_split('abc', {'train': 0.7283, 'validation': 0.2717}) == 'validation'
    assert splits.assign_split('abc', {'a': 0.5, 'b': 0.2, 'c': 0.3}) == 'c'


def test_shares_come_out_as_asked():
    counts = dict.fromkeys(FRACTIONS, 0)
    for index in range(10_000):
        counts[splits.assign_split(f'group {index}', FRACTIONS)] += 1
    for split, fraction in FRACTIONS.items():
        assert abs(counts[split] / 10_000 - fraction) < 0.015


def test_a_rounding_error_in_the_sum_leaves_no_group_without_a_split(monkeypatch):
    monkeypatch.setattr(splits, 'unit_hash', lambda group: 1 - 2**-32)
    assert splits.assign_split('x', {'train': 0.7, 'test': 0.3 - 1e-9}) == 'test'


@pytest.mark.parametrize(
    'fractions',
    [
        *({'train': 0.8, 'test': 0.1}, {'train': 1.0, 'test': 0.0}, {'train': 1.2, 'test': -0.2}),
        {'train': 0.7, 'validation': 0.3, 'test': 1 - 0.7 - 0.3},  # 6e-17
    ],
)
def test_fractions_that_leave_nothing_or_do_not_sum_to_one_are_refused(fractions):
    with pytest.raises(ValueError, match='split fractions'):
        splits.check_fractions(fractions)
