"""What a model mistakes for what: pairs of classes, and groups that it confuses."""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial import distance


@dataclasses.dataclass(frozen=True)
class ConfusedPair:
    """Two classes, of which `first` is taken for `second` at least as often as the reverse.

    Attributes:
      first: A label.
      second: Another.
      forward: Drawings of `first` that were taken for `second`.
      backward: Drawings of `second` that were taken for `first`.
    """

    first: int
    second: int
    forward: int
    backward: int


def most_confused_pairs(confusion: NDArray[np.int64], limit: int) -> list[ConfusedPair]:
    """The pairs with the most mistakes, counting both directions; only pairs that have some.

    Args:
      confusion: integer[classes, classes], drawings by true class and first guess.
      limit: How many, at most.
    """
    # Each pair once: the cells above the diagonal, with those that mirror them.
    first, second = np.triu_indices(len(confusion), k=1)
    mistakes = (confusion + confusion.T)[first, second]
    most = np.argsort(-mistakes, kind="stable")[:limit]
    return [
        _pair(confusion, int(first[index]), int(second[index])) for index in most if mistakes[index]
    ]


def _pair(confusion: NDArray[np.int64], a: int, b: int) -> ConfusedPair:
    if confusion[b, a] > confusion[a, b]:
        a, b = b, a
    return ConfusedPair(a, b, int(confusion[a, b]), int(confusion[b, a]))


def order_by_confusion(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes ordered so that those taken for each other stand together, int64[classes]."""
    if len(confusion) < 3:
        return np.arange(len(confusion))
    return np.asarray(hierarchy.leaves_list(_tree(confusion)), np.int64)


def most_confused_blocks(
    confusion: NDArray[np.int64], *, limit: int, size: int
) -> list[NDArray[np.int64]]:
    """The groups of classes with the most mistakes within them; only groups that have some.

    Args:
      confusion: As for `most_confused_pairs`.
      limit: How many groups, at most.
      size: Classes in a group, at most.

    Returns:
      The labels of each group.
    """
    if len(confusion) < 3:
        return []
    mistakes = confusion - np.diag(np.diag(confusion))
    groups = [np.array(group) for group in _cut(hierarchy.to_tree(_tree(confusion)), size)]
    groups = [_connected(mistakes, group) for group in groups]
    within = [mistakes[np.ix_(group, group)].sum() for group in groups]
    most = np.argsort(-np.array(within), kind="stable")[:limit]
    return [groups[index] for index in most if within[index]]


def _tree(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Clusters the classes by how large a share of one is taken for the other."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # Linkage wants a symmetric distance, while mistakes are made in one direction more often.
    far = 1 - (shares + shares.T) / 2
    np.fill_diagonal(far, 0)
    tree = hierarchy.linkage(distance.squareform(far), "average", optimal_ordering=True)
    return np.asarray(tree, np.float64)


def _cut(node: hierarchy.ClusterNode, size: int) -> list[list[int]]:
    """The leaves of the largest subtrees of at most `size` of them."""
    if node.get_count() <= size:
        return [node.pre_order()]
    return _cut(node.get_left(), size) + _cut(node.get_right(), size)


def _connected(mistakes: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group without the classes that hardly take part in its mistakes."""
    within = mistakes[np.ix_(group, group)]
    part = within.sum(axis=0) + within.sum(axis=1)
    taking_part: NDArray[np.int64] = group[part >= 0.1 * part.max()]
    return taking_part
