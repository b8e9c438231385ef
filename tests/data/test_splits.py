import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crackflow.data import splits

FRACTIONS = [(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.5, 0.0, 0.5), (0.9, 0.1, 0.0), (1.0, 0.0, 0.0)]


def drawn(seed, count, most):
    """Labels and groups: a group has one to `most` members of one class."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, count)
    group = np.repeat(rng.permutation(count), sizes)
    label = np.repeat(rng.random(count) < rng.uniform(0.1, 0.9), sizes).astype(np.int64)
    order = rng.permutation(len(group))
    return label[order], group[order]


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 9), st.sampled_from(FRACTIONS))
def test_a_group_is_never_cut(seed, count, most, fractions):
    labels, groups = drawn(seed, count, most)
    split = splits.assign(labels, groups, fractions, seed)
    for group in set(groups.tolist()):
        assert len(set(split[groups == group].tolist())) == 1


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from(FRACTIONS))
def test_each_class_is_split_in_the_requested_fractions_to_within_a_group(seed, most, fractions):
    labels, groups = drawn(seed, 200, most)
    split = splits.assign(labels, groups, fractions, seed)
    for label in (0, 1):
        have = np.bincount(split[labels == label], minlength=3)
        target = np.array(fractions) * (labels == label).sum()
        assert np.abs(have - target).max() <= most


@given(st.integers(0, 10**6), st.sampled_from(FRACTIONS))
def test_single_images_even_out_what_large_groups_left_uneven(seed, fractions):
    labels, groups = drawn(seed, 12, 9)
    singles = np.repeat([0, 1], 60)
    labels, groups = np.concatenate([labels, singles]), np.concatenate([groups, 1000 + np.arange(120)])
    split = splits.assign(labels, groups, fractions, seed)
    for label in (0, 1):
        have = np.bincount(split[labels == label], minlength=3)
        assert np.abs(have - np.array(fractions) * (labels == label).sum()).max() <= 1.5


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 30), st.sampled_from(FRACTIONS))
def test_no_requested_split_is_empty_where_there_are_enough_groups(seed, count, most, fractions):
    labels, groups = drawn(seed, count, most)
    have = np.bincount(splits.assign(labels, groups, fractions, seed), minlength=3)
    target = np.count_nonzero(fractions)
    assert np.count_nonzero(have) >= min(target, count)


@given(st.integers(0, 10**6), st.sampled_from(FRACTIONS))
def test_a_part_of_nothing_gets_nothing(seed, fractions):
    labels, groups = drawn(seed, 30, 5)
    have = np.bincount(splits.assign(labels, groups, fractions, seed), minlength=3)
    assert not have[np.array(fractions) == 0].any()


@given(st.integers(0, 10**6))
def test_the_same_seed_gives_the_same_split_and_another_seed_another(seed):
    labels, groups = drawn(seed, 100, 3)
    first = splits.assign(labels, groups, (0.8, 0.1, 0.1), seed)
    np.testing.assert_array_equal(first, splits.assign(labels, groups, (0.8, 0.1, 0.1), seed))
    assert (first != splits.assign(labels, groups, (0.8, 0.1, 0.1), seed + 1)).any()


@given(st.integers(0, 10**6))
def test_renaming_groups_in_their_order_changes_nothing(seed):
    labels, groups = drawn(seed, 40, 3)
    first = splits.assign(labels, groups, (0.6, 0.2, 0.2), seed)
    np.testing.assert_array_equal(first, splits.assign(labels, groups * 7 + 1000, (0.6, 0.2, 0.2), seed))


@given(st.integers(0, 10**6))
def test_twins_counts_the_test_items_whose_picture_is_in_train(seed):
    rng = np.random.default_rng(seed)
    pictures, split = rng.integers(0, 20, 60), rng.integers(0, 3, 60)
    in_train = {picture for picture, part in zip(pictures, split, strict=True) if part == splits.TRAIN}
    expected = [p for p, part in zip(pictures, split, strict=True) if part == splits.TEST and p in in_train]
    assume(expected)
    assert splits.twins(pictures, split) == len(expected)


def test_grouped_splits_have_no_twins():
    labels, groups = drawn(3, 300, 4)
    assert splits.twins(groups, splits.assign(labels, groups, (0.8, 0.1, 0.1), 3)) == 0


def test_nothing_to_split_is_split_into_nothing():
    assert splits.assign(np.zeros(0, np.int64), np.zeros(0, np.int64), (0.8, 0.1, 0.1), 0).tolist() == []


# Few groups, and groups of both classes


def mixed(seed, count, most):
    """Labels and groups: some groups have members of both classes."""
    rng = np.random.default_rng(seed)
    members = rng.integers(0, most + 1, (count, 2)) * rng.integers(0, 2, (count, 2))
    members[members.sum(1) == 0, 0] = 1
    labels = np.concatenate([np.repeat([0, 1], pair) for pair in members])
    return labels, np.repeat(np.arange(count), members.sum(1))


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40), st.sampled_from(FRACTIONS))
def test_each_split_has_each_class_of_which_there_are_groups_enough(seed, count, most, fractions):
    labels, groups = mixed(seed, count, most)
    split = splits.assign(labels, groups, fractions, seed)
    target = np.flatnonzero(fractions)
    for label in (0, 1):
        if len(np.unique(groups[labels == label])) >= len(target):
            assert set(split[labels == label]) == set(target)


@pytest.mark.parametrize(
    ("clean", "cracked", "expected"),
    [
        (30, 3, [(24, 1), (3, 1), (3, 1)]),
        (100, 5, [(80, 3), (10, 1), (10, 1)]),
        (6, 6, [(4, 4), (1, 1), (1, 1)]),
        (3, 3, [(1, 1), (1, 1), (1, 1)]),
        (2, 30, [(2, 24), (0, 3), (0, 3)]),
        (40, 10, [(32, 8), (4, 1), (4, 1)]),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_few_images_of_a_class_are_shared_out(clean, cracked, expected, seed):
    labels = np.repeat([0, 1], [clean, cracked])
    split = splits.assign(labels, np.arange(len(labels)), (0.8, 0.1, 0.1), seed)
    have = [tuple(np.bincount(labels[split == part], minlength=2).tolist()) for part in range(3)]
    assert [have[0], *sorted(have[1:])] == expected


@given(st.integers(0, 10**6), st.integers(8, 60))
def test_no_move_of_one_group_brings_unequal_groups_nearer_to_the_targets(seed, count):
    labels, groups = mixed(seed, count, 200)
    split = splits.assign(labels, groups, (0.8, 0.1, 0.1), seed)
    target = np.outer((0.8, 0.1, 0.1), np.bincount(labels, minlength=2))

    def distance(of):
        have = np.stack([np.bincount(labels[of == part], minlength=2) for part in range(3)])
        return ((have - target) ** 2 / np.maximum(target, 1e-9)).sum() + 1e9 * (have[target > 0] == 0).any()

    have = np.stack([np.bincount(labels[split == part], minlength=2) for part in range(3)])
    if (np.abs(have - target) <= 1.5 + 0.1 * target).all():
        return
    for group in np.unique(groups):
        for part in range(3):
            moved = np.where(groups == group, part, split)
            if len(np.unique(moved)) == 3:
                assert distance(moved) > distance(split) - 1e-6


def test_photographs_of_very_different_size_still_leave_a_tenth_to_test():
    """54 photographs of 100 to 252 tiles, a sixth of them cracked, like the decks of SDNET2018."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(100, 252, 54)
    groups = np.repeat(np.arange(54), sizes)
    labels = (rng.random(len(groups)) < np.repeat(rng.random(54) ** 3 * 0.6, sizes)).astype(int)
    split = splits.assign(labels, groups, (0.8, 0.1, 0.1), 0)
    for label in (0, 1):
        have = np.bincount(split[labels == label], minlength=3) / (labels == label).sum()
        assert have == pytest.approx((0.8, 0.1, 0.1), abs=0.02)


def test_thin_splits_are_those_with_fewer_than_ten_of_a_class():
    counts = {"train": {"a": 100, "b": 10}, "val": {"a": 10, "b": 9}, "test": {"a": 0, "b": 0}}
    assert splits.thin(counts) == {"val": {"b": 9}, "test": {"a": 0, "b": 0}}


@pytest.mark.parametrize(
    "images, expected", [(40, (28, 8, 4)), (98, (69, 20, 9)), (100, (80, 10, 10)), (1000, (800, 100, 100))]
)
def test_a_small_set_gives_more_to_validation(images, expected):
    labels = np.arange(images) % 2
    split = splits.assign(labels, np.arange(images), splits.default_fractions(images), seed=0)
    counts = np.bincount(split, minlength=3)
    assert np.abs(counts - expected).max() <= 1
