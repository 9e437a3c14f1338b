import numpy as np

from hybrid.datasets import groups


def test_rows_are_joined_through_any_label_and_through_each_other():
    persons = np.array(['a', 'a', 'b', 'c', 'd', 'e'])
    photos = np.array([1, 2, 2, 3, 3, 4])
    joined = groups.join(persons, photos)
    same = joined[:, None] == joined[None]
    expected = np.array([0, 0, 0, 1, 1, 2])
    np.testing.assert_array_equal(same, expected[:, None] == expected[None])
    assert groups.join(persons).max() == 4


def test_a_group_is_called_by_its_smallest_name():
    component = np.array([0, 1, 0, 2, 1])
    names = ['m', 'c', 'b', 'z', 'd']
    assert groups.smallest(component, names).tolist() == ['b', 'c', 'b', 'z', 'c']
