import json
import pathlib
import shutil
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import coco as coco_tools

from crackflow.conversion import layouts
from crackflow.core.config.data import Layout
from crackflow.core.errors import UserError
from tests.helpers import annotation_writers as writers
from tests.helpers import support

SIZE = (96, 64)
ONE = {"images/1.jpg": [[(10, 8), (50, 12), (49, 15), (10, 11)]], "images/2.jpg": []}


def images(root, names=ONE):
    for number, name in enumerate(names):
        support.put(root / name, support.encoded(support.picture(number, *SIZE)))
    return root


def scan(root, layout=Layout.AUTO, positive_class="", **options):
    return layouts.scan_layout(str(root), layout, positive_class, **options)


def masks(layout_scan):
    return {file.path: file.drawing.mask(*SIZE) > 127 for file in layout_scan.files}


def labels(layout_scan):
    return {file.path: file.label for file in layout_scan.files}


POLYGONS = st.lists(
    st.lists(
        st.tuples(st.floats(0, SIZE[0], width=32), st.floats(0, SIZE[1], width=32)).map(
            lambda point: (round(point[0], 2), round(point[1], 2))
        ),
        min_size=3,
        max_size=7,
    ),
    max_size=3,
)


@settings(max_examples=20, deadline=None)
@given(POLYGONS, POLYGONS)
def test_the_same_polygons_are_the_same_masks_by_every_tool(first, second):
    drawings = {"images/1.jpg": first or ONE["images/1.jpg"], "images/2.jpg": second}
    results = {}
    for name in ("coco", "yolo", "labelme", "cvat"):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path in drawings:
                support.put(root / path, b"x")
            getattr(writers, name)(root, drawings, SIZE)
            layout_scan = scan(root)
            assert layout_scan.layout.value == name and layout_scan.is_cut and not layout_scan.rejected
            results[name] = masks(layout_scan)
    for name, result in results.items():
        assert result.keys() == drawings.keys()
        for path in drawings:
            np.testing.assert_array_equal(result[path], results["coco"][path], err_msg=name)


@pytest.mark.parametrize("compressed", [True, False])
def test_runs_of_pycocotools_are_the_mask_that_they_were_made_from(tmp_path, compressed):
    images(tmp_path)
    mask = {name: np.random.default_rng(number).random(SIZE[::-1]) < 0.2 for number, name in enumerate(ONE)}
    mask["images/1.jpg"][:, 50:] = mask["images/1.jpg"][:30] = False  # long runs: several characters each
    writers.coco_runs(tmp_path, mask, compressed)
    for name, drawn in masks(scan(tmp_path)).items():
        np.testing.assert_array_equal(drawn, mask[name])


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # of pycocotools
def test_what_the_tests_write_as_coco_is_read_by_pycocotools(tmp_path, capsys):
    reference = coco_tools.COCO(str(writers.coco(images(tmp_path), ONE, SIZE)))
    assert len(reference.getAnnIds()) == 1 and reference.getCatIds(catNms=["crack"]) == [3]
    drawn = masks(scan(tmp_path))["images/1.jpg"]
    assert (reference.annToMask(reference.anns[1]).astype(bool) ^ drawn).sum() <= 0.3 * drawn.sum()


@pytest.mark.parametrize("name", ["coco", "yolo", "labelme", "cvat", "csv"])
def test_boxes_alone_are_labels_as_those_of_a_table_are(tmp_path, name):
    images(tmp_path)
    if name == "csv":
        writers.table(tmp_path, {"images/1.jpg": 1, "images/2.jpg": 0})
    elif name == "coco":
        writers.coco(tmp_path, ONE, SIZE, form="boxes")
    else:
        getattr(writers, name)(tmp_path, ONE, SIZE, boxes=True)
    layout_scan = scan(tmp_path)
    assert (layout_scan.layout.value, layout_scan.classes) == (name, ("uncracked", "cracked"))
    assert labels(layout_scan) == {"images/1.jpg": 1, "images/2.jpg": 0} and not layout_scan.is_cut
    assert any(f"listed by {name} annotations" in note and "'crack'" in note for note in layout_scan.notes)


def test_the_dataset_is_the_same_by_every_tool_and_by_masks(tmp_path):
    drawings = {f"images/{n}.jpg": [[(4 + n, 8), (60, 9 + n), (60, 12 + n), (4 + n, 11)]] * (n % 2) for n in range(12)}
    fingerprints, texts = {}, {}
    for name in ("coco", "yolo", "labelme", "cvat", "masks"):
        root = images(tmp_path / name, drawings)
        if name == "masks":
            writers.png_masks(root, masks(scan(tmp_path / "coco")))
        else:
            getattr(writers, name)(root, drawings, SIZE)
        facts = support.converted(root, tmp_path / f"{name}.out", patch_px=32, split=(0.5, 0.25, 0.25))
        assert facts["layout"] == name
        fingerprints[name], texts[name] = facts["fingerprint"], (tmp_path / f"{name}.out/manifest.csv").read_text()
    assert len(set(fingerprints.values())) == 1 and len(set(texts.values())) == 1
    assert sum("1" == row["label"] for row in support.rows(tmp_path / "cvat.out", "groups.csv")) >= 6


def test_an_image_inside_a_json_of_labelme_is_stored_as_one_beside_it(tmp_path):
    drawings = {f"images/{n}.jpg": [[(4, 8), (60, 9 + n), (60, 19)]] * (n % 2) for n in range(4)}
    writers.labelme(images(tmp_path / "a", drawings), drawings, SIZE, boxes=True, embedded=["images/1.jpg"])
    beside = (images(tmp_path / "b", drawings) / "images/1.jpg").read_bytes()
    support.converted(tmp_path / "a", tmp_path / "out", split=(1.0, 0.0, 0.0))
    stored = support.stored(tmp_path / "out")
    assert stored["images/1.json"]["image"] == beside and len(stored) == 4
    assert stored["images/1.json"]["label"] == 1


# Classes


@pytest.mark.parametrize("name", ["crack", "Riss", "fissure", "transverse-crack", "LongitudinalCrack", "1"])
def test_names_that_mean_crack_are_recognised(tmp_path, name):
    writers.coco(images(tmp_path), ONE, SIZE, category=name) if name != "1" else (images(tmp_path))
    if name == "1":
        (tmp_path / "labels.csv").write_text("label,path\n1,images/1.jpg\n0,images/2.jpg\n")
    assert set(labels(scan(tmp_path)).values()) <= {-1, 0, 1}
    assert any(f"count as crack: {name!r}" in note for note in scan(tmp_path).notes)


def test_a_name_that_says_nothing_needs_the_positive_class(tmp_path):
    writers.coco(images(tmp_path), ONE, SIZE, category="D00")
    with pytest.raises(UserError, match="expected --positive_class to name the class that means cracked.*'D00'"):
        scan(tmp_path)
    with pytest.raises(UserError, match="--positive_class: expected classes of the annotations .'D00'., received 'x'"):
        scan(tmp_path, positive_class="x")
    assert scan(tmp_path, positive_class="D00").is_cut


def test_other_classes_are_ignored_with_their_number_and_several_can_count(tmp_path):
    (images(tmp_path) / "labels.csv").write_text("path,label\nimages/1.jpg,spalling\nimages/2.jpg,crack\n")
    layout_scan = scan(tmp_path)
    assert labels(layout_scan) == {"images/1.jpg": 0, "images/2.jpg": 1}
    assert layout_scan.notes["annotations of other classes, ignored (spalling 1)"] == 1
    both = scan(tmp_path, positive_class="spalling, crack", both_classes=False)
    assert set(labels(both).values()) == {1}


# What is recognised


@pytest.mark.parametrize("layout", [Layout.COCO, Layout.YOLO, Layout.LABELME, Layout.CVAT, Layout.CSV])
def test_a_layout_that_was_asked_for_and_is_not_there_is_refused(tmp_path, layout):
    with pytest.raises(UserError, match=f"--layout={layout.value}: expected .* in .*, found none"):
        scan(images(tmp_path), layout)


def test_annotations_of_two_tools_need_a_layout(tmp_path):
    writers.coco(images(tmp_path), ONE, SIZE)
    writers.cvat(tmp_path, ONE, SIZE)
    with pytest.raises(UserError, match="annotations of several kinds .*: coco .*, cvat .*; name one with --layout"):
        scan(tmp_path)
    assert scan(tmp_path, Layout.CVAT).layout is Layout.CVAT


def test_class_folders_and_masks_win_over_a_table_beside_them(tmp_path):
    for name in ("cracked/1.jpg", "clean/2.jpg"):
        support.put(tmp_path / "a" / name, b"x")
    (tmp_path / "a/labels.csv").write_text("path,label\ncracked/1.jpg,crack\n")
    assert scan(tmp_path / "a").layout is Layout.CLASSES
    for name in ("images/1.jpg", "masks/1.png"):
        support.put(tmp_path / "b" / name, b"x")
    (tmp_path / "b/labels.csv").write_text("path,label\nimages/1.jpg,crack\n")
    assert scan(tmp_path / "b").layout is Layout.MASKS
    assert scan(tmp_path / "b", Layout.CSV, both_classes=False).layout is Layout.CSV


def test_an_image_that_is_not_listed_is_not_called_clean(tmp_path):
    writers.cvat(images(tmp_path), ONE, SIZE)
    support.put(tmp_path / "images/3.jpg", b"x")
    assert [row for row in scan(tmp_path).rejected if row[0] == "images/3.jpg"] == [
        ("images/3.jpg", "not listed in the annotations, so nobody may have looked at it")
    ]


def test_a_box_beside_polygons_is_rejected_with_the_reason(tmp_path):
    path = writers.coco(images(tmp_path, [*ONE, "images/3.jpg"]), ONE | {"images/3.jpg": ONE["images/1.jpg"]}, SIZE)
    content = json.loads(path.read_text())
    content["annotations"][1]["segmentation"] = []
    path.write_text(json.dumps(content))
    [(name, reason)] = scan(tmp_path).rejected
    assert name == "images/3.jpg" and "images[2]: has boxes, where others have polygons" in reason


def test_an_image_listed_twice_is_refused_with_both_entries(tmp_path):
    (images(tmp_path) / "labels.csv").write_text("path,label\nimages/1.jpg,crack\n./images/1.jpg,no crack\n")
    with pytest.raises(UserError, match="'images/1.jpg' is listed twice, in labels.csv, line 2 and labels.csv, line 3"):
        scan(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../etc/passwd.png", "expected a path inside --images, received '../../etc/passwd.png', which leads out"),
        ("/etc/passwd.png", "expected a path relative to --images, received the absolute path '/etc/passwd.png'"),
        ("C:\\photos\\1.jpg", "expected a path relative to --images, received the absolute path"),
        ("images/9.jpg", "the image 'images/9.jpg' is not there"),
    ],
)
@pytest.mark.parametrize("tool", ["coco", "labelme", "cvat", "csv"])
def test_paths_that_lead_out_or_nowhere_are_rejected_by_every_reader(tmp_path, tool, name, reason):
    images(tmp_path)
    if tool == "csv":
        (tmp_path / "labels.csv").write_text(f"path,label\n{name},crack\nimages/1.jpg,crack\nimages/2.jpg,no crack\n")
    elif tool == "labelme":
        writers.labelme(tmp_path, ONE, SIZE)
        content = json.loads((tmp_path / "images/1.json").read_text())
        writers.put_json(tmp_path / "images/x.json", content | {"imagePath": name})
    else:
        getattr(writers, tool)(tmp_path, ONE | {name: []}, SIZE)
    rejected = scan(tmp_path, Layout(tool)).rejected
    assert len(rejected) == 1 and reason in rejected[0][1]


def test_a_size_that_differs_rejects_the_image_in_a_conversion(tmp_path):
    drawings = {f"images/{n}.jpg": [[(4, 8), (60, 9 + n), (60, 19)]] * (n % 2) for n in range(4)}
    writers.cvat(images(tmp_path / "in", drawings), drawings, SIZE, boxes=True)
    support.put(tmp_path / "in/images/3.jpg", support.encoded(support.picture(9, 64, 64)))
    support.converted(tmp_path / "in", tmp_path / "out", split=(1.0, 0.0, 0.0))
    [row] = support.rows(tmp_path / "out", "rejected.csv")
    assert row["path"] == "images/3.jpg" and "drawn on 96 x 64 pixels, the picture has 64 x 64" in row["reason"]


def test_without_an_image_of_a_class_the_first_reason_is_given(tmp_path):
    writers.cvat(images(tmp_path), ONE, SIZE, boxes=True)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(UserError, match="found none uncracked and none cracked; 2 rejected, such as .* is not there"):
        scan(tmp_path)
