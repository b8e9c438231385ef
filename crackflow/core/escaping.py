"""Text from outside, file names above all, as a terminal, a page or a table may hold it: nothing in it acts.

Synopsis::

    escaping.visible("a\\x1b[2Jb.jpg")             # 'a\\\\x1b[2Jb.jpg': a terminal would have been cleared
    escaping.to_cell("=1+1.jpg")                  # "'=1+1.jpg": a spreadsheet would have computed it
    escaping.from_cell(escaping.to_cell(name))    # name, whatever it is

A file name may hold any byte but NUL and the slash. Escape sequences drive a terminal, right-to-left marks turn a name
around (U+202E: "gpj.exe" is read as "exe.jpg"), and spreadsheets take a cell that begins with one of = + - @ for a
formula (OWASP, CSV Injection).
"""

import re
import unicodedata

# Control and format characters (also those without a shape), lone surrogates, separators of lines and paragraphs.
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four, of full width, are the same to a spreadsheet in Japan
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
GUARDED = re.compile(rf"'*\s*[{FORMULA}]")
WRITTEN = r"x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}"
ESCAPE, LOOKS_ESCAPED = re.compile(rf"\\({WRITTEN})"), re.compile(rf"\\(?={WRITTEN})")
# Cells are separated by semicolons where a spreadsheet's language has the comma for decimals.
AFTER_SEPARATOR = re.compile(rf"""(;[\s"']*)([{FORMULA}])""")


def visible(text: str, keep: str = "") -> str:
    """`text` with what acts or can't be seen as \\n, \\x1b, \\u202e; the characters of `keep` stay."""
    if text.isprintable():
        return text
    return "".join(
        SHORT.get(letter) or _code(letter) if letter not in keep and _is_hidden(letter) else letter for letter in text
    )


def one_line(text: object) -> str:
    """`text` on one line, with nothing in it that acts: for messages with odd file names."""
    return visible(str(text))


def to_cell(text: str) -> str:
    """`text` as a cell of a table: visible, and no formula. Numbers stay as they are."""
    if not text.isprintable() or "\\" in text:
        text = LOOKS_ESCAPED.sub(r"\\x5c", text)  # else it would be read back as what it looks like
        text = "".join(_code(letter) if _is_hidden(letter) else letter for letter in text)
    if ";" in text:
        text = AFTER_SEPARATOR.sub(lambda found: found[1] + _code(found[2]), text)
    return f"'{text}" if GUARDED.match(text) and not NUMBER.fullmatch(text) else text


def from_cell(text: str) -> str:
    """What `to_cell` made this of."""
    if text[:1] == "'" and GUARDED.match(text):
        text = text[1:]
    return ESCAPE.sub(lambda found: chr(int(found[1][1:], 16)), text) if "\\" in text else text


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in HIDDEN


def _code(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
