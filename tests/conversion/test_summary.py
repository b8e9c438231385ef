import collections

import pytest

from crackflow.conversion import shards, summary
from crackflow.conversion.scan import ScanResult
from crackflow.core.config.data import ConvertConfig, Encoding
from crackflow.core.errors import UserError
from tests.helpers import support

ENTRIES = {"train": [shards.SourceImage("a.jpg", 1, 0, b"", True), shards.SourceImage("b.png", 0, 1, b"", False)]}


def plan_encoding(sizes, is_cut=False, colour=1, **settings):
    scan_result = ScanResult(accepted=[0, 1], sizes=collections.Counter(sizes), colour=colour, stored_bytes=20_000)
    return summary.plan_encoding(ConvertConfig("in", "out", **settings), is_cut, scan_result, ENTRIES)


def plain(encoding_plan):
    return [entry.can_store_as_is for entry in encoding_plan.entries["train"]]


@pytest.mark.parametrize(
    ("sizes", "settings", "image_px", "passes"),
    [
        ({(64, 64): 2}, {}, 64, True),
        ({(64, 48): 2}, {}, 0, True),
        ({(64, 64): 1, (32, 32): 1}, {}, 0, True),
        ({(64, 64): 2}, {"image_px": 64}, 64, True),
        ({(64, 64): 2}, {"image_px": 32}, 32, False),
        ({(64, 64): 1, (32, 32): 1}, {"image_px": 32}, 32, False),
        ({(64, 64): 2}, {"encoding": Encoding.PNG}, 64, False),
        ({(64, 64): 2}, {"encoding": Encoding.RAW}, 64, False),
    ],
)
def test_bytes_pass_through_only_when_neither_size_nor_encoding_changes(sizes, settings, image_px, passes):
    encoding_plan = plan_encoding(sizes, **settings)
    assert encoding_plan.image_px == image_px
    assert plain(encoding_plan) == [passes, False]


def test_windows_are_always_encoded_anew_and_have_the_size_of_the_window():
    encoding_plan = plan_encoding({(64, 64): 2}, is_cut=True, patch_px=32)
    assert (encoding_plan.image_px, plain(encoding_plan)) == (32, [False, False])


def test_whole_photographs_in_class_folders_are_said_to_lose_their_fine_cracks():
    scan_result = ScanResult(
        sizes=collections.Counter({(4032, 3024): 7, (512, 4000): 2}), notes=collections.Counter({"turned": 3})
    )
    notes = summary.notes(False, scan_result)
    (large,) = set(notes) - {"turned"}
    assert notes == {"turned": 3, large: 7}
    assert "larger than 512 pixels: each is one window to a network" in large and "draw masks" in large
    assert summary.notes(True, scan_result) == scan_result.notes  # cut to windows


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (1, 3)])
def test_one_coloured_picture_makes_all_records_coloured(colour, channels):
    assert plan_encoding({(64, 64): 2}, colour=colour).options.channels == channels


def test_raw_pixels_of_several_sizes_are_refused():
    with pytest.raises(UserError, match="expected images of one square size, found 64 x 48; add --image_px=..."):
        plan_encoding({(64, 48): 2}, encoding=Encoding.RAW)


def test_the_words_at_the_end_tell_counts_leaks_and_what_was_left_out(tmp_path, capsys):
    root = support.photos(tmp_path / "photos", 20)
    support.put(root / "Positive/bad.jpg", b"")
    support.put(root / "Positive/torn.jpg", (root / "Negative/00000.jpg").read_bytes())
    support.put(root / "Negative/again.jpg", (root / "Negative/00002.jpg").read_bytes())
    support.put(root / "Negative/grey.png", support.encoded(support.picture(80), "PNG", "RGBA"))
    facts = support.converted(root, tmp_path / "out")
    output = capsys.readouterr().out
    counts = ", ".join(f"{name} {facts['splits'][name]['count']}" for name in ("train", "val", "test"))
    assert output.startswith("21 images in ") and counts in output
    line = next(line for line in output.splitlines() if line.startswith("classes: "))
    for name, split in facts["splits"].items():
        class_counts = split["class_counts"]
        assert f"{name} {class_counts['Negative']} Negative, {class_counts['Positive']} Positive" in line
    assert "copies: 1 byte copies, 0 near copies; 20 groups that stay together (near_duplicates)" in output
    assert "this split: 0" in output
    assert "left out: 2 files whose picture is found in both classes" in output
    assert "rejected: 3 files, each with its reason in rejected.csv" in output
    assert "note: 1 laid over white where transparent" in output
    assert output.endswith(f"fingerprint {facts['fingerprint'][:12]}\n")


def test_without_a_test_split_nothing_is_said_of_what_would_have_leaked_into_it(tmp_path, capsys):
    root = support.photos(tmp_path / "photos", 20)
    for split, is_reported in (((0.5, 0.25, 0.25), True), ((0.5, 0.5, 0), False)):
        support.converted(root, tmp_path / str(is_reported), split=split)
        assert ("leaks: " in capsys.readouterr().out) == is_reported


def counted(groups=100, **class_counts):
    splits = {name: {"class_counts": dict(zip("ab", counts, strict=True))} for name, counts in class_counts.items()}
    return {"splits": splits, "leaks": {"groups": groups, "images": 100}}


def test_a_line_tells_each_split_that_has_none_or_few_of_a_class():
    facts = counted(train=(80, 10), val=(9, 0), test=(10, 1))
    line = summary.thin_splits(facts, ["train", "val", "test"])
    assert line.startswith("val has 9 of 'a' and none of 'b', test has 1 of 'b': expected 10 or more of each class")
    assert "\n" not in line and "copies and windows" not in line
    assert summary.thin_splits(facts, ["train"]) == ""
    assert "copies and windows of one photograph stay together" in summary.thin_splits(counted(9, val=(9, 0)), ["val"])
