import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crackflow.conversion import duplicate_search, near_duplicates

KINDS = ("sparse", "one dense cluster", "dense clusters and others", "chain", "grid", "equal", "close but unlike")


def scene(kind, seed, count):
    """float32 [N, 3] points and int64 [N] colours: two match within a distance of 1 if their colours are equal."""
    rng = np.random.default_rng(seed)
    colour = np.zeros(count, np.int64)
    if kind == "sparse":
        points = rng.uniform(0, 12, (count, 3))
    elif kind == "one dense cluster":
        points = rng.normal(0, rng.uniform(0.01, 0.8), (count, 3))
    elif kind == "dense clusters and others":
        centres = rng.uniform(0, 8, (4, 3))
        points = centres[rng.integers(4, size=count)] + rng.normal(0, rng.choice([0.02, 0.3]), (count, 3))
        others = rng.random(count) < 0.2
        points[others] = rng.uniform(-2, 10, (others.sum(), 3))
    elif kind == "chain":
        points = np.zeros((count, 3))
        points[:, 0] = np.cumsum(rng.choice([0.2, 0.97, 1.03], count, p=[0.5, 0.45, 0.05]))
    elif kind == "grid":
        points = rng.integers(0, 9, (count, 3)) * 1.02
    elif kind == "equal":
        points = rng.integers(0, 3, (count, 3)) * 0.7
    else:
        points, colour = rng.normal(0, 0.2, (count, 3)), rng.integers(0, count, count)
    return points[rng.permutation(count)].astype(np.float32), colour


def distances(points, rows, columns):
    return np.sqrt(((points[rows][:, None].astype(np.float64) - points[columns]) ** 2).sum(-1))


class Relation:
    """Counts its evaluations; with `sloppy` > 0, `may_match` is also true for some pairs that do not match."""

    def __init__(self, points, colour, sloppy=0.0):
        self.points, self.colour, self.sloppy, self.pairs, self.elements = points, colour, sloppy, 0, 0

    def may_match(self, rows, columns):
        self.elements += len(rows) * len(columns)
        alike = self.colour[rows][:, None] == self.colour[columns]
        return alike & (distances(self.points, rows, columns) <= 1 + self.sloppy)

    def matches(self, left, right):
        assert (left < right).all()
        self.pairs += len(left)
        square = ((self.points[left].astype(np.float64) - self.points[right]) ** 2).sum(-1)
        return (square <= 1) & (self.colour[left] == self.colour[right])

    def links(self, features=None):
        features = self.points if features is None else features
        return duplicate_search.links(features, np.ones(len(features)), self.may_match, self.matches)

    def all_pairs(self):
        items = np.arange(len(self.points))
        same = (distances(self.points, items, items) <= 1) & (self.colour[:, None] == self.colour)
        return near_duplicates.connect(len(items), np.argwhere(same))


@pytest.fixture
def small_parts(monkeypatch):
    for name, value in (("ROWS", 12), ("COLUMNS", 40), ("LEADERS", 3), ("PENDING", 50)):
        monkeypatch.setattr(duplicate_search, name, value)


@settings(max_examples=120, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10**6), count=st.integers(1, 250), small=st.booleans())
def test_groups_are_those_of_comparing_all_pairs(kind, seed, count, small):
    points, colour = scene(kind, seed, count)
    relation = Relation(points, colour, sloppy=0.3 * (seed % 2))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in [("ROWS", 12), ("COLUMNS", 40), ("LEADERS", 3), ("PENDING", 50)] * small:
            patch.setattr(duplicate_search, name, value)
        links = relation.links(points[:, : 1 + seed % 3])  # fewer features: never farther apart than the points
    assert near_duplicates.connect(count, links).tolist() == relation.all_pairs().tolist()
    assert len(links) == count - len(np.unique(relation.all_pairs()))


def test_no_items_have_no_links():
    assert Relation(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)).links().shape == (0, 2)


@pytest.mark.parametrize("spread", [0.01, 0.2, 0.45])
def test_work_on_a_dense_cluster_grows_with_the_number_of_its_items(spread):
    counts = (2_000, 16_000)
    work = []
    for count in counts:
        points = np.random.default_rng(0).normal(0, spread, (count, 3)).astype(np.float32)
        relation = Relation(points, np.zeros(count, np.int64))
        links = relation.links()
        assert len(np.unique(near_duplicates.connect(count, links))) <= 5
        work.append((relation.elements, relation.pairs))
    # Linear: eight times as many. All pairs would be 64 times as many.
    assert work[1][0] <= 10 * work[0][0] <= 10 * 300 * counts[0]
    assert work[1][1] <= 3 * counts[1]


def test_a_matrix_at_a_time_is_no_larger_than_a_box_by_columns(small_parts):
    relation = Relation(*scene("close but unlike", 0, 400))
    largest = []
    relation.may_match = lambda rows, columns: (
        largest.append(len(rows) * len(columns)) or np.zeros((len(rows), len(columns)), bool)
    )
    relation.links()
    assert max(largest) <= 12 * 40


def test_boxes_hold_every_item_once_and_neighbours_together():
    points = np.random.default_rng(0).uniform(0, 1, (5_000, 2)).astype(np.float32)
    order, starts = duplicate_search.boxes(points)
    assert sorted(order.tolist()) == list(range(5_000))
    sizes = np.diff(starts)
    assert sizes.max() <= duplicate_search.ROWS and sizes.min() >= duplicate_search.ROWS // 4
    spreads = [np.ptp(points[order[a:b]], axis=0).max() for a, b in zip(starts[:-1], starts[1:], strict=True)]
    assert max(spreads) < 0.5


def test_components_join_and_tell_roots():
    components = duplicate_search.Components(6)
    assert components.join(4, 2) and components.join(2, 0) and not components.join(0, 4)
    assert components.roots(np.arange(6)).tolist() == [0, 1, 0, 3, 0, 5]
