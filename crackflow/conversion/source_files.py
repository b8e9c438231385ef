"""What a layout says of each source file: its label, its mask or drawing, its photograph and its split.

Synopsis::

    file = SourceFile("images/1.jpg", label=UNLABELLED, source="images/1.jpg", drawing=Drawing(shapes, 640, 480))
    layout_scan = LayoutScan(Layout.COCO, CRACK_CLASSES, [file], rejected=[])
    layout_scan.is_cut            # True: a drawing decides about the label of each tile
    data = source_files.read_bytes(root, file.path)
"""

import collections
import dataclasses
import os

from crackflow.core.config.data import Layout
from crackflow.data import embedded_image, image_file
from crackflow.data.drawings import Drawing

UNLABELLED = -1
CRACK_CLASSES = ("uncracked", "cracked")  # where folders do not name them


@dataclasses.dataclass(frozen=True, slots=True)
class SourceFile:
    """One source file.

    Attributes:
        path: Relative to the root folder.
        label: 0 for clean, 1 for cracked, -1 if the mask or the drawing determines it.
        source: Name of the source photograph; files with the same source stay in one split.
        mask: Path of the mask, an image of the same size; empty if there is none.
        drawing: What a labelling tool recorded of the image; None if there is nothing of that kind.
        split: "train", "val" or "test" if the folders or the annotations say so, else empty.
    """

    path: str
    label: int
    source: str
    mask: str = ""
    drawing: Drawing | None = None
    split: str = ""


@dataclasses.dataclass(frozen=True)
class LayoutScan:
    """The files of a source folder.

    Attributes:
        layout: The layout that was detected or requested.
        classes: Names of the clean and the cracked class.
        files: Sorted by path.
        rejected: (path, reason) of files and folders that cannot be used.
        notes: For each remark on file names, the number of files.
        passed_over: Number of skipped files and folders of the operating system, by kind.
    """

    layout: Layout
    classes: tuple[str, str]
    files: list[SourceFile]
    rejected: list[tuple[str, str]]
    notes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    passed_over: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    @property
    def is_cut(self) -> bool:
        """Whether the images are cut to tiles, which their masks or drawings label."""
        return self.layout is Layout.MASKS or any(file.label == UNLABELLED for file in self.files)


def read_bytes(root: str, path: str) -> bytes:
    """Reads the image file `path`, relative to `root`; of a JSON file of labelme, the image inside it.

    Raises:
        ImageError: The file cannot be read, or holds no image.
    """
    data = image_file.read_file(os.path.join(root, path))
    return embedded_image.extract(data) if path.lower().endswith(".json") else data
