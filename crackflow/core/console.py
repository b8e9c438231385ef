"""Output of a command: messages, tables and a progress bar with images/s and the remaining time.

The bar is drawn on a terminal only, and on stderr, so that stdout stays clean.

Synopsis::

    with console.progress_bar(10_000, "reading images") as advance:
        advance(64)
"""

import contextlib
import io
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from crackflow.core.escaping import one_line, visible

WIDTH = 160  # columns of a table that is written to a file or a pipe


class ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} images/s" if speed else "")


@contextlib.contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Gives `advance(n)`. Nothing is drawn when stderr is not a terminal."""
    console = Console(stderr=True)
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
    )
    columns += (ImagesPerSecond(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(one_line(what), total=total)
        yield lambda step: progress.advance(task, step)


def make_streams_safe() -> None:
    """Makes stdout and stderr write characters that their encoding lacks as \\u escapes.

    This holds whatever the locale or PYTHONIOENCODING says. Where the process was started without the streams, output
    is discarded. File names come in every script, and undecodable ones as lone surrogates that no encoding has.
    """
    for number in range(3):  # else the next opened file gets the number, and with it what C code prints
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - it stays open
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.excepthook = _show_exception
    threading.excepthook = lambda ended: _show_exception(ended.exc_type, ended.exc_value, ended.exc_traceback)
    if logging.lastResort is not None:  # a program may have removed it
        logging.lastResort.setFormatter(_Visible())
    warnings.formatwarning = _warning_in_words


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), keep="\n")


def _show_exception(kind: type[BaseException], exception: BaseException | None, trace: TracebackType | None) -> None:
    """Prints a bug's traceback as Python does; its message may hold a file name."""
    error("".join(traceback.format_exception(kind, exception, trace)))


def _warning_in_words(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"{one_line(filename)}:{lineno}: {category.__name__}: {one_line(message)}\n"


_silent = False


def set_quiet() -> None:
    """Silences this process: of several workers of one run, only one prints."""
    global _silent
    _silent = True


def print_table(columns: Sequence[str], rows: Iterable[Sequence[tuple[str, bool]]]) -> None:
    """Prints a table on stdout.

    Args:
        columns: the titles.
        rows: (text, whether it is a warning) for each column; warnings are red and end in "!".
    """
    if _silent or sys.stdout is None:
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(Text(one_line(column)))
    for row in rows:
        cells = ((one_line(text), warns) for text, warns in row)
        table.add_row(*(Text(f"{text} !" if warns else text, style="red" if warns else "") for text, warns in cells))
    on_terminal, text = sys.stdout.isatty(), io.StringIO()
    Console(file=text, force_terminal=on_terminal, width=None if on_terminal else WIDTH).print(table)
    _to_stdout(text.getvalue().rstrip("\n"))


def info(text: str) -> None:
    """Prints one line on stdout; characters in it that would act on the terminal are made visible."""
    _to_stdout(one_line(text))


def info_lines(text: str) -> None:
    """Prints several lines as `info` does; the caller keeps each name on one line (`escaping.one_line`)."""
    _to_stdout(visible(text, keep="\n"))


def _to_stdout(text: str) -> None:
    if _silent or sys.stdout is None:
        return
    with _ignore_broken_pipe():
        sys.stdout.write(_writable(text, sys.stdout) + "\n")
        sys.stdout.flush()


def warning(text: str) -> None:
    """Prints one line on stderr that begins with "warning": the command continues, but its result needs attention."""
    _to_stderr(f"warning: {one_line(text)}")


def alert(text: str) -> None:
    """Prints a warning that nobody may overlook: with WARNING, and in red on a terminal."""
    red = ("\x1b[1;31m", "\x1b[0m") if sys.stderr and sys.stderr.isatty() else ("", "")
    _to_stderr(f"{red[0]}WARNING: {one_line(text)}{red[1]}")


def error(text: str) -> None:
    """Prints lines such as tracebacks on stderr, also in a quiet process, with characters that act made visible."""
    _write_error(visible(text.rstrip("\n"), keep="\n"))


def _to_stderr(line: str) -> None:
    if not _silent:
        _write_error(line)


def _write_error(line: str) -> None:
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError):  # its reader may be gone, or its disk full; the command continues
        sys.stderr.write(_writable(line, sys.stderr) + "\n")
        sys.stderr.flush()


def _writable(text: str, stream: TextIO) -> str:
    """Escapes characters of `text` that `stream` can't hold; for processes that did not call `make_streams_safe`."""
    encoding = getattr(stream, "encoding", None) or "utf-8"  # of a StringIO it is None
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextlib.contextmanager
def _ignore_broken_pipe() -> Iterator[None]:
    """Discards stdout from now on where its reader has exited (`| head -1`) or its disk is full."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):
                sys.stderr.write(f"warning: stdout can't be written ({error.strerror}); continuing without it\n")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
