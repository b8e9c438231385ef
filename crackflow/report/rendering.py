"""What all pages have in common: the template environment, and numbers in words."""

import base64
import functools
from collections.abc import Callable, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crackflow.core import escaping
from crackflow.evaluation import overlap, results
from crackflow.report import plots

PERCENT = "\u00a0%"  # after a no-break space


def percent(value: float | None) -> str:
    """'99.55 %' for 0.9955, with a no-break space; 100 only for 1 itself."""
    if value is None:
        return "undefined"
    text = f"{100 * value:.2f}"
    return f"{'99.99' if text == '100.00' and value < 1 else text}{PERCENT}"


@functools.cache
def environment() -> Environment:
    """Templates of this folder; whatever goes in is escaped, and made visible where UTF-8 or HTML can't hold it."""
    made = Environment(
        loader=PackageLoader("crackflow.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_finalize,
    )
    made.filters |= {"count": "{:,}".format, "oneline": escaping.one_line, "base64": to_base64}
    made.filters |= {"percent": percent, "interval": interval, "width": width}
    made.globals |= {"in_words": results.in_words, "seen_in_words": overlap.in_words, "VALIDATION": results.VALIDATION}
    return made


def _finalize(value: object) -> object:
    """Text without what HTML or UTF-8 cannot hold, or what can't be seen: \\udcff, \\x00, \\u202e."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else escaping.visible(value, keep="\n\t")


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def width(text: object) -> str:
    """The class of a fact in the grid of facts: how many columns its text needs."""
    length = len(str(text))
    return "full" if length > 56 else "half" if length > 26 else ""


def interval(bounds: Sequence[float], form: Callable[[float], str] = percent) -> str:
    """'98.34 to 99.27 %', kept on one line."""
    low, high = (form(bound) for bound in bounds)
    return f"{low.removesuffix(PERCENT)}\u00a0to\u00a0{high}"


def number(value: float | None) -> str:
    return "undefined" if value is None else plots.four_digits(value)
