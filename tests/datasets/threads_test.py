import itertools
import os
import threading
import time

import pytest

from hybrid.datasets.threads import AHEAD, map_in_threads


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith('images')]


def test_threads_keep_the_order_and_stay_a_bounded_way_ahead():
    taken = []

    def values():
        for k in range(500):
            taken.append(k)
            yield k

    def double(k):
        time.sleep(0.001 * (k % 3))
        return 2 * k

    results = map_in_threads(double, values())
    for k, result in enumerate(results):
        assert result == 2 * k
        assert len(taken) <= k + 1 + AHEAD * (os.cpu_count() or 1)


def test_an_error_in_a_thread_is_raised_and_ends_the_others():
    def fail(k):
        if k == 20:
            raise ValueError('twenty')
        return k

    results = map_in_threads(fail, itertools.count())
    with pytest.raises(ValueError, match='twenty'):
        list(results)
    assert threads() == []


def test_few_values_are_taken_ahead():
    begun = []

    def note(k):
        begun.append(k)
        return k

    results = map_in_threads(note, range(100), num_threads=3, ahead=2)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(begun) <= 10 + 2 * 3 + 1
    results.close()
    assert len(begun) <= 10 + 2 * 3 + 1
    assert threads() == []
