"""Whole conversions: the same bytes every time, pictures unchanged, windows of masks, SDNET, METU."""

import collections
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from crackflow import convert
from crackflow.core.backend import tf
from crackflow.core.config.data import ConvertConfig, Encoding
from crackflow.data import dataset
from tests.helpers import support

SPLITS = {"train", "val", "test"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return support.photos(tmp_path_factory.mktemp("photos"), 40)


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "out"
    support.converted(photos, out, shards=3)
    return out


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != "dataset.json"}


def test_the_number_of_workers_changes_no_byte(photos, data, tmp_path):
    facts = support.converted(photos, tmp_path / "out", shards=3, workers=3)
    assert files(tmp_path / "out") == files(data)
    assert facts["fingerprint"] == support.converted(photos, tmp_path / "again", shards=3)["fingerprint"]


def test_the_fingerprint_does_not_depend_on_place_or_time_of_the_photographs(photos, data, tmp_path):
    moved = shutil.copytree(photos, tmp_path / "moved")
    for path in moved.rglob("*.jpg"):
        os.utime(path, (1, 1))
    facts = support.converted(str(moved) + "/", tmp_path / "out", shards=3)
    assert files(tmp_path / "out") == files(data)
    assert facts["fingerprint"] == convert.dataset.load(str(data)).metadata["fingerprint"]


def test_another_seed_or_another_picture_gives_another_fingerprint(photos, data, tmp_path):
    fingerprints = {convert.dataset.load(str(data)).metadata["fingerprint"]}
    fingerprints.add(support.converted(photos, tmp_path / "seed", shards=3, seed=1)["fingerprint"])
    more = shutil.copytree(photos, tmp_path / "more")
    support.put(more / "Positive/extra.jpg", support.encoded(support.picture(1000)))
    fingerprints.add(support.converted(more, tmp_path / "extra", shards=3)["fingerprint"])
    assert len(fingerprints) == 3


def test_jpegs_keep_their_bytes_and_labels_and_the_source_stays_as_it_was(photos, tmp_path):
    before = support.tree(photos)
    support.converted(photos, tmp_path / "out")
    assert support.tree(photos) == before
    stored = support.stored(tmp_path / "out")
    assert len(stored) == 40
    for path, fields in stored.items():
        assert fields["image"] == (photos / path).read_bytes()
        assert fields["label"] == path.startswith("Positive")


def test_progressive_jpegs_are_encoded_again(tmp_path):
    root = support.photos(tmp_path / "photos", 4, progressive=True)
    support.converted(root, tmp_path / "out", split=(1.0, 0.0, 0.0))
    for path, fields in support.stored(tmp_path / "out").items():
        assert fields["image"] != (root / path).read_bytes()
        assert not tf.io.is_jpeg(fields["image"]) or b"\xff\xc2" not in fields["image"][:700]
        difference = support.pixels(fields["image"]).astype(int) - support.pixels((root / path).read_bytes())
        assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("image_px", [0, 32])
def test_tensorflow_reads_every_encoding_and_size(photos, tmp_path, encoding, image_px):
    facts = support.converted(photos, tmp_path / "out", encoding=encoding, image_px=image_px)
    px = image_px or 64
    assert (facts["image_px"], facts["encoding"], facts["channels"]) == (px, encoding.value, 3)
    spec = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    names = [str(path) for path in (tmp_path / "out").glob("*.tfrecord")]
    count = 0
    for payload in tf.data.TFRecordDataset(names):
        fields = tf.io.parse_single_example(payload, spec)
        if encoding is Encoding.RAW:
            image = tf.reshape(tf.io.decode_raw(fields["image"], tf.uint8), (px, px, 3))
        else:
            image = tf.io.decode_image(fields["image"])
        assert image.shape == (px, px, 3)
        count += 1
    assert count == 40


def test_grey_photographs_make_records_of_one_channel(tmp_path):
    root = support.photos(tmp_path / "photos", 4)
    for path in root.rglob("*.jpg"):
        support.put(path, support.encoded(support.pixels(path.read_bytes()), mode="L"))
    facts = support.converted(root, tmp_path / "out", encoding=Encoding.RAW)
    assert facts["channels"] == 1
    assert {len(fields["image"]) for fields in support.stored(tmp_path / "out").values()} == {64 * 64}


def test_splits_have_the_asked_sizes_and_both_classes(photos, tmp_path):
    facts = support.converted(photos, tmp_path / "out", split=(0.5, 0.25, 0.25))
    assert {name: split["class_counts"] for name, split in facts["splits"].items()} == {
        "train": {"Negative": 10, "Positive": 10},
        "val": {"Negative": 5, "Positive": 5},
        "test": {"Negative": 5, "Positive": 5},
    }


# Masks


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """12 photographs of 96 x 64 with masks: a thick crack in the left third, a thin one elsewhere, or none."""
    root = tmp_path_factory.mktemp("masked")
    for number in range(12):
        mask = np.zeros((64, 96, 3), np.uint8)
        if number % 3 == 0:
            mask[:, 10:16] = 255
        if number % 3 == 1:
            mask[0:2, 80:84] = 255  # 8 pixels: too few
        support.put(root / f"images/{number:02d}.jpg", support.encoded(support.picture(number, 96, 64)))
        support.put(root / f"masks/{number:02d}.png", support.encoded(mask, "PNG"))
    out = tmp_path_factory.mktemp("patches") / "out"
    return root, out, support.converted(root, out, patch_px=32, min_crack_fraction=0.01, jpeg_quality=98)


def test_windows_are_labelled_by_their_share_of_crack(masked):
    root, out, facts = masked
    for path, fields in support.stored(out).items():
        name, _, box = path.partition("#xywh=")
        x, y, width, height = map(int, box.split(","))
        assert width == height == facts["image_px"] == 32
        mask = support.pixels((root / name.replace("images", "masks").replace("jpg", "png")).read_bytes())[..., 0]
        share = (mask[y : y + 32, x : x + 32] > 127).mean()
        assert fields["label"] == (share >= 0.01)
        assert share >= 0.01 or share == 0


def test_windows_hold_the_pixels_of_their_place(masked):
    root, out, _ = masked
    for path, fields in support.stored(out).items():
        name, _, box = path.partition("#xywh=")
        x, y, px, _ = map(int, box.split(","))
        whole = support.pixels((root / name).read_bytes()).astype(int)
        assert np.abs(support.pixels(fields["image"]) - whole[y : y + px, x : x + px]).mean() < 2.5


def test_unclear_windows_are_in_rejected_csv_and_nowhere_else(masked):
    _, out, facts = masked
    rejected = [row["path"] for row in support.rows(out, "rejected.csv")]
    assert rejected == [f"images/{number:02d}.jpg#xywh=64,0,32,32" for number in (1, 4, 7, 10)]
    stored = set(support.stored(out))
    assert not stored & set(rejected)
    assert len(stored) + len(rejected) == 12 * 6
    assert stored == {row["path"] for row in support.rows(out, "groups.csv")}


def test_all_windows_of_a_photograph_are_in_one_split_and_group(masked):
    _, out, facts = masked
    assignments = collections.defaultdict(set)
    for row in support.rows(out, "groups.csv"):
        assignments[row["path"].split("#")[0]].add((row["group"], row["split"]))
    assert all(len(assigned) == 1 for assigned in assignments.values())
    assert len(assignments) == facts["leaks"]["groups"] == 12
    assert facts["leaks"]["split_twins"] == 0 < facts["leaks"]["random_split_twins"]


def test_a_conversion_of_masks_verifies(masked, capsys):
    convert.run(ConvertConfig(verify=str(masked[1]), workers=1))
    assert "68 images intact" in capsys.readouterr().out


# Real images


def test_deepcrack_becomes_windows_that_verify(real_data, tmp_path, capsys):
    root = tmp_path / "some"
    for kind, end in (("images", "jpg"), ("masks", "png")):
        (root / kind).mkdir(parents=True)
        for path in sorted((real_data("deepcrack") / kind).iterdir())[:30]:
            (root / kind / path.name).symlink_to(path)
            assert path.suffix == f".{end}"
    facts = support.converted(root, tmp_path / "out")
    with Image.open(next((root / "images").iterdir())) as first:
        assert first.size == (256, 256)
    assert facts["layout"] == "masks" and facts["image_px"] == 128
    windows = sum(split["count"] for split in facts["splits"].values())
    assert windows + len(support.rows(tmp_path / "out", "rejected.csv")) == 30 * 4
    convert.run(ConvertConfig(verify=str(tmp_path / "out"), workers=1))
    assert f"{windows} images intact" in capsys.readouterr().out


def test_sdnet_keeps_the_windows_of_a_photograph_together(real_data, tmp_path):
    facts = support.converted(real_data("sdnet_sample12"), tmp_path / "out", split=(0.5, 0.25, 0.25))
    assert facts["layout"] == "sdnet"
    rows = support.rows(tmp_path / "out", "groups.csv")
    assert len(rows) == 12
    splits = collections.defaultdict(set)
    for row in rows:
        surface, _, name = row["path"].split("/")
        assert int(row["label"]) == (row["path"].split("/")[1][0] == "C")
        splits[surface, name.split("-")[0]].add(row["split"])
    assert all(len(photo_splits) == 1 for photo_splits in splits.values())


def test_metu_is_stored_byte_for_byte_and_whole(metu, real_data):
    out, facts = metu
    rows, rejected = support.rows(out, "groups.csv"), support.rows(out, "rejected.csv")
    assert len(rows) + len(rejected) == 10_000
    assert {row["split"] for row in rows} == SPLITS
    assert (facts["image_px"], facts["channels"], facts["notes"]) == (227, 3, [])
    for path, fields in list(support.stored(out).items())[::97]:
        assert fields["image"] == (real_data("metu") / path).read_bytes()


def test_a_data_set_that_is_only_for_measuring_is_all_test(tmp_path):
    support.photos(tmp_path / "images")
    facts = support.converted(tmp_path / "images", tmp_path / "data", split=(0.0, 0.0, 1.0))
    assert {name: split["count"] for name, split in facts["splits"].items()} == {"train": 0, "val": 0, "test": 12}
    assert all(row["split"] == "test" for row in support.rows(tmp_path / "data", "groups.csv"))
    assert len(support.stored(tmp_path / "data")) == 12


@pytest.mark.parametrize(
    "sizes, settings, source_px",
    [
        ([(64, 64)] * 8, {}, 64),
        ([(64, 64)] * 8, {"image_px": 32}, 64),
        ([(64, 64)] * 7 + [(60, 64)], {}, 64),
        ([(90, 40)] * 8, {"image_px": 32}, 60),
    ],
)
def test_the_side_that_photographs_had_is_kept_whatever_is_stored(tmp_path, sizes, settings, source_px):
    """The scale at which a model looks at other photographs follows from it."""
    for number, size in enumerate(sizes):
        support.put(
            tmp_path / "photos" / support.CLASSES[number % 2] / f"{number}.jpg",
            support.encoded(support.picture(number, *size)),
        )
    support.converted(tmp_path / "photos", tmp_path / "data", **settings)
    assert dataset.load(str(tmp_path / "data")).source_px == source_px


def test_windows_of_photographs_are_as_large_as_they_were_cut(tmp_path):
    for number in range(6):
        support.put(tmp_path / f"images/{number}.jpg", support.encoded(support.picture(number, 128, 64)))
        mask = np.zeros((64, 128), np.uint8)
        mask[20:24, :56] = 255
        support.put(tmp_path / f"masks/{number}.png", support.encoded(mask, "PNG"))
    support.converted(tmp_path, tmp_path.parent / "windows", patch_px=64, image_px=32)
    assert dataset.load(str(tmp_path.parent / "windows")).source_px == 64


def test_a_joined_set_keeps_the_side_that_its_parts_agree_on(tmp_path):
    support.photos(tmp_path / "photos", 16)
    support.photos(tmp_path / "others", 16, first_seed=50)
    support.photos(tmp_path / "small", 16, px=32, first_seed=80)
    for name in ("photos", "others", "small"):
        support.converted(tmp_path / name, tmp_path / f"{name}_set", image_px=32)
    for parts, source_px in ((("photos", "others"), 64), (("photos", "small"), 32)):
        out = tmp_path / "-".join(parts)
        convert.run(ConvertConfig(join=tuple(str(tmp_path / f"{part}_set") for part in parts), out=str(out), workers=1))
        assert dataset.load(str(out)).source_px == source_px
