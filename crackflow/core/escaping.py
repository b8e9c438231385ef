"""Escaping of text from outside, above all file names, so that nothing in it acts in a terminal, a page or a table.

Synopsis::

    escaping.visible("a\\x1b[2Jb.jpg")             # 'a\\\\x1b[2Jb.jpg': a terminal would have been cleared
    escaping.to_cell("=1+1.jpg")                  # "'=1+1.jpg": a spreadsheet would have computed it
    escaping.from_cell(escaping.to_cell(name))    # name, whatever it is

A file name may hold any byte but NUL and the slash. Escape sequences drive a terminal, right-to-left marks reverse a
name (U+202E: "gpj.exe" is displayed as "exe.jpg"), and spreadsheets treat a cell that begins with one of = + - @ as a
formula (OWASP, CSV Injection).
"""

import re
import unicodedata

# Control and format characters (also invisible ones), lone surrogates, separators of lines and paragraphs.
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four, of full width, are the same to a spreadsheet in Japan
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
GUARDED = re.compile(rf"'*\s*[{FORMULA}]")
WRITTEN = r"x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}"
ESCAPE, LOOKS_ESCAPED = re.compile(rf"\\({WRITTEN})"), re.compile(rf"\\(?={WRITTEN})")
# Semicolons separate cells where a spreadsheet's language has decimal commas.
AFTER_SEPARATOR = re.compile(rf"""(;[\s"']*)([{FORMULA}])""")


def visible(text: str, keep: str = "") -> str:
    """Returns `text` with characters that act or are invisible as \\n, \\x1b, \\u202e; those of `keep` stay."""
    if text.isprintable():
        return text
    return "".join(
        SHORT.get(letter) or _code(letter) if letter not in keep and _is_hidden(letter) else letter for letter in text
    )


def one_line(text: object) -> str:
    """Returns `text` on one line, with nothing in it that acts: for messages with odd file names."""
    return visible(str(text))


def to_cell(text: str) -> str:
    """Returns `text` as a cell of a table: visible, and no formula. Numbers stay as they are."""
    if not text.isprintable() or "\\" in text:
        text = LOOKS_ESCAPED.sub(r"\\x5c", text)  # else reading it back would unescape it
        text = "".join(_code(letter) if _is_hidden(letter) else letter for letter in text)
    if ";" in text:
        text = AFTER_SEPARATOR.sub(lambda match: match[1] + _code(match[2]), text)
    return f"'{text}" if GUARDED.match(text) and not NUMBER.fullmatch(text) else text


def from_cell(text: str) -> str:
    """Inverts `to_cell`."""
    if text[:1] == "'" and GUARDED.match(text):
        text = text[1:]
    return ESCAPE.sub(lambda match: chr(int(match[1][1:], 16)), text) if "\\" in text else text


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in HIDDEN


def _code(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
