import contextlib
import io
import json

import numpy as np
import pytest

from crackflow.report import findings_labels
from tests.helpers.located_findings import SQUARE, content, finding, photo

TRIANGLE = [[0.0, 0.0], [200.0, 0.0], [0.0, 100.0]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools under NumPy 2
def test_coco_is_read_by_its_reference_library(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    wall = photo(findings=[finding([SQUARE, TRIANGLE]), finding(decision="review")])
    (tmp_path / "a.json").write_text(json.dumps(findings_labels.coco(content(photo(path="clean.png"), wall))))
    with contextlib.redirect_stdout(io.StringIO()):
        labels = coco.COCO(str(tmp_path / "a.json"))
    assert [image["file_name"] for image in labels.loadImgs(labels.getImgIds())] == ["clean.png", "wall.jpg"]
    both, square = labels.loadAnns(labels.getAnnIds(imgIds=[2]))
    assert labels.getAnnIds(imgIds=[1]) == [] and labels.loadCats([1])[0]["name"] == "crack"
    assert square["area"] == 800 and square["bbox"] == [10.0, 20.0, 40.0, 20.0] and square["decision"] == "review"
    mask = labels.annToMask(square)
    assert mask.shape == (100, 200) and mask[20:40, 10:50].all() and mask.sum() == 800
    assert labels.annToMask(both).sum() == pytest.approx(10_000, rel=0.02)


def test_yolo_has_a_file_for_each_photograph_with_fractions_of_its_size():
    files = findings_labels.yolo(content(photo(findings=[finding([SQUARE, TRIANGLE])]), photo(path="deep/clean.png")))
    assert set(files) == {"data.yaml", "labels/wall.txt", "labels/deep/clean.txt"}
    assert files["labels/deep/clean.txt"] == ""
    first, second = (line.split() for line in files["labels/wall.txt"].splitlines())
    assert first[0] == second[0] == "0"
    np.testing.assert_allclose(np.float64(first[1:]).reshape(-1, 2) * (200, 100), SQUARE[:-1], atol=1e-3)
    np.testing.assert_allclose(np.float64(second[1:]).reshape(-1, 2), [[0, 0], [1, 0], [0, 1]])


@pytest.mark.parametrize("path", ["../../wall.jpg", "/tmp/wall.jpg", "./wall.jpg"])
def test_labels_stay_in_their_folder(path):
    name = next(name for name in findings_labels.yolo(content(photo(path=path))) if name != "data.yaml")
    assert name in ("labels/wall.txt", "labels/tmp/wall.txt")


def test_photographs_of_one_name_have_files_of_their_own():
    paths = ["wall.jpg", "wall.png", "../wall.png"]
    files = findings_labels.yolo(content(*(photo(path=path) for path in paths)))
    assert list(files) == ["data.yaml", "labels/wall.txt", "labels/wall.png.txt", "labels/wall.png.2.txt"]
