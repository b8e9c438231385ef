"""Folders, files and flags as people really pass them: what is refused, with which message, and what is accepted."""

import contextlib
import io
import ntpath
import os
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from crackflow import convert
from crackflow.conversion import dataset_conversion
from crackflow.core import flags
from crackflow.core.config.data import ConvertConfig, GroupBy, Layout, OnBad
from crackflow.core.errors import UserError
from tests.helpers import support

PX = 64
ODD_NAMES = (
    b"with space.jpg",
    b"new\nline.jpg",
    b"carriage\rreturn.jpg",
    b'quote"comma,semicolon;.jpg',
    "Risse in Wänden 裂缝.jpg".encode(),
    b"not utf-8 \xff\xfe.jpg",
    b"-starts-with-dash.jpg",
    b"#starts-with-hash.jpg",
)
# EXIF orientation -> how the camera stored a picture that is seen upright
AS_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
UPRIGHT_SEED = 900


def exif_jpeg(orientation):
    image = Image.fromarray(support.picture(UPRIGHT_SEED, 96, 64))
    if AS_STORED[orientation] is not None:
        image = image.transpose(AS_STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=98, subsampling=0, exif=exif)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG of 1 bit per pixel and few bytes; its pixels would fill gigabytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def bmp_header(width, height):
    head = b"BM" + struct.pack("<IHHI", 62, 0, 0, 62)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 1, 0, 0, 0, 0, 2, 2) + bytes(8)


def animated(form):
    frames = [Image.fromarray(support.picture(700 + number)) for number in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def bad_files(folder):
    """Unusable files, and the reason with which each must be rejected."""
    whole = support.encoded(support.picture(701))
    png = support.encoded(support.picture(702), "PNG")
    files = {
        "truncated.jpg": (whole[: len(whole) // 2], "truncated: "),
        "truncated.png": (png[: len(png) // 2], "truncated: "),
        "header_only.jpg": (whole[:100], "damaged: "),
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"this is no picture\n" * 20, "not an image"),
        "animated.gif": (animated("GIF"), "animated or multi-page, 3 frames: expected one picture"),
        "animated.png": (animated("PNG"), "animated or multi-page, 3 frames: expected one picture"),
        "animated.webp": (animated("WEBP"), "animated or multi-page, 3 frames: expected one picture"),
        "pages.tif": (animated("TIFF"), "animated or multi-page, 3 frames: expected one picture"),
        "bomb.png": (png_header(50_000, 50_000), "50000 x 50000 = 2,500 megapixels: expected at most 100"),
        "bomb.bmp": (bmp_header(50_000, 50_000), "50000 x 50000 = 2,500 megapixels: expected at most 100"),
        "strip.png": (png_header(90_000_000, 1), "90000000 x 1 pixels: expected at most 65,500 a side"),
        "icon.ico": (support.encoded(support.picture(703), "ICO"), "ICO is not supported: expected one of JPEG, "),
    }
    for name, (data, _) in files.items():
        support.put(folder / name, data)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "unreadable.jpg").symlink_to("/proc/self/mem")
    (folder / "again").symlink_to(".", target_is_directory=True)
    return {name: reason for name, (_, reason) in files.items()} | {
        "pipe.jpg": "not a regular file",
        "dangling.jpg": "unreadable: No such file or directory",
        "circle.jpg": "unreadable: Too many levels of symbolic links",
        "unreadable.jpg": "unreadable: Input/output error",
        "again": "a link to a folder that was read already (a loop?)",
    }


def odd_files(folder):
    """Files of unusual kinds that can be used: name -> the upright RGB pixels that must be stored."""
    rgb = support.picture
    deep = rgb(804)[..., 0].astype(np.uint16) * 257
    clear = np.dstack([rgb(805), np.full((PX, PX), 255, np.uint8)])
    clear[:16, :16, 3] = 0
    over_white = rgb(805).copy()
    over_white[:16, :16] = 255
    palette = Image.fromarray(rgb(806)).quantize(32)
    files = {
        "png_named.jpg": (support.encoded(rgb(801), "PNG"), rgb(801)),
        "cmyk.jpg": (support.encoded(rgb(802), "JPEG", "CMYK", quality=98, subsampling=0), rgb(802)),
        "grey.jpg": (support.encoded(rgb(803), "JPEG", "L", quality=98), _grey(rgb(803))),
        "sixteen_bits.png": (_saved(Image.fromarray(deep), "PNG"), np.dstack([rgb(804)[..., 0]] * 3)),
        "clear.png": (_saved(Image.fromarray(clear), "PNG"), over_white),
        "palette.png": (_saved(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "still.gif": (_saved(palette.transpose(Image.Transpose.ROTATE_90), "GIF"), None),
        "progressive.jpg": (support.encoded(rgb(807), progressive=True, quality=98, subsampling=0), rgb(807)),
        "lossless.webp": (support.encoded(rgb(808), "WEBP", lossless=True), rgb(808)),
        "tagged.tif": (support.encoded(rgb(809), "TIFF"), rgb(809)),
        "bitmap.bmp": (support.encoded(rgb(810), "BMP"), rgb(810)),
        "portable.ppm": (support.encoded(rgb(811), "PPM"), rgb(811)),
    }
    files["still.gif"] = (files["still.gif"][0], np.rot90(files["palette.png"][1]))
    for name, (data, _) in files.items():
        support.put(folder / name, data)
    return {name: values for name, (_, values) in files.items()}


def _grey(values):
    return np.dstack([np.asarray(Image.fromarray(values).convert("L"))] * 3)


def _saved(image, form):
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


class Zoo:
    """One folder with every odd file, converted once; each test checks one aspect."""

    def __init__(self, directory):
        self.root, self.out = directory / "photos", directory / "data"
        support.photos(self.root, 16, PX)
        self.bad = bad_files(self.root / "Positive")
        self.odd = odd_files(self.root / "Negative")
        self.names = [os.path.join("Positive", os.fsdecode(name)) for name in ODD_NAMES]
        for number, name in enumerate(self.names):
            support.put(self.root / name, support.encoded(support.picture(600 + number)))
        for orientation in AS_STORED:
            support.put(self.root / f"Positive/exif{orientation}.jpg", exif_jpeg(orientation))
        shared = support.picture(990)
        support.put(self.root / "Positive/torn.jpg", support.encoded(shared))
        support.put(self.root / "Negative/torn_flipped.png", support.encoded(shared[:, ::-1], "PNG"))
        support.put(self.root / "Positive/.hidden.jpg", b"")
        support.put(self.root / "Positive/Thumbs.db", b"")
        before = support.tree(self.root)
        self.metadata = support.converted(self.root, self.out, jpeg_quality=98)
        self.untouched = support.tree(self.root) == before
        self.rejected = {row["path"]: row["reason"] for row in support.rows(self.out, "rejected.csv")}
        self.groups = support.rows(self.out, "groups.csv")
        self.stored = support.stored(self.out)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return Zoo(tmp_path_factory.mktemp("zoo"))


def test_every_unusable_file_is_rejected_with_its_reason(zoo):
    for name, reason in zoo.bad.items():
        assert reason in zoo.rejected[f"Positive/{name}"], name


def test_nothing_else_is_rejected_but_the_picture_in_both_classes(zoo):
    torn = {"Positive/torn.jpg", "Negative/torn_flipped.png"}
    assert set(zoo.rejected) == {f"Positive/{name}" for name in zoo.bad} | torn


def test_a_picture_in_both_classes_is_in_rejected_csv_and_nowhere_else(zoo):
    assert zoo.rejected["Positive/torn.jpg"] == ("the same picture is in the other class: 'Negative/torn_flipped.png'")
    assert zoo.rejected["Negative/torn_flipped.png"] == "the same picture is in the other class: 'Positive/torn.jpg'"
    stored_paths = {row["path"] for row in zoo.groups} | set(zoo.stored)
    stored_paths |= {row["path"] for row in support.rows(zoo.out, "manifest.csv")}
    assert not stored_paths & {"Positive/torn.jpg", "Negative/torn_flipped.png"}
    assert zoo.metadata["leaks"]["conflicts"] == 2


def test_the_source_folder_is_not_touched(zoo):
    assert zoo.untouched


def test_every_odd_but_sound_file_is_stored_with_its_pixels(zoo):
    for name, values in zoo.odd.items():
        difference = support.pixels(zoo.stored[f"Negative/{name}"]["image"]).astype(int)
        if difference.ndim == 2:
            difference = np.dstack([difference] * 3)
        difference -= values
        assert np.abs(difference).mean() < 2.5, name


def test_what_was_changed_on_the_way_is_noted(zoo):
    assert zoo.metadata["notes"] == [
        "1 converted from CMYK to RGB",
        "1 laid over white where transparent",
        "1 named .jpg but holds PNG",
        "1 scaled from 16 to 8 bits",
        "7 turned upright as its EXIF orientation says",
        "2 files and folders of the system passed over (1 Thumbs.db, 1 names with a dot in front)",
    ]


def test_names_of_any_bytes_come_through_every_table_and_record(zoo):
    listed = [row["path"] for row in zoo.groups]
    for name in zoo.names:
        assert listed.count(name) == 1
        assert name in zoo.stored
        with open(zoo.root / name, "rb") as file:
            assert zoo.stored[name]["image"] == file.read()
    assert sorted(listed) == sorted(row["path"] for row in support.rows(zoo.out, "manifest.csv"))


def test_hidden_files_and_litter_are_passed_over(zoo):
    assert not [path for path in [*zoo.rejected, *zoo.stored] if "hidden" in path or "Thumbs" in path]


def test_pictures_are_stored_upright_whatever_their_exif_orientation(zoo):
    upright = support.picture(UPRIGHT_SEED, 96, 64).astype(int)
    for orientation in AS_STORED:
        data = zoo.stored[f"Positive/exif{orientation}.jpg"]["image"]
        assert Image.open(io.BytesIO(data)).getexif().get(0x0112, 1) == 1
        assert np.abs(support.pixels(data) - upright).mean() < 1.5, orientation


def test_pictures_that_differ_in_exif_orientation_alone_are_one_group(zoo):
    groups = {row["group"] for row in zoo.groups if "exif" in row["path"]}
    assert len(groups) == 1


def test_every_accepted_image_is_in_groups_csv_once_and_in_its_split(zoo):
    assert len(zoo.groups) == len(zoo.stored)
    for row in zoo.groups:
        fields = zoo.stored[row["path"]]
        assert (str(fields["label"]), str(fields["group"]), fields["split"]) == (
            row["label"],
            row["group"],
            row["split"],
        )


def test_the_zoo_verifies(zoo, capsys):
    convert.run(ConvertConfig(verify=str(zoo.out), workers=1))
    assert f"{len(zoo.stored)} images intact" in capsys.readouterr().out


def test_a_picture_of_2500_megapixels_is_refused_by_its_header_in_little_memory(tmp_path):
    support.put(tmp_path / "bomb.png", png_header(50_000, 50_000))
    script = (
        "import resource, sys, time\n"
        "from crackflow.core.errors import ImageError\n"
        "from crackflow.data import image_file\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))  # its pixels would take 2.5 times as much\n"
        "began = time.perf_counter()\n"
        "try:\n"
        "    image_file.open_photo(sys.argv[1], 100)\n"
        "except ImageError as error:\n"
        "    print(time.perf_counter() - began, error)\n"
    )
    line = [sys.executable, "-c", script, tmp_path / "bomb.png"]
    done = subprocess.run(line, capture_output=True, text=True, env=support.environment())
    assert done.returncode == 0, done.stderr
    seconds, _, reason = done.stdout.partition(" ")
    assert reason.strip() == "50000 x 50000 = 2,500 megapixels: expected at most 100 (--max_megapixels)"
    assert float(seconds) < 1


# Folders


def refused(match, **settings):
    with pytest.raises(UserError, match=match):
        dataset_conversion.convert_images(ConvertConfig(**{"workers": 1, **settings}))


def test_a_missing_folder_is_named(tmp_path):
    refused(
        r"--images: expected a folder, received '.*walls' \(nothing there\)", images=str(tmp_path / "walls"), out="o"
    )


def test_a_file_instead_of_a_folder_is_named(tmp_path):
    support.put(tmp_path / "walls.zip", b"PK")
    refused(r"expected a folder, received '.*walls.zip' \(a file\)", images=str(tmp_path / "walls.zip"), out="o")


def test_an_empty_folder_is_refused_with_what_to_do(tmp_path):
    refused("expected class folders in .*, found none; put the images of each class", images=str(tmp_path), out="o")


def test_files_beside_no_folder_are_refused_like_an_empty_folder(tmp_path):
    support.put(tmp_path / "1.jpg", support.encoded(support.picture(1)))
    refused("expected class folders in .*, found none", images=str(tmp_path), out="o")


def test_one_class_folder_is_refused(tmp_path):
    support.put(tmp_path / "Positive/1.jpg", support.encoded(support.picture(1)))
    refused("expected two class folders .* found 1: Positive", images=str(tmp_path), out="o")


def test_two_class_folders_of_which_one_is_empty_are_refused(tmp_path):
    support.put(tmp_path / "Positive/1.jpg", support.encoded(support.picture(1)))
    (tmp_path / "Negative").mkdir()
    refused("expected images of both classes, found none of 'Negative'", images=str(tmp_path), out="o")


def test_three_class_folders_are_refused_by_name(tmp_path):
    support.photos(tmp_path, 4)
    support.put(tmp_path / "Unsure/1.jpg", b"")
    refused("found 3: Negative, Positive, Unsure; move the others elsewhere", images=str(tmp_path), out="o")


def test_class_names_that_say_nothing_need_positive_class(tmp_path):
    support.photos(tmp_path, 4)
    (tmp_path / "Positive").rename(tmp_path / "typ_a")
    (tmp_path / "Negative").rename(tmp_path / "typ_b")
    refused("expected --positive_class to name the folder .*: typ_a or typ_b", images=str(tmp_path), out="o")


def test_a_positive_class_that_is_no_folder_is_refused_with_the_choices(tmp_path):
    support.photos(tmp_path, 4)
    refused(
        "--positive_class: expected one of Negative, Positive, received 'positive'",
        images=str(tmp_path),
        out="o",
        positive_class="positive",
    )


def test_a_masks_layout_without_masks_names_what_is_missing(tmp_path):
    support.put(tmp_path / "images/1.jpg", support.encoded(support.picture(1)))
    refused("--layout=masks: expected masks/ in .*, found images", images=str(tmp_path), out="o", layout=Layout.MASKS)


def test_two_folders_that_link_to_each_other_end_in_a_message(tmp_path):
    for name, other in (("Positive", "Negative"), ("Negative", "Positive")):
        support.put(tmp_path / "photos" / name / f"{name}.jpg", support.encoded(support.picture(len(name))))
        (tmp_path / "photos" / name / "link").symlink_to(f"../{other}", target_is_directory=True)
    # Each picture is now found in both classes: none is left.
    images, out = str(tmp_path / "photos"), tmp_path / "out"
    refused(
        "both classes, found none of 'Negative' or 'Positive'; 4 of 6 rejected, .*other class",
        images=images,
        out=str(out),
    )
    assert not os.path.exists(out)


def test_when_all_pictures_are_unusable_the_commonest_reason_is_given_with_its_count(tmp_path):
    for number in range(3):
        support.put(tmp_path / f"photos/Positive/{number}.jpg", b"x")
    support.put(tmp_path / "photos/Negative/1.jpg", b"")
    refused(
        "none of 'Negative' or 'Positive'; 3 of 4 rejected, such as 'Positive/0.jpg': not an image: a text file",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
    )
    assert os.listdir(tmp_path) == ["photos"]


def test_of_a_class_without_usable_pictures_its_own_commonest_reason_is_given(tmp_path):
    support.photos(tmp_path / "photos", 6)
    for number in range(4):
        support.put(tmp_path / f"photos/Positive/bad{number}.jpg", b"x")
    for path in (tmp_path / "photos/Negative").iterdir():
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(
        "none of 'Negative'; 3 of 3 rejected, such as 'Negative/00000.jpg': not an image: a Git LFS pointer",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (255, "none of 'uncracked'.*; .*expected white, 255, where there is crack.* invert"),
        (0, "none of 'cracked'; there is no crack"),
    ],
)
def test_masks_that_show_one_class_alone_are_told_as_such(tmp_path, value, message):
    for number in range(3):
        support.put(tmp_path / f"images/{number}.jpg", support.encoded(support.picture(number, 256, 128)))
        support.put(tmp_path / f"masks/{number}.png", support.encoded(np.full((128, 256, 3), value, np.uint8), "PNG"))
    refused(message, images=str(tmp_path), out=str(tmp_path.parent / f"out{value}"))


def test_on_bad_fail_stops_at_the_first_and_leaves_nothing(tmp_path):
    support.photos(tmp_path / "photos", 6)
    support.put(tmp_path / "photos/Negative/a.jpg", b"")
    support.put(tmp_path / "photos/Positive/b.jpg", b"x")
    refused(
        "'Negative/a.jpg': empty file; mend or remove it, or let --on_bad=skip",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
        on_bad=OnBad.FAIL,
    )
    assert os.listdir(tmp_path) == ["photos"]


def test_on_bad_fail_stops_at_what_is_found_before_a_picture_is_read(tmp_path):
    """A folder that links to itself, and a photograph without its mask."""
    support.photos(tmp_path / "photos", 6)
    os.symlink("..", tmp_path / "photos/Negative/loop")
    refused(
        "'Negative/loop/Negative': a link .*; mend or remove it",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
        on_bad=OnBad.FAIL,
    )
    for number in range(4):
        support.put(tmp_path / f"masked/images/{number}.jpg", support.encoded(support.picture(number)))
        if number:
            support.put(tmp_path / f"masked/masks/{number}.png", support.encoded(np.zeros((64, 64), np.uint8), "PNG"))
    refused(
        "'images/0.jpg': .*; mend or remove it",
        images=str(tmp_path / "masked"),
        out=str(tmp_path / "out"),
        on_bad=OnBad.FAIL,
        layout=Layout.MASKS,
    )
    assert not (tmp_path / "out").exists()


def test_raw_pixels_of_several_sizes_need_image_px(tmp_path):
    support.photos(tmp_path / "photos", 4)
    support.put(tmp_path / "photos/Positive/wide.jpg", support.encoded(support.picture(50, 80, 64)))
    refused(
        "--encoding=raw: expected images of one square size, found 64 x 64, 80 x 64; add --image_px",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
        encoding=flags.parse(ConvertConfig, ["--images=a", "--out=b", "--encoding=raw"]).encoding,
    )


def test_a_split_that_leaves_train_empty_is_refused(tmp_path):
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[8:24, 8:24] = 255
    support.put(tmp_path / "photos/images/wall.png", support.encoded(support.picture(0), "PNG"))
    support.put(tmp_path / "photos/masks/wall.png", support.encoded(mask, "PNG"))
    refused(
        r"--split: expected some images in train, received \(0.2, 0.0, 0.8\)",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
        split=(0.2, 0.0, 0.8),  # the windows of one photograph stay together
        patch_px=32,
    )


# Output


def test_an_output_that_exists_is_refused_and_kept(tmp_path):
    support.photos(tmp_path / "photos", 4)
    support.put(tmp_path / "out/thesis.txt", b"years of work")
    refused(
        "out' exists and is not empty; choose another folder, or replace it with --overwrite",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
    )
    refused(
        "--overwrite: '.*out' holds no dataset.json, so crackflow did not make it",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
        overwrite=True,
    )
    assert (tmp_path / "out/thesis.txt").read_bytes() == b"years of work"


def test_an_output_that_is_a_file_is_refused(tmp_path):
    support.photos(tmp_path / "photos", 4)
    support.put(tmp_path / "out", b"")
    refused(
        "expected a new folder, received '.*out', which is a file",
        images=str(tmp_path / "photos"),
        out=str(tmp_path / "out"),
    )


def test_overwrite_replaces_a_data_set_of_ours_and_leaves_no_trace_of_the_old(tmp_path):
    support.photos(tmp_path / "photos", 6)
    out = tmp_path / "out"
    first = support.converted(tmp_path / "photos", out)
    refused("exists and is not empty", images=str(tmp_path / "photos"), out=str(out))
    assert support.converted(tmp_path / "photos", out, overwrite=True, seed=1)["fingerprint"] != first["fingerprint"]
    assert sorted(os.listdir(tmp_path)) == ["out", "photos"]


@pytest.mark.parametrize("out", ["photos", "photos/data", "photos/Positive/../data", "link/data"])
def test_an_output_among_the_photographs_is_refused(tmp_path, out):
    support.photos(tmp_path / "photos", 4)
    (tmp_path / "link").symlink_to("photos", target_is_directory=True)
    before = support.tree(tmp_path)
    refused("--out: expected a folder outside --images", images=str(tmp_path / "photos"), out=str(tmp_path / out))
    assert support.tree(tmp_path) == before


def test_two_drives_of_windows_are_apart(monkeypatch):
    monkeypatch.setattr(os.path, "commonpath", ntpath.commonpath)
    within = dataset_conversion._within
    assert not within("C:\\photos", "D:\\photos") and not within("C:\\photos", "C:\\photos-2")
    assert within("C:\\photos", "C:\\photos\\data") and within("C:\\photos", "C:\\photos")


def test_photographs_inside_the_data_set_to_be_replaced_are_not_removed(tmp_path):
    support.photos(tmp_path / "set/photos", 4)
    support.put(tmp_path / "set/dataset.json", b"{}")
    before = support.tree(tmp_path)
    refused(
        "--out: expected a folder outside --images that does not hold it",
        images=str(tmp_path / "set/photos"),
        out=str(tmp_path / "set"),
        overwrite=True,
    )
    assert support.tree(tmp_path) == before


def test_an_output_that_is_a_link_fills_what_it_points_to(tmp_path):
    support.photos(tmp_path / "photos", 6)
    (tmp_path / "big_disk").mkdir()
    (tmp_path / "out").symlink_to("big_disk", target_is_directory=True)
    support.converted(tmp_path / "photos", tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "big_disk/dataset.json").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("x" * 300, "expected a usable path (File name too long)"),
        ("file.txt/data", "expected a usable path (File exists)"),
        ("file.txt/more/data", "expected a usable path (Not a directory)"),
    ],
)
def test_an_impossible_output_path_is_one_clear_line(tmp_path, out, message):
    support.photos(tmp_path / "photos", 4)
    support.put(tmp_path / "file.txt", b"")
    done = support.called("convert", f"--images={tmp_path / 'photos'}", f"--out={tmp_path / out}")
    support.expect_one_line(done, 2, message)


# A full disk


@contextlib.contextmanager
def small_disk(mount_point, size):
    mount_point.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", mount_point], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", mount_point], check=True)


@pytest.mark.parametrize(("size", "count", "px"), [("64k", 200, 16), ("256k", 8, 400)], ids=["thumbnails", "shards"])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path, size, count, px):
    support.photos(tmp_path / "photos", count, px, quality=100)
    with small_disk(tmp_path / "disk", size) as disk:
        done = support.command("convert", f"--images={tmp_path / 'photos'}", f"--out={disk / 'out'}", "--workers=1")
        support.expect_one_line(done, 2, "the disk is full", "free some space or choose another place")
        assert os.listdir(disk) == []


def test_a_mount_point_as_output_is_refused_before_the_work(tmp_path):
    support.photos(tmp_path / "photos", 4)
    with small_disk(tmp_path / "disk", "1m") as disk:
        done = support.called("convert", f"--images={tmp_path / 'photos'}", f"--out={disk}")
    support.expect_one_line(done, 2, "a mount point; name a folder in it")


@pytest.mark.parametrize(("count", "px"), [(200, 16), (8, 400)], ids=["thumbnails", "shards"])
def test_a_limit_on_file_size_is_one_clear_line_and_leaves_nothing(tmp_path, count, px):
    support.photos(tmp_path / "photos", count, px, quality=100)
    arguments = (f"--images={tmp_path / 'photos'}", f"--out={tmp_path / 'out'}", "--workers=1")
    # Not by preexec_fn: it forks this process, and if that has used gRPC, the fork prints a line of its own.
    limited = ["bash", "-c", 'ulimit -f 64 && exec "$@"', "bash"]  # of 1024 bytes
    done = support.command("convert", *arguments, under=limited)
    support.expect_one_line(done, 2, "a file grew past the size allowed here")
    assert os.listdir(tmp_path) == ["photos"]


# The command


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--imges=a", "--out=b"], ["'imges'", "Did you mean: image_px, images", "--help lists the flags"]),
        (["--images=a", "--out=b", "--split=0.5,0.2,0.2"], ["--split: expected three fractions", "(0.5, 0.2, 0.2)"]),
        (["--images=a", "--out=b", "--split=0.8,0.2"], ["--split: expected three fractions", "(0.8, 0.2)"]),
        (["--images=a", "--out=b", "--split=a,b,c"], ["--split: expected float values", "'a,b,c'"]),
        (["--images=a", "--out=b", "--split=0,0.5,0.6"], ["that add up to 1", "(0.0, 0.5, 0.6)"]),
        (["--images=a", "--out=b", "--split=nan,0.5,0.5"], ["--split: expected three fractions"]),
        (["--images=a", "--out=b", "--encoding=gif"], ["encoding", "jpeg|png|raw"]),
        (["--images=a", "--out=b", "--group_by=magic"], ["group_by", "near_duplicates|content|none"]),
        (["--images=a", "--out=b", "--workers=many"], ["workers", "'many'"]),
        (["--images=a", "--out=b", "--workers=-1"], ["--workers: expected 0 or more, received -1"]),
        (["--images=a", "--out=b", "--image_px=7"], ["--image_px: expected 0, or 8 to 4096, received 7"]),
        (["--images=a", "--out=b", "--jpeg_quality=0"], ["--jpeg_quality: expected 1 to 100, received 0"]),
        (["--images=a", "--out=b", "--max_megapixels=nan"], ["--max_megapixels: expected a number above 0"]),
        (["--images=a", "--out=b", "photos"], ["expected only --flags, received 'photos'"]),
        (["--images=a"], ["--out: expected a path, received ''"]),
        ([], ["--images: expected a path, received ''"]),
        (["--flagfile=nowhere.cfg"], ["nowhere.cfg", "No such file or directory"]),
        (["--images"], ["images"]),
        (["--verify=nowhere"], ["expected a dataset made by crackflow.convert", "'nowhere'"]),
    ],
)
def test_a_wrong_flag_ends_with_exit_code_2_and_one_line(arguments, parts):
    done = support.called("convert", *arguments)
    support.expect_one_line(done, 2, *parts)
    assert done.stderr.startswith("crackflow.")


def test_the_real_command_ends_with_exit_code_2_and_one_line_for_a_users_mistake(tmp_path):
    name = os.fsencode(tmp_path / "new\nline") + b"\xff"
    done = support.command("convert", b"--images=" + name, "--out=b")
    support.expect_one_line(done, 2, "crackflow.convert: --images: expected a folder", "new\\nline\\udcff")


def test_the_real_command_says_help_on_stdout(tmp_path):
    done = support.command("convert", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ConvertConfig.__dataclass_fields__:
        assert f"--{name}=" in done.stdout


def test_the_real_command_converts_from_a_flagfile_with_nothing_on_stderr(tmp_path):
    support.photos(tmp_path / "photos", 60)
    config = ConvertConfig(
        str(tmp_path / "photos"), str(tmp_path / "out"), workers=2, group_by=GroupBy.CONTENT, split=(0.34, 0.33, 0.33)
    )
    (tmp_path / "flags.cfg").write_text(flags.as_flagfile(config, header="a comment"))
    done = support.command("convert", f"--flagfile={tmp_path / 'flags.cfg'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "60 images in" in done.stdout and "60 groups that stay together (content)" in done.stdout


def test_sigterm_ends_the_command_with_one_line_and_leaves_nothing(tmp_path):
    support.photos(tmp_path / "photos", 400, 96)
    arguments = (f"--images={tmp_path / 'photos'}", f"--out={tmp_path / 'out'}", "--workers=1")
    line = [sys.executable, "-m", "crackflow.convert", *arguments]
    running = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=support.environment())
    while not [name for name in os.listdir(tmp_path) if ".partial-" in name] and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    error = running.communicate(timeout=60)[1].decode()
    assert running.returncode in (130, -signal.SIGINT), error  # a shell says 130 for both
    assert error == "crackflow.convert: interrupted; nothing half-written was left under the final name\n"
    assert os.listdir(tmp_path) == ["photos"]
