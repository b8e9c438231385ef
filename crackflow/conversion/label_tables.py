"""Read a CSV file with the path and the label of each image.

Synopsis::

    folder = label_tables.read(root, ["labels.csv"], index)
    folder.images[0].path, folder.images[0].shapes      # "1.jpg", (("crack", Shape(Kind.TAG)),)

The header names the columns, in any order: path, file or image; label or class; and split, if there is one. Cells are
separated by commas, semicolons or tabs, may be quoted, and a byte order mark is passed over.
"""

import csv
import io
import os
import posixpath

from crackflow.conversion import annotation_files, folder_names
from crackflow.conversion.annotation_files import AnnotatedFolder, AnnotatedImage, EntryError, ImageIndex
from crackflow.core.errors import UserError
from crackflow.data.drawings import Kind, Shape

MAX_BYTES = 256 << 20
HEAD_BYTES = 4096
PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img", "image_name", "name")
LABELS = ("label", "class", "category", "target", "cracked", "crack")
SPLITS = ("split", "subset", "set")


def is_table(root: str, file: str) -> bool:
    """Whether the first line of `file` names a column of paths and a column of labels."""
    try:
        with open(os.path.join(root, file), "rb") as stream:
            head = stream.read(HEAD_BYTES).decode("utf-8-sig", "surrogateescape")
    except OSError:
        return False
    header = _cells(head.splitlines()[0] if head.strip() else "", file)[0]
    return _column(header, PATHS) is not None and _column(header, LABELS) is not None


def read(root: str, files: list[str], index: ImageIndex) -> AnnotatedFolder:
    """Reads all `files`.

    Raises:
        UserError: A file has no such header, or a row has no label or another number of cells.
    """
    folder = AnnotatedFolder(files=files)
    for file in files:
        try:
            _read_file(root, file, index, folder)
        except EntryError as error:
            raise UserError(f"--images: {file}, {error}; mend the table") from error
    return folder


def _cells(line: str, file: str) -> tuple[list[str], str]:
    """The cells of the first line, and what separates them: the mark that occurs most."""
    mark = max(",;\t", key=line.count)
    try:
        return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=mark), [])], mark
    except csv.Error as error:
        raise EntryError(f"line 1: expected a table ({error})") from error


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _read_file(root: str, file: str, index: ImageIndex, folder: AnnotatedFolder) -> None:
    try:
        text = annotation_files.read_text_file(root, file, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EntryError(f"byte {error.start}: expected UTF-8") from error
    header, mark = _cells(text.partition("\n")[0].rstrip("\r"), file)
    paths, labels, split_column = (_column(header, names) for names in (PATHS, LABELS, SPLITS))
    if paths is None or labels is None:
        raise EntryError(f"line 1: expected a header with path and label, received {', '.join(header) or 'none'}")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        next(rows)
        for row in rows:
            if row:
                number = rows.line_num
                if len(row) != len(header):
                    raise EntryError(f"line {number}: expected {len(header)} cells, received {len(row)}")
                name, label = row[paths].strip(), row[labels].strip()
                split = folder_names.split(row[split_column].strip()) if split_column is not None else ""
                if not name or not label:
                    raise EntryError(f"line {number}: expected a path and a label, received {name!r} and {label!r}")
                _add_image(name, label, split, f"{file}, line {number}", index, folder)
    except csv.Error as error:
        raise EntryError(f"line {rows.line_num}: expected a table ({error})") from error


def _add_image(name: str, label: str, split: str, entry: str, index: ImageIndex, folder: AnnotatedFolder) -> None:
    folder.add_classes([label])
    file = entry.rpartition(", line ")[0]
    try:
        path = index.find(name, posixpath.dirname(file))
    except EntryError as error:
        folder.rejected.append((name, f"{entry}: {error}"))
        return
    shapes = ((label, Shape(Kind.TAG, name=entry)),)
    folder.images.append(AnnotatedImage(path, entry, shapes, split=split or annotation_files.folder_split(path)))
