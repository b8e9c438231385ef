"""Findings as labels, for programs in which people draw and correct labels: COCO and YOLO.

Synopsis::

    content = findings_labels.coco(findings)                # of the content of findings.json, for instances.json
    files = findings_labels.yolo(findings)                  # path below the folder -> text

COCO: "Object Detection" of https://cocodataset.org/#format-data. YOLO: the segmentation format of Ultralytics, one line
for each polygon, "class x1 y1 x2 y2 ..." as fractions of width and height; a photograph without findings has an empty
file. The photographs stay where they are.
"""

import os
import pathlib

import numpy as np

CATEGORY = "crack"
DIGITS = 6  # of fractions in YOLO: a hundredth of a pixel in 10,000


def coco(content: dict) -> dict:
    """The findings in `content` as COCO instances; ids count from 1 in the order of findings.json."""
    images, annotations = [], []
    for image_id, photo in enumerate(content["photos"], 1):
        size = {"width": photo["width"], "height": photo["height"]}
        images.append({"id": image_id, "file_name": photo["path"], **size})
        for finding in photo["findings"]:
            outlines = [_open_outline(outline) for outline in finding["polygons"]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "segmentation": [outline.reshape(-1).tolist() for outline in outlines],
                    "area": round(sum(map(_area, outlines)), 1),
                    "bbox": finding["box"],
                    "iscrowd": 0,
                    "score": finding["probability"],
                    "decision": finding["decision"],
                }
            )
    info = {"description": "findings of crackflow.predict, not checked by a person", "version": content["crackflow"]}
    categories = [{"id": 1, "name": CATEGORY, "supercategory": ""}]
    return {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def yolo(content: dict) -> dict[str, str]:
    """The findings in `content` as files of YOLO: the text of each, by its path."""
    files = {"data.yaml": f"path: .\ntrain: images\nval: images\nnames:\n  0: {CATEGORY}\n"}
    for photo in content["photos"]:
        size = np.array([photo["width"], photo["height"]], np.float64)
        lines = []
        for finding in photo["findings"]:
            for outline in finding["polygons"]:
                fractions = np.clip(_open_outline(outline) / size, 0, 1)
                lines.append(" ".join(["0", *(f"{value:.{DIGITS}f}" for value in fractions.reshape(-1))]))
        files[_label_path(photo["path"], files)] = "".join(f"{line}\n" for line in lines)
    return files


def _label_path(path: str, files: dict[str, str]) -> str:
    """Of the labels of the photograph `path`: never outside the folder, and not one that is in use.

    YOLO has no names for wall.jpg and wall.png beside each other; the second is wall.png.txt.
    """
    parts = [part for part in pathlib.PurePath(path).parts[-8:] if part not in (os.pardir, os.curdir)]
    parts = parts[1:] if parts and parts[0] == pathlib.PurePath(path).anchor else parts
    whole = "/".join(["labels", *parts])
    stem, number = os.path.splitext(whole)[0], 2
    candidate = f"{stem}.txt" if f"{stem}.txt" not in files else f"{whole}.txt"
    while candidate in files:
        candidate, number = f"{whole}.{number}.txt", number + 1
    return candidate


def _open_outline(outline: list) -> np.ndarray:
    """float64 [N, 2], without the repetition of the first point at the end."""
    points = np.asarray(outline, np.float64)
    return points[:-1] if len(points) > 3 and (points[0] == points[-1]).all() else points


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2
