"""Broken annotations of each tool: refused with the file and its key or line, or the image rejected with them."""

import base64
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from crackflow.conversion import annotation_files, coco_annotations, labelme_annotations, layouts
from crackflow.conversion.annotation_files import EntryError
from crackflow.core.config.data import Layout
from crackflow.core.errors import UserError
from tests.helpers import annotation_writers as writers
from tests.helpers import support

SIZE = (96, 64)
DRAWINGS = {"images/1.jpg": [[(10, 8), (50, 12), (49, 15), (10, 11)]], "images/2.jpg": []}
DELETE = object()


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(DRAWINGS):
        support.put(tmp_path / name, support.encoded(support.picture(number, *SIZE)))
    return tmp_path


def scan(root, layout, positive_class=""):
    return layouts.scan_layout(str(root), layout, positive_class)


def change(path, keys, value):
    """Sets, or deletes, the value of a JSON file that `keys` lead to."""
    content = json.loads(path.read_text())
    *parents, last = keys
    entry = content
    for key in parents:
        entry = entry[key]
    if value is DELETE:
        del entry[last]
    else:
        entry[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["categories"], DELETE, "top level: expected the key 'categories'"),
        (["images"], {}, "top level.images: expected a list, received {}"),
        (["images", 0, "file_name"], DELETE, r"images\[0\]: expected the key 'file_name'"),
        (["images", 1, "width"], DELETE, r"images\[1\]: expected the key 'width'"),
        (["images", 1, "width"], 0, r"images\[1\].width: expected 1 pixel or more, received 0"),
        (["images", 1, "id"], 1, r"images\[1\].id: 1 is there twice, in images\[0\] as well"),
        (["annotations", 0, "image_id"], 7, r"annotations\[0\].image_id: no image has the id 7"),
        (["annotations", 0, "image_id"], [7], r"annotations\[0\].image_id: expected a whole number, received \[7\]"),
        (["annotations", 0, "category_id"], 9, r"annotations\[0\].category_id: 9 is not in categories \(3\)"),
        (["categories", 0, "name"], DELETE, r"categories\[0\]: expected the key 'name'"),
        (["annotations", 0, "bbox", 0], float("nan"), "expected JSON .NaN is no number"),
        (["annotations", 0, "bbox", 0], float("inf"), "expected JSON .Infinity is no number"),
    ],
)
def test_a_fault_of_a_coco_file_is_refused_with_file_and_key(root, keys, value, message):
    change(writers.coco(root, DRAWINGS, SIZE), keys, value)
    with pytest.raises(UserError, match=f"--images: annotations/instances.json: {message}"):
        scan(root, Layout.COCO)


def test_categories_of_one_number_are_refused(root):
    path = writers.coco(root, DRAWINGS, SIZE)
    change(path, ["categories"], [{"id": 3, "name": "crack"}] * 2)
    with pytest.raises(UserError, match=r"categories\[1\].id: 3 is there twice"):
        scan(root, Layout.COCO)


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 1, 9, 9]], r"segmentation[0]: expected 3 points or more, received 2"),
        ([[1, 1, 9, 9, 5]], "segmentation[0]: expected pairs x, y, received 5 numbers"),
        ([[1, 1, 9, "a", 5, 5]], "segmentation[0]: expected numbers, received 'a'"),
        ([[1, 1, 9, None, 5, 5]], "segmentation[0]: expected numbers, received None"),
        ([7], "segmentation[0]: expected a list x, y, x, y, ..., received 7"),
        ({"size": [1, 2], "counts": [2]}, "segmentation.size: expected [64, 96], height and width of the image"),
        ({"counts": [2]}, "segmentation: expected the key 'size'"),
        ({"size": [64, 96], "counts": [-2]}, "segmentation.counts: expected whole numbers of 0 or more"),
        ({"size": [64, 96], "counts": "\x7f"}, "segmentation.counts: expected COCO's compressed runs"),
    ],
)
def test_a_fault_of_one_coco_annotation_rejects_its_image(root, segmentation, reason):
    path = writers.coco(root, DRAWINGS, SIZE)
    change(path, ["annotations", 0, "segmentation"], segmentation)
    layout_scan = layouts.scan_layout(str(root), Layout.COCO, "", both_classes=False)
    assert layout_scan.rejected == [("images/1.jpg", layout_scan.rejected[0][1])]
    assert f"annotations/instances.json: annotations[0].{reason}" in layout_scan.rejected[0][1]


def test_a_box_of_three_numbers_rejects_its_image(root):
    path = writers.coco(root, DRAWINGS, SIZE, form="boxes")
    change(path, ["annotations", 0, "bbox"], [1, 2, 3])
    rejected = layouts.scan_layout(str(root), Layout.COCO, "", both_classes=False).rejected
    assert "annotations[0].bbox: expected x, y, width, height, received [1.0, 2.0, 3.0]" in rejected[0][1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [],\n "annotations": [}', "instances.json, line 2, column 18: expected JSON"),
        (b'{"images": "annotations"', "line 1, column 25: expected JSON"),
        (b"\xff\xfe images annotations", "instances.json: expected JSON"),
        (b'"images" and "annotations"', "line 1, column 10: expected JSON"),
        (b'["images", "annotations"]', "expected a JSON object, received list"),
        (b'{"images":"annotations","x":' + b"[" * 100_000, "expected JSON"),
    ],
)
def test_a_file_that_is_no_json_is_refused_with_its_line(root, content, message):
    support.put(root / "instances.json", content.replace(b" images annotations", b'"images" "annotations"'))
    with pytest.raises(UserError, match=message):
        scan(root, Layout.COCO)


def test_a_huge_file_of_annotations_is_refused_before_it_is_read(root):
    path = writers.coco(root, DRAWINGS, SIZE)
    os.truncate(path, annotation_files.MAX_BYTES + (1 << 20))
    with pytest.raises(UserError, match="expected annotations of at most 512 MiB, received 513; divide the file"):
        scan(root, Layout.COCO)


@pytest.mark.parametrize("text", ["O", "o", "0P", "o" * 99])
def test_compressed_runs_that_end_early_are_refused(text):
    if text == "O":  # 31 with the sign bit: a whole number
        assert coco_annotations.decode_counts(text, "counts") == [-1]
        return
    with pytest.raises(EntryError, match="counts: expected COCO's compressed runs"):
        coco_annotations.decode_counts(text, "counts")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [crack]\ntrain: 'images\n", "data.yaml: line .*: expected YAML"),
        ("names:\ntrain: images\n", "data.yaml: top level.names: expected an object, received None"),
        ("names: []\ntrain: images\n", r"data.yaml: names: expected a list or numbers with names, received \[\]"),
        ("names: {a: b}\ntrain: images\n", "data.yaml: names: expected a list or numbers with names"),
        ("names: [crack]\ntrain: nowhere\n", "data.yaml: train: the folder 'nowhere' is not there"),
        ("names: [crack]\ntrain: 7\n", "data.yaml: train: expected a folder, received 7"),
        ("names: [crack]\ntrain:\n", "data.yaml: expected the key 'train', 'val' or 'test'"),
        ("names: [crack]\ntrain: /etc\n", "expected a path relative to --images, received the absolute path '/etc'"),
        (
            "names: [crack]\npath: /data\ntrain: images\n",
            "path: expected a path relative to the file, received the abso",
        ),
        ("names: [crack]\ntrain: a/../../../etc\n", "expected a path inside --images, received 'a/../../../etc'"),
        ("names: [crack]\ntrain: !!python/object/apply:os.getcwd []\n", "data.yaml: line 2: expected YAML"),
    ],
)
def test_a_data_yaml_that_is_broken_is_refused(root, content, message):
    (root / "data.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        scan(root, Layout.YOLO)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 2: expected a class of data.yaml's names (0, 1), received '2'"),
        ("crack 0.5 0.5 0.1 0.1", "line 2: expected a class of data.yaml's names (0, 1), received 'crack'"),
        ("1 0.5 0.5 nan 0.1", "line 2: expected numbers, received 'nan'"),
        ("1 0.5 0.5 0.1", "line 2: expected pairs x, y, received 3 numbers"),
        ("1 0.5 0.5", "line 2: expected 3 points or more, received 1"),
    ],
)
def test_a_broken_line_of_yolo_rejects_its_image(root, line, reason):
    writers.yolo(root, DRAWINGS, SIZE)
    (root / "labels/2.txt").write_text(f"\n{line}\n")
    assert scan(root, Layout.YOLO).rejected == [("images/2.jpg", f"labels/2.txt: {reason}")]


def test_the_folders_of_roboflow_are_read_with_their_splits(tmp_path):
    for split in ("train", "valid", "test"):
        support.put(tmp_path / split / "images/1.jpg", b"x")
        support.put(tmp_path / split / "labels/1.txt", b"0 0.5 0.5 0.1 0.1\n" if split != "test" else b"")
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 1\nnames: ['crack']\n"
    (tmp_path / "data.yaml").write_text(yaml)
    files = {file.path: (file.label, file.split) for file in scan(tmp_path, Layout.AUTO).files}
    assert files == {
        "train/images/1.jpg": (1, "train"),
        "valid/images/1.jpg": (1, "val"),
        "test/images/1.jpg": (0, "test"),
    }


def test_coco_of_roboflow_takes_the_image_beside_its_json(tmp_path):
    for split in ("train", "valid"):
        support.put(tmp_path / split / "1.jpg", b"x")
        writers.coco(tmp_path, {"1.jpg": DRAWINGS["images/1.jpg"]}, SIZE, f"{split}/_annotations.coco.json")
    splits = {file.path: file.split for file in scan(tmp_path, Layout.AUTO).files}
    assert splits == {"train/1.jpg": "train", "valid/1.jpg": "val"}


def test_a_list_of_images_of_yolo_is_read_and_names_its_line(root):
    writers.yolo(root, DRAWINGS, SIZE)
    (root / "data.yaml").write_text("names: [wall, crack]\ntrain: train.txt\n")
    (root / "train.txt").write_text("./images/1.jpg\n")
    assert [file.path for file in scan(root, Layout.YOLO).files] == ["images/1.jpg"]
    (root / "train.txt").write_text("./images/1.jpg\n./images/7.jpg\n")
    with pytest.raises(UserError, match="train.txt, line 2: the image './images/7.jpg' is not there"):
        scan(root, Layout.YOLO)


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        (["shapes"], DELETE, "top level: expected the key 'shapes'"),
        (["imagePath"], DELETE, "top level: expected the key 'imagePath'"),
        (["shapes", 0, "label"], DELETE, "shapes[0]: expected the key 'label'"),
        (["shapes", 0, "shape_type"], "star", "shapes[0].shape_type: expected one of polygon, rectangle"),
        (["shapes", 0, "points"], [[1, 2], [3, 4]], "shapes[0].points: expected 3 points or more, received 2"),
        (["shapes", 0, "points"], [1, 2], "shapes[0].points: expected pairs [x, y], received [1, 2]"),
        (["shapes", 0, "points", 0, 0], float("nan"), "images/1.json: expected JSON (NaN is no number)"),
    ],
)
def test_a_broken_file_of_labelme_is_rejected_with_its_key(root, keys, value, reason):
    writers.labelme(root, DRAWINGS, SIZE)
    support.put(root / "images/3.jpg", b"x")
    writers.labelme(root, {"images/3.jpg": DRAWINGS["images/1.jpg"]}, SIZE)
    change(root / "images/1.json", keys, value)
    rejected = dict(scan(root, Layout.LABELME).rejected)
    assert reason in rejected["images/1.json"]


def test_lines_circles_and_masks_of_labelme_are_drawn(root):
    encoded = io.BytesIO()
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).convert("1").save(encoded, "PNG")
    png = base64.b64encode(encoded.getvalue()).decode()
    shapes = [
        {"shape_type": "linestrip", "points": [[5, 50], [20, 50]], "description": "width=6"},
        {"shape_type": "circle", "points": [[40, 40], [45, 40]]},
        {"shape_type": "mask", "points": [[60, 10], [63, 13]], "mask": png},
    ]
    content = {"shapes": [shape | {"label": "crack"} for shape in shapes], "imagePath": "1.jpg", "imageData": None}
    writers.put_json(root / "images/1.json", content)
    [file] = scan(root, Layout.LABELME).files
    mask = file.drawing.mask(*SIZE) > 127
    assert mask[47:53, 10].all() and not mask[45, 10]
    assert abs(mask[30:50, 30:50].sum() - np.pi * 25) < 8
    np.testing.assert_array_equal(mask[10:14, 60:64], np.eye(4, dtype=bool))


def test_a_mask_of_labelme_that_is_no_png_is_rejected(root):
    shape = {"label": "crack", "shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "????"}
    writers.put_json(root / "images/1.json", {"shapes": [shape], "imagePath": "1.jpg"})
    rejected = dict(layouts.scan_layout(str(root), Layout.LABELME, "", both_classes=False).rejected)
    assert "shapes[0].mask: expected a PNG as base64" in rejected["images/1.json"]


def test_a_line_without_a_width_is_noted():
    assert labelme_annotations.line_width("width: 2.5 px") == 2.5
    assert labelme_annotations.line_width("") == labelme_annotations.LINE_WIDTH_PX


ENTITIES = b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ENTITIES, "annotations.xml: expected XML without DTD and entities, received DTDForbidden"),
        (b"<annotations>\n<image></annotations>", "annotations.xml: line 2, column .*: expected XML"),
        (b"<annotations><image name='1.jpg' width='9'/></annotations>", r"image\[0\]: expected the attribute 'height'"),
        (b"<annotations><image/></annotations>", r"image\[0\]: expected the attribute 'name'"),
        (
            b"<annotations><image name='1.jpg' width='-9' height='9'/></annotations>",
            r"image\[0\].width: expected a whole number, received '-9'",
        ),
        (b"<annotations><track/></annotations>", "expected <image>, received <track>, which a film has"),
        (b"<x><annotations/></x>", "expected <annotations>, received <x>"),
        (
            b"<annotations>" + b"<image id='0' name='images/1.jpg' width='96' height='64'/>" * 2 + b"</annotations>",
            r"image\[1\]: the id '0' is there twice",
        ),
    ],
)
def test_a_broken_xml_of_cvat_is_refused(root, content, message):
    (root / "annotations.xml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        scan(root, Layout.CVAT)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("<polygon label='crack' points='1,1;2,2'/>", "polygon[0].points: expected 3 points or more, received 2"),
        ("<polygon label='crack' points='1,1;2,nan;3,3'/>", "polygon[0].points: expected numbers, received 'nan'"),
        ("<polygon label='crack'/>", "polygon[0]: expected the attribute 'points'"),
        ("<polygon points='1,1;2,2;3,1'/>", "polygon[0]: expected the attribute 'label'"),
        ("<box label='crack' xtl='1' ytl='1' xbr='9'/>", "box[0]: expected the attribute 'ybr'"),
        ("<tag label='hole'/>", "tag[0].label: expected one of crack, received 'hole'"),
        ("<mask label='crack' rle='1,x' left='0' top='0' width='1' height='1'/>", "rle: expected whole numbers"),
    ],
)
def test_a_broken_shape_of_cvat_rejects_its_image(root, shape, reason):
    labels = "<meta><task><labels><label><name>crack</name></label></labels></task></meta>"
    images = "".join(f"<image id='{n}' name='images/{n}.jpg' width='96' height='64'>{{}}</image>" for n in (1, 2))
    (root / "annotations.xml").write_text(f"<annotations>{labels}{images}</annotations>".format(shape, ""))
    rejected = layouts.scan_layout(str(root), Layout.CVAT, "", both_classes=False).rejected
    assert rejected[0][0] == "images/1.jpg" and f"annotations.xml: image[0].{reason}" in rejected[0][1].replace(
        "mask[0].rle", "rle"
    )


def test_masks_polylines_and_tags_of_cvat_are_read(root):
    shapes = (
        "<mask label='crack' rle='1, 2, 1' left='4' top='5' width='2' height='2'/>"
        "<polyline label='crack' points='20,30;40,30'><attribute name='width'>4</attribute></polyline>"
    )
    image = f"<image id='1' name='1.jpg' subset='Train' width='96' height='64'>{shapes}</image>"
    (root / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    [file] = scan(root, Layout.CVAT).files
    mask = file.drawing.mask(*SIZE) > 127
    assert file.split == "train" and np.argwhere(mask[:10, :10]).tolist() == [[5, 5], [6, 4]]
    assert mask[20:40, 30].sum() == 4
    (root / "annotations.xml").write_text(f"<annotations>{image}</annotations>".replace(shapes, "<tag label='crack'/>"))
    [file] = layouts.scan_layout(str(root), Layout.CVAT, "", both_classes=False).files
    assert file.label == 1


@pytest.mark.parametrize(
    "text",
    [
        "path,label\nimages/1.jpg,crack\nimages/2.jpg,no crack\n",
        "label;path\ncrack;images/1.jpg\nno crack;images/2.jpg\n",
        '\ufeff"Label"\t"Path"\r\n"crack"\t"1.jpg"\r\n"no crack"\t"2.jpg"\r\n',
        'image,author,class\nimages\\1.jpg,"A, B",crack\n\nimages/2.jpg,C,no crack\n',
    ],
)
def test_tables_of_every_form_give_the_same_labels(root, text):
    (root / "labels.csv").write_text(text, encoding="utf-8", newline="")
    layout_scan = scan(root, Layout.AUTO)
    assert {file.path: file.label for file in layout_scan.files} == {"images/1.jpg": 1, "images/2.jpg": 0}
    assert layout_scan.layout is Layout.CSV


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"path,label\nimages/1.jpg\n", "labels.csv, line 2: expected 2 cells, received 1"),
        (b"path,label\nimages/1.jpg,\n", "labels.csv, line 2: expected a path and a label, received 'images/1.jpg'"),
        (b'path,label\nimages/1.jpg,"crack\n', "labels.csv, line 2: expected a table"),
        (b"path,label\n\xff,crack\n", "labels.csv, byte 11: expected UTF-8"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(root, text, message):
    (root / "labels.csv").write_bytes(text)
    with pytest.raises(UserError, match=message):
        scan(root, Layout.CSV)


def test_a_name_that_several_folders_have_is_rejected_unless_the_split_tells(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg", "train/2.jpg", "val/2.jpg"):
        support.put(tmp_path / name, b"x")
    index = annotation_files.ImageIndex(["a/1.jpg", "b/1.jpg", "train/2.jpg", "val/2.jpg", "notes.txt"])
    with pytest.raises(EntryError, match="several images of the name '1.jpg': 'a/1.jpg', 'b/1.jpg'"):
        index.find("1.jpg", "annotations")
    assert index.find("2.jpg", "annotations", "val") == "val/2.jpg"
    assert index.find("../a/1.jpg", "annotations") == "a/1.jpg"


@pytest.mark.parametrize(("tool", "package"), [("cvat", "defusedxml"), ("yolo", "yaml")])
def test_a_package_that_is_missing_is_named_with_its_extra(root, monkeypatch, tool, package):
    getattr(writers, tool)(root, DRAWINGS, SIZE)

    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(f"crackflow.conversion.{tool}_annotations.importlib.import_module", refuse)
    with pytest.raises(UserError, match=r"received none; pip install 'crackflow\[annotations\]'"):
        scan(root, Layout(tool))
