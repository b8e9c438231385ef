"""Link items that match, without comparing all pairs of a dense cluster.

Synopsis::

    links = duplicate_search.links(features, radius, may_match, matches)     # int64 [M, 2]: pairs that match

Two items match when `matches` says so; it is exact, but slow per pair. The features of two items that match are no
farther apart than the `radius` of each. Groups are the connected components of the matches. They are found without
evaluating most of the matches: 100,000 nearly equal frames have 5 x 10^9.

Method. The leaves of a k-d tree are boxes of near neighbours. Two boxes are compared if the distance between them
allows a match. Union-find skips pairs that are already in one component: two boxes that each lie in the same component
as a whole, and columns that lie in the component of all rows. A few rows of each large component, its leaders, are
compared first, because they usually connect everything that can be connected. The remaining pairs are compared as a
matrix of rows by columns: first by the distances of their features and, where many of these are small enough, by
`may_match`. `matches` decides on the pairs that are left, one per column at a time; each match makes others redundant.

The search is exact: a pair is skipped only if its items are in one component or cannot match. Memory is bounded by a
matrix of ROWS x COLUMNS and O(N) arrays. Time is linear for frames that match, and N^2 / 2 matrix elements for frames
so alike that only `may_match` can tell them apart.
"""

from collections.abc import Callable, Iterator

import numpy as np

ROWS = 256  # maximum number of items per box
COLUMNS = 4096  # number of items compared with a box at a time
LEADERS = 16  # number of rows of a component that are compared first
# `may_match` on a whole matrix takes 40 ns per element, `matches` 2 us per pair (benchmarks/results/frames.json).
DENSE_FRACTION = 0.02
PENDING = 4_000  # number of candidates decided at once: 2 MB of thumbnails per side

Matrix = Callable[[np.ndarray, np.ndarray], np.ndarray]


def links(features: np.ndarray, radius: np.ndarray, may_match: Matrix, matches: Matrix) -> np.ndarray:
    """Returns matching pairs that connect every group of items.

    Args:
        features: float32 [N, K].
        radius: float64 [N]. Items that match are no farther apart than the radius of each.
        may_match: `may_match(rows, columns)` returns bool [R, C], true for all pairs that match and few others.
        matches: `matches(left, right)` returns bool [P] for P pairs with left < right.

    Returns:
        int64 [M, 2] with M < N: pairs of items, a spanning forest of the matches.
    """
    search = _Search(features, radius, may_match, matches)
    search.run()
    return np.array(search.joined, np.int64).reshape(-1, 2)


class Components:
    """Union-find over `count` items."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def roots(self, items: np.ndarray) -> np.ndarray:
        """Returns int64 [N]: for each of `items`, the representative of its component."""
        root = self._parent[items]
        while not np.array_equal(above := self._parent[root], root):
            root = above
        self._parent[items] = root
        return root

    def join(self, a: int, b: int) -> bool:
        """Joins the components of `a` and `b`; returns whether they were different."""
        low, high = sorted((self._root(a), self._root(b)))
        self._parent[high] = low
        return low != high

    def _root(self, item: int) -> int:
        while (above := int(self._parent[item])) != item:
            self._parent[item] = self._parent[above]
            item = above
        return item


class _Search:
    """State of one search. Items are numbered by their index in `order`, which sorts them by box."""

    def __init__(self, features: np.ndarray, radius: np.ndarray, may_match: Matrix, matches: Matrix) -> None:
        self.order, self.starts = boxes(features)
        self.components = Components(len(features))
        self.joined: list[tuple[int, int]] = []
        self._may_match, self._matches = may_match, matches
        self._pending: list[np.ndarray] = []
        points = (features - features.mean(0, keepdims=True))[self.order] if len(features) else features
        self._radius = radius[self.order]
        self._left, self._right = _distance_factors(points, self._radius)
        if len(points):
            self._low = np.minimum.reduceat(points, self.starts[:-1])
            self._high = np.maximum.reduceat(points, self.starts[:-1])
            self._reach = np.maximum.reduceat(self._radius, self.starts[:-1])
        self._is_single_component = np.zeros(len(self.starts) - 1, bool)  # whether a box lies in one component

    def run(self) -> None:
        for box in range(len(self.starts) - 1):
            rows, own = self._items(box), np.array([box])
            self._mark_single_component_boxes(own, rows)
            if not self._is_single_component[box]:
                self._compare(rows, rows)
                self._mark_single_component_boxes(own, rows)
            near_boxes = self._near_boxes(box)
            columns = (
                np.concatenate([self._items(near_box) for near_box in near_boxes]) if len(near_boxes) else rows[:0]
            )
            for start in range(0, len(columns), COLUMNS):
                self._compare_by_component(rows, columns[start : start + COLUMNS])
            self._mark_single_component_boxes(near_boxes, columns)
        self._decide_pending()

    def _items(self, box: int) -> np.ndarray:
        return np.arange(self.starts[box], self.starts[box + 1])

    def _mark_single_component_boxes(self, box_numbers: np.ndarray, items: np.ndarray) -> None:
        """Updates which of the boxes `box_numbers`, whose items are `items`, lie in a single component."""
        if len(box_numbers):
            roots, lengths = self.components.roots(items), np.diff(self.starts)[box_numbers]
            starts = np.cumsum(lengths) - lengths
            self._is_single_component[box_numbers] = np.minimum.reduceat(roots, starts) == np.maximum.reduceat(
                roots, starts
            )

    def _near_boxes(self, box: int) -> np.ndarray:
        """int64 [B]: later boxes that may contain, in another component, a match of an item of `box`."""
        later = slice(box + 1, None)
        gap = np.maximum(self._low[later] - self._high[box], self._low[box] - self._high[later])
        square = (np.maximum(gap, 0).astype(np.float64) ** 2).sum(1)
        reach = np.minimum(self._reach[box], self._reach[later])
        near = box + 1 + np.flatnonzero(square <= reach**2 * 1.001 + 1e-3)
        if not self._is_single_component[box]:
            return near
        own_root, *near_roots = self.components.roots(self.starts[np.append(box, near)]).tolist()
        return near[~(self._is_single_component[near] & (np.array(near_roots, np.int64) == own_root))]

    def _compare_by_component(self, rows: np.ndarray, columns: np.ndarray) -> None:
        for row_part in self._split_by_component(rows):
            roots = self.components.roots(row_part)
            apart = columns if (roots != roots[0]).any() else columns[self.components.roots(columns) != roots[0]]
            if len(apart):
                self._compare(row_part, apart)

    def _split_by_component(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yields parts of `rows`: the leaders and the rest of each large component, then all others together."""
        roots, inverse, counts = np.unique(self.components.roots(rows), return_inverse=True, return_counts=True)
        large = counts >= 2 * LEADERS
        for number in np.flatnonzero(large):
            members = rows[inverse == number]
            yield members[:LEADERS]
            yield members[LEADERS:]
        if not large.all():
            yield rows[~large[inverse]]

    def _compare(self, rows: np.ndarray, columns: np.ndarray) -> None:
        near = self._left[rows] @ self._right[columns].T <= 0
        if rows is columns:
            near = np.triu(near, 1)
        count = np.count_nonzero(near)
        if count > DENSE_FRACTION * near.size:
            self._decide_matrix(rows, columns, near)
        elif count:
            row_positions, column_positions = np.divmod(np.flatnonzero(near), len(columns))
            self._pending.append(np.stack([rows[row_positions], columns[column_positions]], 1))
            if sum(map(len, self._pending)) >= PENDING:
                self._decide_pending()

    def _decide_pending(self) -> None:
        if self._pending:
            pairs = np.concatenate(self._pending)
            self._pending.clear()
            for start in range(0, len(pairs), PENDING):
                undecided = pairs[start : start + PENDING]
                undecided = undecided[self.components.roots(undecided[:, 0]) != self.components.roots(undecided[:, 1])]
                self._decide(undecided[:, 0], undecided[:, 1])

    def _decide_matrix(self, rows: np.ndarray, columns: np.ndarray, near: np.ndarray) -> None:
        rows_left, columns_left = near.any(1), near.any(0)
        rows, columns, near = rows[rows_left], columns[columns_left], near[rows_left][:, columns_left]
        near &= self._may_match(self.order[rows], self.order[columns])
        while near.any():
            near &= self.components.roots(rows)[:, None] != self.components.roots(columns)
            column = np.flatnonzero(near.any(0))
            row = near[:, column].argmax(0)
            near[row, column] = False
            self._decide(rows[row], columns[column])

    def _decide(self, left: np.ndarray, right: np.ndarray) -> None:
        left_items, right_items = self.order[left], self.order[right]
        is_match = (
            self._matches(np.minimum(left_items, right_items), np.maximum(left_items, right_items))
            if len(left_items)
            else np.zeros(0, bool)
        )
        for left_item, right_item in zip(left[is_match].tolist(), right[is_match].tolist(), strict=True):
            if self.components.join(left_item, right_item):
                self.joined.append((int(self.order[left_item]), int(self.order[right_item])))


def boxes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups neighbours into boxes of at most `ROWS` items.

    Args:
        features: float32 [N, K].

    Returns:
        (int64 [N] items sorted by box, int64 [B + 1] start of each box).
    """
    leaves, pending = [], [np.arange(len(features))]
    while pending:
        items = pending.pop()
        if len(items) <= ROWS:
            leaves.append(items)
            continue
        points = features[items]
        values = points[:, np.ptp(points, axis=0).argmax()]
        split = np.argpartition(values, len(items) // 2)
        pending += [items[split[len(items) // 2 :]], items[split[: len(items) // 2]]]
    starts = np.cumsum([0] + [len(leaf) for leaf in leaves if len(leaf)])
    return np.concatenate(leaves), starts


def _distance_factors(points: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two float32 [N, K + 2] factors of the matrix of squared distances less the limit.

    The product of a row of the first factor with a row of the second is at most 0 if the points are no farther apart
    than the radius of the first. A float32 sum of K products has an error of at most K 6e-8 of their size.
    """
    square = (points.astype(np.float64) ** 2).sum(1)
    limit = radius.astype(np.float64) ** 2 * 1.001 + 1e-4 * square + 1e-3
    ones = np.ones(len(points))
    left = np.concatenate([points, np.stack([square - limit, ones], 1)], 1)
    right = np.concatenate([-2 * points, np.stack([ones, square], 1)], 1)
    return left.astype(np.float32), right.astype(np.float32)
