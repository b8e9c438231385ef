"""CSV files whose names survive: any bytes that a file name may hold come back as they went out, and none of them acts
on a terminal or in a spreadsheet on the way (`escaping.to_cell`).

Synopsis::

    sha256 = csv_files.save("groups.csv", ("path", "label"), rows)
    for row in csv_files.read("groups.csv"): row["path"]
    text = csv_files.utf8_name(path)              # of a path that the locale read otherwise
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterable

from crackflow.core import escaping

ROWS_A_WRITE = 4096


def save(path: str, columns: Iterable[str], rows: Iterable[Iterable]) -> str:
    """A CSV file, on the disk when this returns; gives its SHA-256. `rows` may be an iterator of any length."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        text = io.StringIO()

        def flush() -> None:
            data = text.getvalue().encode("utf-8", "surrogateescape")
            digest.update(data)
            file.write(data)
            text.seek(0)
            text.truncate()

        text.write(_line(columns))
        for number, row in enumerate(rows):
            text.write(_line(row))
            if number % ROWS_A_WRITE == 0:
                flush()
        flush()
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def as_text(columns: Iterable[str], rows: Iterable[Iterable]) -> str:
    """What `save` writes."""
    return "".join(map(_line, (columns, *rows)))


def _line(cells: Iterable) -> str:
    return ",".join(_cell(escaping.to_cell(str(cell))) for cell in cells) + "\n"


def _cell(text: str) -> str:
    """Quoted where needed, also for the semicolon, which separates cells where the comma is for decimals."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',";') else text


def read(path: str) -> list[dict[str, str]]:
    """The rows of a CSV file that `save` wrote. Raises: OSError; csv.Error where it is no table."""
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [{name: _plain(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _plain(cell: object) -> object:
    return escaping.from_cell(cell) if isinstance(cell, str) else cell  # of a row of another length: a list, or None


def utf8_name(path: str) -> str:
    """`path` as UTF-8 reads it, where the locale reads file names otherwise (C without coercion, ISO 8859-1), so that
    JSON and HTML show the same name everywhere; a name that is no UTF-8 as the locale reads it."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeError:
        return path
