"""CSV files whose names survive: any bytes that a file name may hold come back as they went out.

Synopsis::

    sha256 = tables.save("groups.csv", ("path", "label"), rows)
    for row in tables.read("groups.csv"): row["path"]
    text = tables.utf8_name(path)              # of a path that the locale read otherwise
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterable

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


def _line(cells: Iterable) -> str:
    return ",".join(_cell(str(cell)) for cell in cells) + "\n"


def _cell(text: str) -> str:
    """Quoted where needed: Python's own writer leaves a lone carriage return bare, where its reader ends the row."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def read(path: str) -> list[dict[str, str]]:
    """The rows of a CSV file that `save` wrote."""
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def utf8_name(path: str) -> str:
    """`path` as UTF-8 reads it, where the locale reads file names otherwise (C without coercion, ISO 8859-1), so that
    JSON and HTML show the same name everywhere; a name that is no UTF-8 as the locale reads it."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeError:
        return path
