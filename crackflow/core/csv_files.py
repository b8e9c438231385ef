"""CSV files whose names survive: any bytes of a file name are read back as they were written.

None of them acts on a terminal or in a spreadsheet on the way (`escaping.to_cell`).

Synopsis::

    sha256 = csv_files.save("groups.csv", ("path", "label"), rows)
    for row in csv_files.read("groups.csv"): row["path"]
    text = csv_files.utf8_name(path)              # of a path that the locale decoded otherwise
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterable
from typing import Any

from crackflow.core import escaping

ROWS_A_WRITE = 4096


def save(path: str, columns: Iterable[str], rows: Iterable[Iterable]) -> str:
    """Writes a CSV file, which is on the disk when this returns.

    Args:
        path: the file.
        columns: the header.
        rows: an iterable of any length.

    Returns:
        The SHA-256 of the file.
    """
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
    """Returns what `save` writes."""
    return "".join(map(_line, (columns, *rows)))


def _line(cells: Iterable) -> str:
    return ",".join(_cell(escaping.to_cell(str(cell))) for cell in cells) + "\n"


def _cell(text: str) -> str:
    """Quotes a cell where needed, also for the semicolon, which separates cells where decimals have a comma."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',";') else text


def read(path: str) -> list[dict[str, str]]:
    """Reads the rows of a CSV file that `save` wrote. Raises: OSError; csv.Error where it is no table."""
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [{name: _plain(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _plain(cell: str | Any) -> str | Any:
    return escaping.from_cell(cell) if isinstance(cell, str) else cell  # in a row of another length: a list, or None


def utf8_name(path: str) -> str:
    """Returns `path` decoded as UTF-8, so that JSON and HTML show the same name under every locale.

    Some locales decode file names otherwise (C without coercion, ISO 8859-1). A name that is not UTF-8 is returned as
    the locale decoded it.
    """
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeError:
        return path
