"""Finds where a model is weak: its figures on parts of a dataset.

Synopsis::

    statistics = slices.image_statistics(image)                           # uint8 [B, px, px, C] -> float32 [B, 2]
    parts = slices.divide(labels, decisions, {"brightness": statistics[:, 0]}, {"folder": folders})
    parts[0].kind, parts[0].name, parts[0].recall_ci95         # "brightness", "12 to 96", (0.91, 0.97)

labels, decisions: bool [N]; values: float [N], NaN where unknown; names: N strings, empty where there is none.
"""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from crackflow.conversion import class_folders, folder_names, layouts
from crackflow.core import errors
from crackflow.core.config.data import ConvertConfig, Layout
from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data import image_file, mask_tiles
from crackflow.data.dataset import Dataset
from crackflow.evaluation import metrics

QUARTERS = 4
MAX_NAMES = 12  # the largest folders have a slice each, the others share one
# The folder that names the class is no property of the surface. This is its position in the path, by layout.
CLASS_PART = {Layout.CLASSES.value: 0, Layout.SDNET.value: 1, Layout.MASKS.value: 0}
LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)


@dataclasses.dataclass(frozen=True)
class Slice:
    """The figures of the images that share a property.

    Attributes:
        kind: the property, such as "brightness".
        name: its value or range.
        n: number of images.
        cracked: how many of them are cracked.
        accuracy, recall, specificity: 0..1, None without an image of that class.
        accuracy_ci95, recall_ci95, specificity_ci95: 95 % intervals (Wilson), None likewise.
    """

    kind: str
    name: str
    n: int
    cracked: int
    accuracy: float
    accuracy_ci95: list[float]
    recall: float | None
    recall_ci95: list[float] | None
    specificity: float | None
    specificity_ci95: list[float] | None


def image_statistics(image: np.ndarray) -> np.ndarray:
    """Computes brightness and sharpness of each image.

    Args:
        image: uint8 [B, px, px, C].

    Returns:
        float32 [B, 2]: brightness, the mean grey level, 0..255; and sharpness, the variance of the Laplacian of the
        grey levels (Pech-Pacheco et al. 2000), which blur lowers and noise raises.
    """
    grey = np.asarray(image).astype(np.float32).mean(-1)
    edges = ndimage.correlate(grey, LAPLACIAN[None], mode="nearest")
    return np.stack([grey.mean((1, 2)), edges.var((1, 2))], 1)


def folders(paths: Sequence[str], layout: str) -> list[str]:
    """The folders of each path, without the one that names the class; in a joined dataset, the name of the dataset that
    the image comes from."""
    if layout == dataset_io.JOINED:
        return [pathlib.PurePath(path).parts[0] for path in paths]
    names = []
    for path in paths:
        parts = pathlib.PurePath(path).parent.parts
        skipped = _class_folder_index(parts, layout)
        names.append("/".join(part for position, part in enumerate(parts) if position != skipped))
    return names


def _class_folder_index(parts: Sequence[str], layout: str) -> int | None:
    """Index of the folder that names the class, or that says that the file is an image and no mask."""
    if layout not in CLASS_PART:
        return None
    if layout == Layout.MASKS.value:
        tells_class = (folder_names.role(part) == "images" for part in parts)
    else:
        tells_class = (part in class_folders.CODES or folder_names.label(part) is not None for part in parts)
    return next((position for position, tells in enumerate(tells_class) if tells), CLASS_PART[layout])


def crack_widths(dataset: Dataset, paths: Sequence[str]) -> np.ndarray:
    """Measures the mean crack width of each image from the masks that `dataset` was cut by.

    Returns:
        float64 [N]: pixels of the source image; NaN without a crack, or when the mask is no longer found.
    """
    widths, root = np.full(len(paths), np.nan), dataset.metadata.get("source") or ""
    if dataset.metadata.get("layout") != Layout.MASKS.value:
        return widths
    rows = collections.defaultdict(list)
    for row, path in enumerate(paths):
        rows[path.rpartition("#xywh=")[0] or path].append(row)
    try:
        masks = layouts.find_masks(root, rows)
    except UserError:  # the folder was moved, or is another one now
        return widths
    for image_path, mask_path in masks.items():
        image_rows = rows[image_path]
        try:
            photo = image_file.open_photo(os.path.join(root, mask_path), ConvertConfig.max_megapixels, min_side_px=1)
            crack = image_file.pixels(photo, channels=1, image_px=0, under="black")[..., 0] > mask_tiles.CRACK_ABOVE
        except errors.ImageError:
            continue
        for row in image_rows:
            x, y, width, height = mask_tiles.parse_tile_name(paths[row]) or (0, 0, crack.shape[1], crack.shape[0])
            widths[row] = width_px(crack[y : y + height, x : x + width])
    return widths


def width_px(crack: np.ndarray) -> float:
    """Mean width in pixels of the True region of `crack` bool [H, W]; NaN when it is empty.

    From the distance transform: in a strip of w pixels the mean distance to the outside is w / 4 + 1 / 2, within a
    tenth from 2 pixels on; a strip of 1 reads as 2.
    """
    if not crack.any():
        return float("nan")
    away = ndimage.distance_transform_edt(np.pad(crack, 1, mode="edge"))[1:-1, 1:-1]
    return float(4 * (away[crack].mean() - 0.5))


def divide(
    labels: np.ndarray,
    decisions: np.ndarray,
    values: Mapping[str, np.ndarray],
    names: Mapping[str, Sequence[str]],
) -> list[Slice]:
    """Divides the images by quartiles of each of `values` and by each of `names`.

    Args:
        labels: int or bool [N], 1 means cracked.
        decisions: int or bool [N], 1 means called cracked.
        values: kind to float [N], NaN where unknown.
        names: kind to N strings, empty where there is none.

    Returns:
        The slices. A kind of `names` that has only one value gives none.
    """
    labels, decisions, slices = np.asarray(labels, bool), np.asarray(decisions, bool), []
    for kind, per_image in names.items():
        all_names = np.asarray(per_image, object)
        common = [name for name, _ in collections.Counter(all_names.tolist()).most_common(MAX_NAMES)]
        parts = {name or "(none)": all_names == name for name in common}
        rest = ~np.isin(all_names.astype(str), [str(name) for name in common])
        parts |= {f"{len(set(all_names[rest].tolist())):,} others": rest} if rest.any() else {}
        slices += [_measure_slice(kind, *part, labels, decisions) for part in parts.items() if len(parts) > 1]
    for kind, per_image in values.items():
        known = np.isfinite(per_image)
        if not known.any():
            continue
        edges = np.unique(np.quantile(per_image[known], np.linspace(0, 1, QUARTERS + 1)))
        quarter_of = np.clip(np.searchsorted(edges, per_image, side="right") - 1, 0, len(edges) - 2)
        for quarter in range(len(edges) - 1):
            name = f"{_format_value(edges[quarter])} to {_format_value(edges[quarter + 1])}"
            slices.append(_measure_slice(kind, name, known & (quarter_of == quarter), labels, decisions))
    return [part for part in slices if part]


def _format_value(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _measure_slice(
    kind: str, name: str, in_slice: np.ndarray, labels: np.ndarray, decisions: np.ndarray
) -> Slice | None:
    cracked, clean = in_slice & labels, in_slice & ~labels
    if not in_slice.any():
        return None
    counts = {
        "accuracy": (int((in_slice & (labels == decisions)).sum()), int(in_slice.sum())),
        "recall": (int((cracked & decisions).sum()), int(cracked.sum())),
        "specificity": (int((clean & ~decisions).sum()), int(clean.sum())),
    }
    rates = {}
    for measure, (right, trials) in counts.items():
        rates[measure] = right / trials if trials else None
        rates[f"{measure}_ci95"] = list(metrics.wilson(right, trials)) if trials else None
    return Slice(kind, name, int(in_slice.sum()), int(cracked.sum()), **rates)
