"""The same polygons as each labelling tool writes them, after the formats' own documentation."""

import base64
import json
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CLASS = "crack"


def put_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def coco(root, drawings, size, file="annotations/instances.json", category=CLASS, form="polygons"):
    """https://cocodataset.org/#format-data; `drawings`: name -> polygons, each a list of (x, y); `size`: (W, H)."""
    images, annotations = [], []
    for number, (name, polygons) in enumerate(drawings.items()):
        images.append({"id": number + 1, "file_name": name, "width": size[0], "height": size[1]})
        for points in polygons:
            flat = [float(value) for point in points for value in point]
            x, y = np.array(points, float).T
            box = [float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y))]
            segmentation = {"polygons": [flat], "boxes": []}[form]
            entry = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": 3, "bbox": box}
            annotations.append(entry | {"segmentation": segmentation, "area": box[2] * box[3], "iscrowd": 0})
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
    put_json(root / file, content | {"categories": [{"id": 3, "name": category, "supercategory": ""}]})
    return root / file


def coco_runs(root, masks, compressed):
    """As `coco`, with the runs that pycocotools makes of `masks`, name -> bool [H, W]."""
    images, annotations = [], []
    for number, (name, mask) in enumerate(masks.items()):
        images.append({"id": number, "file_name": name, "width": mask.shape[1], "height": mask.shape[0]})
        runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        counts = runs["counts"].decode() if compressed else runs_down_columns(mask)
        segmentation = {"size": list(mask.shape), "counts": counts}
        entry = {"id": number, "image_id": number, "category_id": 1, "segmentation": segmentation, "iscrowd": 1}
        annotations.append(entry | {"bbox": coco_mask.toBbox(runs).tolist(), "area": int(mask.sum())})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": CLASS}]}
    put_json(root / "annotations/instances.json", content)


def runs_down_columns(mask):
    """COCO's uncompressed counts, by the loop of its documentation."""
    counts, value, length = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return [*counts, length]


def yolo(root, drawings, size, boxes=False, category=CLASS):
    """https://docs.ultralytics.com/datasets/segment/ and .../detect/."""
    (root / "data.yaml").write_text(f"path: .\ntrain: images\nval: []\nnames:\n  0: wall\n  1: {category}\n")
    for name, polygons in drawings.items():
        lines = []
        for points in polygons:
            x, y = (np.array(points, float) / size).T
            box = [x.min() / 2 + x.max() / 2, y.min() / 2 + y.max() / 2, np.ptp(x), np.ptp(y)]
            values = box if boxes else np.stack([x, y], 1).ravel()
            lines.append(" ".join(["1", *(f"{value:.12g}" for value in values)]) + "\n")
        path = (root / name.replace("images/", "labels/")).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))


def labelme(root, drawings, size, boxes=False, embedded=(), category=CLASS):
    """https://github.com/wkentaro/labelme/blob/main/examples; of `embedded` names, the image is inside the JSON."""
    for name, polygons in drawings.items():
        shapes = []
        for points in polygons:
            corners = [np.min(points, 0).tolist(), np.max(points, 0).tolist()]
            shape = {"label": category, "points": corners if boxes else [list(map(float, point)) for point in points]}
            kind = "rectangle" if boxes else "polygon"
            shapes.append(shape | {"group_id": None, "description": "", "shape_type": kind, "flags": {}})
        path = root / name
        data = None
        if name in embedded:
            data = base64.b64encode(path.read_bytes()).decode()
            path.unlink()
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": path.name, "imageData": data}
        put_json(path.with_suffix(".json"), content | {"imageHeight": size[1], "imageWidth": size[0]})


def cvat(root, drawings, size, boxes=False, category=CLASS):
    """https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/#cvat-for-image."""
    tree = ElementTree.Element("annotations")
    ElementTree.SubElement(tree, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(tree, "meta"), "task"), "labels")
    for name in (category, "wall"):
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
    for number, (name, polygons) in enumerate(drawings.items()):
        sides = {"width": str(size[0]), "height": str(size[1])}
        image = ElementTree.SubElement(tree, "image", {"id": str(number), "name": name, **sides})
        for points in polygons:
            common = {"label": category, "source": "manual", "occluded": "0", "z_order": "0"}
            if boxes:
                (left, top), (right, bottom) = np.min(points, 0).tolist(), np.max(points, 0).tolist()
                corners = {"xtl": str(left), "ytl": str(top), "xbr": str(right), "ybr": str(bottom)}
                ElementTree.SubElement(image, "box", common | corners)
            else:
                text = ";".join(f"{x},{y}" for x, y in points)
                ElementTree.SubElement(image, "polygon", common | {"points": text})
    ElementTree.ElementTree(tree).write(root / "annotations.xml", encoding="utf-8", xml_declaration=True)


def table(root, labels):
    """`labels`: name -> 0 or 1."""
    rows = "".join(f'"{name}";{("no crack", "crack")[label]}\r\n' for name, label in labels.items())
    (root / "labels.csv").write_text(f"path;label\r\n{rows}", encoding="utf-8-sig", newline="")


def png_masks(root, masks):
    """images/1.jpg -> masks/1.png, white in the crack."""
    for name, mask in masks.items():
        path = (root / name.replace("images/", "masks/")).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
