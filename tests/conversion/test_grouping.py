import collections
import csv

import pytest

from crackflow.core.config.data import GroupBy
from tests.helpers import support


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """20 pictures: byte copies of the first 8, mirrored copies of the next 4; 00000 is in both classes."""
    root = support.photos(tmp_path_factory.mktemp("copies"), 20)
    for number in range(8):
        name = f"{support.CLASSES[number % 2]}/{number:05d}"
        support.put(root / f"{name}_again.jpg", (root / f"{name}.jpg").read_bytes())
    for number in range(8, 12):
        mirrored = support.encoded(support.picture(number)[:, ::-1], quality=80)
        support.put(root / f"{support.CLASSES[number % 2]}/{number:05d}_mirrored.jpg", mirrored)
    support.put(root / "Positive/torn.jpg", (root / "Negative/00000.jpg").read_bytes())
    return root


def groups_of(out):
    """The sorted names of each group, read from groups.csv only."""
    members = collections.defaultdict(set)
    for row in support.rows(out, "groups.csv"):
        members[row["group"]].add(row["path"].split("/")[1].removesuffix(".jpg"))
    return sorted(map(sorted, members.values()))


def several(groups):
    return [group for group in groups if len(group) > 1]


BYTES = [[f"{number:05d}", f"{number:05d}_again"] for number in range(1, 8)]
MIRRORED = [[f"{number:05d}", f"{number:05d}_mirrored"] for number in range(8, 12)]


def test_near_duplicates_keeps_byte_copies_and_mirrored_copies_together(photos, tmp_path):
    facts = support.converted(photos, tmp_path / "out")
    assert several(groups_of(tmp_path / "out")) == BYTES + MIRRORED
    counts = facts["leaks"]
    assert (counts["byte_copies"], counts["near_copies"], counts["conflicts"]) == (7, 4, 3)
    assert (counts["images"], counts["groups"], counts["split_twins"]) == (30, 19, 0)


def test_content_keeps_byte_copies_together_and_counts_the_mirrored_ones(photos, tmp_path):
    facts = support.converted(photos, tmp_path / "out", group_by=GroupBy.CONTENT, split=(0.5, 0.0, 0.5))
    assert several(groups_of(tmp_path / "out")) == BYTES
    assert facts["leaks"]["near_copies"] == 4
    split = {row["path"].split("/")[1]: row["split"] for row in support.rows(tmp_path / "out", "groups.csv")}
    apart = [pair for pair in MIRRORED if {split[f"{name}.jpg"] for name in pair} == {"train", "test"}]
    assert apart and facts["leaks"]["split_twins"] == len(apart)


def test_none_keeps_nothing_together_but_still_refuses_a_file_in_both_classes(photos, tmp_path):
    facts = support.converted(photos, tmp_path / "out", group_by=GroupBy.NONE)
    assert several(groups_of(tmp_path / "out")) == []
    assert facts["leaks"]["conflicts"] == 3
    rejected = {row["path"] for row in support.rows(tmp_path / "out", "rejected.csv")}
    assert rejected == {"Negative/00000.jpg", "Negative/00000_again.jpg", "Positive/torn.jpg"}


def test_each_file_of_a_torn_picture_names_one_in_the_other_class(photos, tmp_path):
    support.converted(photos, tmp_path / "out")
    reasons = {row["path"]: row["reason"] for row in support.rows(tmp_path / "out", "rejected.csv")}
    assert "the same picture is in the other class: 'Positive/torn.jpg'" == reasons["Negative/00000_again.jpg"]
    assert "the same picture is in the other class: 'Negative/00000.jpg'" == reasons["Positive/torn.jpg"]


# The real METU images, compared with an independent list of copies


@pytest.fixture(scope="module")
def oracle(real_data):
    """path -> group, found by comparing 24 x 24 thumbnails."""
    with open(real_data("metu_groups.csv"), newline="") as file:
        return {f"{row['class']}/{row['file']}": row["group"] for row in csv.DictReader(file)}


@pytest.mark.slow
def test_no_picture_of_the_oracle_is_in_two_splits_of_metu(metu, oracle):
    out, _ = metu
    splits_of = collections.defaultdict(set)
    for row in support.rows(out, "groups.csv"):
        splits_of[oracle[row["path"]]].add(row["split"])
    assert len(splits_of) > 5000
    assert not [group for group, splits in splits_of.items() if len(splits) > 1]


def test_at_most_one_percent_of_the_oracles_pictures_are_joined(metu, oracle):
    out, _ = metu
    holds = collections.defaultdict(set)
    for row in support.rows(out, "groups.csv"):
        holds[row["group"]].add(oracle[row["path"]])
    joined = {group for groups in holds.values() if len(groups) > 1 for group in groups}
    assert len(joined) <= 0.01 * len(set(oracle.values()))


def test_metus_leak_counts_equal_a_recount_from_its_groups(metu):
    out, facts = metu
    rows = support.rows(out, "groups.csv")
    in_split = collections.defaultdict(set)
    for row in rows:
        in_split[row["split"]].add(row["group"])
    counts = facts["leaks"]
    hashes = {row["path"]: row["sha256"] for row in support.rows(out, "manifest.csv")}
    assert counts["images"] == len(rows) == len(hashes)
    assert counts["groups"] == len({row["group"] for row in rows})
    assert counts["byte_copies"] == len(hashes) - len(set(hashes.values()))
    assert counts["byte_copies"] + counts["near_copies"] == len(rows) - counts["groups"]
    assert counts["split_twins"] == len(in_split["train"] & in_split["test"]) == 0
    assert counts["random_split_test"] == facts["splits"]["test"]["count"]


def test_a_random_split_of_metu_would_have_leaked_as_often_as_its_groups_say(metu):
    out, facts = metu
    rows = support.rows(out, "groups.csv")
    size = collections.Counter(row["group"] for row in rows)
    # Each of the k-1 others of a group is in train with probability 0.8.
    expected = sum(1 - 0.2 ** (size[row["group"]] - 1) for row in rows) / len(rows)
    counts = facts["leaks"]
    assert counts["random_split_twins"] / counts["random_split_test"] == pytest.approx(expected, abs=0.05)


def test_metu_is_split_in_the_asked_parts_within_each_class(metu):
    _, facts = metu
    totals = collections.Counter()
    for split in facts["splits"].values():
        totals.update(split["class_counts"])
    for name, part in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        for kind, total in totals.items():
            assert facts["splits"][name]["class_counts"][kind] == pytest.approx(part * total, abs=10)
