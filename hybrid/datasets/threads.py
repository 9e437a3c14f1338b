"""A `map` by several threads that keeps the order and runs only a bounded way ahead."""

import collections
import itertools
import os
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from typing import Any

# Results that each thread may be ahead of the one that is taken.
AHEAD = 8


def map_in_threads(
    function: Callable[[Any], Any],
    values: Iterable[Any],
    num_threads: int | None = None,
    ahead: int = AHEAD,
) -> Generator[Any]:
    """Yields `function(value)` for each value, in order.

    The values are drawn by the thread that takes the results. When the generator is closed, or a
    call raises, what has not begun yet is cancelled and the threads end.

    Args:
      function: Called by several threads at once.
      values: May be endless; only `num_threads * ahead` of them are drawn beyond the result that
        was taken last.
      num_threads: How many threads; None for as many as there are CPUs.
      ahead: How many values to draw ahead for each thread, so that memory stays bounded.
    """
    num_threads = num_threads or os.cpu_count() or 1
    queue: collections.deque[futures.Future] = collections.deque()
    pending = iter(values)
    with futures.ThreadPoolExecutor(num_threads, thread_name_prefix='images') as pool:
        try:
            for value in itertools.islice(pending, num_threads * ahead):
                queue.append(pool.submit(function, value))
            while queue:
                result = queue.popleft().result()
                for value in itertools.islice(pending, 1):
                    queue.append(pool.submit(function, value))
                yield result
        finally:
            for future in queue:
                future.cancel()
