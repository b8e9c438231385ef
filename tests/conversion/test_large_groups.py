import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.conversion import large_groups
from crackflow.core.config.data import GroupBy
from crackflow.data import splits
from tests.helpers import support

CLASSES = ("clean", "cracked")
DEFAULT = (0.8, 0.1, 0.1)


def images_of(sizes, fractions=DEFAULT, near_groups=None):
    """Images in groups of `sizes` (label, images), one file per image, split as convert does."""
    labels = np.repeat([label for label, _ in sizes], [size for _, size in sizes])
    groups = np.repeat(np.arange(len(sizes)), [size for _, size in sizes])
    split = splits.assign(labels, groups, fractions, seed=0)
    files = np.arange(len(labels))
    return large_groups.Images(labels, groups, split, files, groups if near_groups is None else near_groups)


def advice(images, fractions=(), by=GroupBy.NEAR_DUPLICATES):
    paths = [f"{CLASSES[label]}/{number}.jpg" for number, label in enumerate(images.labels)]
    return large_groups.advice(images, paths, fractions, 0, CLASSES, by)


@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 12), st.integers(1, 40))
def test_at_most_so_many_of_a_picture_and_class_stay_and_they_are_spread_evenly(seed, count, different, limit):
    rng = np.random.default_rng(seed)
    near_groups, labels = rng.integers(0, different, count), rng.integers(-1, 2, count)
    left_out = set(large_groups.surplus(near_groups, labels, limit).tolist())
    members = collections.defaultdict(list)
    for row, key in enumerate(zip(near_groups.tolist(), labels.tolist(), strict=True)):
        members[key].append(row)
    for rows in members.values():
        ranks = [number for number, row in enumerate(rows) if row not in left_out]
        assert len(ranks) == min(limit, len(rows))
        assert ranks[0] == 0
        steps = np.diff([*ranks, len(rows)])
        assert steps.max() - steps.min() <= 1


def test_many_different_pictures_need_no_advice():
    assert advice(images_of([(0, 1)] * 200 + [(1, 3)] * 60)) == []


def test_a_group_that_a_split_can_hold_needs_no_advice():
    assert advice(images_of([(0, 1)] * 100 + [(1, 1)] * 60 + [(1, 90)])) == []


def test_a_few_images_are_no_large_group():
    assert advice(images_of([(0, 5), (1, 5)])) == []


def test_a_group_larger_than_training_is_told_with_numbers_and_a_limit_that_helps():
    sizes = [(0, 1)] * 400 + [(1, 600)] + [(1, 1)] * 60
    problem, remedy = advice(images_of(sizes))
    assert (
        "600 of 660 images of 'cracked' look alike and stay in one split, train, which leaves 30 of 66 for val"
        in problem
    )
    assert "'cracked/400.jpg' and 'cracked/999.jpg'" in problem
    assert "--max_near_copies=200 (" in remedy and "--group_by=content" in remedy
    assert "\n" not in problem + remedy
    after = images_of([(label, min(size, 200)) for label, size in sizes])
    assert advice(after) == []
    counts = [np.sum((after.split == part) & (after.labels == 1)) for part in range(3)]
    assert counts == [208, 26, 26]


def test_both_classes_are_told_and_no_limit_is_offered_where_none_helps():
    problem, remedy = advice(images_of([(0, 4000), (1, 3000)]))
    assert "4,000 of 4,000 images of 'clean'" in problem and "3,000 of 3,000 images of 'cracked'" in problem
    assert "too few different ones" in remedy and "max_near_copies" not in remedy


def test_windows_of_one_photograph_are_not_said_to_look_alike():
    sizes = [(0, 1)] * 100 + [(1, 90)] + [(1, 1)] * 6
    by_name = images_of(sizes, near_groups=np.arange(196))
    problem, remedy = advice(by_name)
    assert "windows of one photograph by their names" in problem and "--group_by_name=false" in remedy
    one_file = large_groups.Images(by_name.labels, by_name.groups, by_name.split, by_name.groups, by_name.groups)
    problem, remedy = advice(one_file)
    assert "are windows of one photograph and stay" in problem and problem.endswith("such as 'cracked/100.jpg'")
    assert remedy == "add photographs of other places"


def test_byte_copies_are_called_so_and_where_nothing_stays_together_nothing_is_told():
    images = images_of([(0, 1)] * 100 + [(1, 90)] + [(1, 1)] * 6)
    problem, remedy = advice(images, by=GroupBy.CONTENT)
    assert "are byte copies" in problem and "--group_by=content" not in remedy
    assert advice(images, by=GroupBy.NONE) == []


@pytest.mark.parametrize("fractions", [(0.9, 0.1, 0.0), (0.5, 0.0, 0.5)])
def test_a_split_that_nobody_asked_for_lacks_nothing(fractions):
    problem, _ = advice(images_of([(0, 1)] * 100 + [(1, 97)] + [(1, 1)] * 3, fractions), fractions)
    unasked = splits.NAMES[fractions.index(0)]
    assert f"for {unasked}" not in problem


# The whole conversion


def frames(root, pattern, picture, count, seed=0):
    """Writes `count` frames of a fixed camera: one picture with independent noise."""
    for number in range(count):
        noise = np.random.default_rng([seed, number]).normal(0, 3, (64, 64, 3))
        frame = np.clip(support.picture(picture) + noise, 0, 255).astype(np.uint8)
        support.put(root / pattern.format(number), support.encoded(frame, quality=90))


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """24 different images and 130 frames of one cracked wall."""
    root = support.photos(tmp_path_factory.mktemp("camera"), 24)
    frames(root, "Positive/cam_{:03d}.jpg", 500, 130)
    return root


def test_convert_warns_of_a_camera_and_the_flag_that_it_names_mends_the_splits(camera, tmp_path, capsys):
    before = support.converted(camera, tmp_path / "before", split=DEFAULT)
    output = capsys.readouterr().err.splitlines()
    assert output[0].startswith("warning: 130 of 142 images of 'Positive' look alike")
    assert "--max_near_copies=" in output[1]
    assert before["leaks"]["near_copies"] == 129 and "surplus" not in before["leaks"]
    limit = int(output[1].split("--max_near_copies=")[1].split(" ")[0])
    before_files = support.tree(camera)
    after = support.converted(camera, tmp_path / "after", split=DEFAULT, max_near_copies=limit)
    output = capsys.readouterr()
    assert (
        "look alike" not in output.err and f"left out: {130 - limit} near copies beyond --max_near_copies" in output.out
    )
    assert after["leaks"]["surplus"] == 130 - limit == after["rejected"]
    assert support.tree(camera) == before_files
    rejected = support.rows(tmp_path / "after", "rejected.csv")
    assert {row["reason"] for row in rejected} == {
        f"one of 130 near copies, such as 'Positive/cam_000.jpg', of which --max_near_copies={limit} keeps {limit} "
        "of a class"
    }
    accepted = {row["path"] for row in support.rows(tmp_path / "after", "groups.csv")}
    assert len([path for path in accepted if "cam_" in path]) == limit and "Positive/cam_000.jpg" in accepted
    assert accepted.isdisjoint(row["path"] for row in rejected)
    again = support.converted(camera, tmp_path / "again", split=DEFAULT, max_near_copies=limit)
    assert again["fingerprint"] == after["fingerprint"]


def test_a_camera_that_saw_a_crack_appear_is_told_which_flag_keeps_its_frames(tmp_path, capsys):
    frames(tmp_path / "in", "Negative/cam_{:03d}.jpg", 500, 15)
    frames(tmp_path / "in", "Positive/later_{:03d}.jpg", 500, 15, seed=1)
    arguments = [f"--images={tmp_path / 'in'}", f"--out={tmp_path / 'out'}", "--workers=1"]
    done = support.called("convert", *arguments)
    assert done.returncode == 2
    assert "30 images that look alike are in both classes, such as 'Negative/cam_000.jpg' and" in done.stderr
    assert "--group_by=content" in done.stderr and done.stderr.count("\n") == 1
    assert support.called("convert", *arguments, "--group_by=content").returncode == 0


def test_a_single_file_in_both_classes_is_no_camera():
    near_groups, labels = np.array([0, 0, 2]), np.array([0, 1, 1])
    assert large_groups.conflict_advice(["a", "b", "c"], near_groups, labels, [0, 1]) == ""
    assert large_groups.conflict_advice(["a"], near_groups, labels, []) == ""
