"""Rows that belong together, by whatever they have in common, and may not straddle a split."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse


def linked(pairs: np.ndarray, count: int) -> np.ndarray:
    """Finds the connected components of a graph.

    Args:
      pairs: int64 [P, 2], the nodes that are linked.
      count: Of all nodes, N.

    Returns:
      int [N], the number of each node's component, from 0.
    """
    graph = sparse.coo_matrix((np.ones(len(pairs), bool), pairs.T), shape=(count, count))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def join(*labels: np.ndarray) -> np.ndarray:
    """Joins rows that agree in any of several labels, and rows joined with them.

    Args:
      *labels: Each [N], of numbers or texts.

    Returns:
      int64 [N], the same for rows that belong together, from 0.
    """
    count = len(labels[0])
    edges, end = [], count
    for column in labels:
        values, inverse = np.unique(column, return_inverse=True)
        edges.append(inverse.reshape(-1) + end)
        end += len(values)
    rows = np.tile(np.arange(count), len(labels))
    component = linked(np.stack([rows, np.concatenate(edges)], axis=1), end)
    return np.unique(component[:count], return_inverse=True)[1].reshape(-1)


def smallest(component: np.ndarray, names: Sequence[str] | np.ndarray) -> np.ndarray:
    """For each row the smallest name in its component.

    Args:
      component: int64 [N], from `join`.
      names: str [N].
    """
    values, number = np.unique(np.asarray(names), return_inverse=True)
    first = np.full(component.max(initial=-1) + 1, len(values))
    np.minimum.at(first, component, number.reshape(-1))
    return values[first[component]]
