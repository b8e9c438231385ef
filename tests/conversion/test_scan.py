import numpy as np
import pytest

from crackflow.conversion import near_duplicates, scan
from crackflow.conversion.layouts import SourceFile
from crackflow.core import process_pool
from crackflow.core.config.data import OnBad
from crackflow.core.errors import UserError
from crackflow.data import dataset, image_file, mask_tiles, thumbnail
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from tests.helpers import support


def scan_files(root, files, on_bad=OnBad.SKIP):
    """(scan result, signatures, reported steps) of `files`, by two real worker processes."""
    signatures, steps = near_duplicates.ImageSignatures.empty(len(files)), []
    options = scan.ScanOptions(str(root), 100, 32, 0.01)
    with process_pool.pool(2) as pool:
        scan_result = scan.scan_images(files, signatures, options, on_bad, pool, 3, steps.append)
    return scan_result, signatures, steps


def test_each_row_tells_of_its_own_file_over_several_tasks(tmp_path):
    count, bad = scan.FILES_PER_TASK * 2 + 10, {3, 70, 137}
    for number in range(count):
        data = b"" if number in bad else support.encoded(support.picture(number, 32, 32))
        support.put(tmp_path / f"{number:04d}.jpg", data)
    files = [SourceFile(f"{number:04d}.jpg", 0, "") for number in range(count)]
    scan_result, signatures, steps = scan_files(tmp_path, files)
    assert scan_result.accepted == [number for number in range(count) if number not in bad]
    assert scan_result.rejected == [(f"{number:04d}.jpg", "empty file") for number in sorted(bad)]
    assert sum(steps) == count
    for row, number in enumerate(scan_result.accepted):
        data = (tmp_path / f"{number:04d}.jpg").read_bytes()
        assert signatures.digest[row].tobytes() == image_file.digest(data)
        grey = thumbnail.thumbnail(image_file.parse_photo(data, "x.jpg", 100)).grey
        np.testing.assert_allclose(signatures.thumb[row] + signatures.mean[row], grey, atol=0.1)


def test_what_was_seen_is_summed_up(tmp_path):
    files = {
        "a.jpg": support.encoded(support.picture(0)),
        "b.jpg": support.encoded(support.picture(1, 80, 40), mode="L"),
        "c.png": support.encoded(support.picture(2), "PNG"),
        "d.jpg": support.encoded(support.picture(3), "PNG"),
    }
    for name, data in files.items():
        support.put(tmp_path / name, data)
    scan_result, _, _ = scan_files(tmp_path, [SourceFile(name, 0, "") for name in files])
    assert scan_result.sizes == {(64, 64): 3, (80, 40): 1}
    assert scan_result.colour == 3
    assert scan_result.can_store_as_is == [True, True, False, False]
    assert scan_result.stored_bytes == sum(map(len, files.values()))
    assert scan_result.notes == {"named .jpg but holds PNG": 1}


def test_a_jpeg_that_training_would_refuse_is_stored_anew_and_told(tmp_path):
    """Extraneous bytes before the end marker: Pillow ignores them, the strict decoder does not."""
    photographs = support.photos(tmp_path / "photos", 12)
    support.put(photographs / "Positive/small.jpg", support.encoded(support.picture(99, 20, 20)))
    for path in ("Positive/00003.jpg", "Negative/00004.jpg", "Positive/small.jpg"):
        data = (photographs / path).read_bytes()
        support.put(photographs / path, data[:-2] + b"\x00\x11\x22\x33" * 9 + data[-2:])
    facts = support.converted(photographs, tmp_path / "data")
    assert facts["notes"] == ["3 stored anew, its JPEG data being damaged where it does not show"]
    converted, image_count = dataset.load(str(tmp_path / "data")), 0
    for split in ("train", "val", "test"):
        for _, _, weight in tfrecord_loader.eval_batches(converted, split, BatchSpec(4, 32, 3)):
            image_count += int(weight.numpy().sum())
    assert image_count == 13
    stored = support.stored(tmp_path / "data")["Positive/00003.jpg"]["image"]
    np.testing.assert_allclose(
        support.pixels(stored), support.pixels((photographs / "Positive/00003.jpg").read_bytes()), atol=12
    )


def test_on_bad_fail_names_the_first_in_order(tmp_path):
    support.put(tmp_path / "b.jpg", b"")
    support.put(tmp_path / "c.jpg", b"text")
    files = [SourceFile(name, 0, "") for name in ("b.jpg", "c.jpg")]
    with pytest.raises(UserError, match="^'b.jpg': empty file; mend or remove it"):
        scan_files(tmp_path, files, OnBad.FAIL)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (b"", "its mask 'm.png': empty file"),
        (b"text", "its mask 'm.png': not an image"),
        (support.encoded(support.picture(0, 64, 63), "PNG"), "its mask is 64 x 63, the picture 64 x 64"),
    ],
)
def test_a_mask_that_does_not_fit_rejects_the_picture_with_the_reason(tmp_path, mask, reason):
    support.put(tmp_path / "a.jpg", support.encoded(support.picture(0)))
    support.put(tmp_path / "m.png", mask)
    scan_result, _, _ = scan_files(tmp_path, [SourceFile("a.jpg", -1, "a", "m.png")])
    [(path, received)] = scan_result.rejected
    assert path == "a.jpg" and reason in received


def test_a_labelled_picture_with_a_mask_is_kept_whole_and_knows_where_its_crack_lies(tmp_path):
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[:8] = 255
    support.put(tmp_path / "a.jpg", support.encoded(support.picture(0)))
    support.put(tmp_path / "m.png", support.encoded(mask, "PNG"))
    scan_result, _, _ = scan_files(tmp_path, [SourceFile("a.jpg", 1, "a", "m.png"), SourceFile("a.jpg", 1, "a")])
    assert scan_result.windows == [(), ()] and scan_result.mask_bits == [0xFF, 0]


def test_a_labelled_picture_whose_mask_does_not_fit_is_rejected_with_both_sizes(tmp_path):
    support.put(tmp_path / "a.jpg", support.encoded(support.picture(0)))
    support.put(tmp_path / "m.png", support.encoded(np.zeros((32, 64, 3), np.uint8), "PNG"))
    scan_result, _, _ = scan_files(tmp_path, [SourceFile("a.jpg", 1, "a", "m.png")])
    assert scan_result.rejected == [("a.jpg", "its mask is 64 x 32, the picture 64 x 64: expected the same size")]


def test_unclear_windows_are_rejected_by_name_and_the_picture_is_kept(tmp_path):
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[10, 10] = 255
    support.put(tmp_path / "a.jpg", support.encoded(support.picture(0)))
    support.put(tmp_path / "m.png", support.encoded(mask, "PNG"))
    scan_result, _, _ = scan_files(tmp_path, [SourceFile("a.jpg", -1, "a", "m.png")])
    assert scan_result.rejected == [("a.jpg#xywh=0,0,32,32", mask_tiles.UNCLEAR)]
    assert [tuple(window[:4]) for window in scan_result.windows[0]] == [(32, 0, 32, 0), (0, 32, 32, 0), (32, 32, 32, 0)]
