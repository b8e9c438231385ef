"""What all pages share: the template environment and its filters for numbers."""

import base64
import functools
from collections.abc import Callable, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crackflow.core import escaping
from crackflow.evaluation import overlap, results
from crackflow.report import inspection, plots

PERCENT = "\u00a0%"  # after a no-break space


def percent(value: float | None) -> str:
    """'99.55 %' for 0.9955, with a no-break space; 100 only for 1 itself."""
    if value is None:
        return "undefined"
    text = f"{100 * value:.2f}"
    return f"{'99.99' if text == '100.00' and value < 1 else text}{PERCENT}"


@functools.cache
def environment() -> Environment:
    """The templates of this folder. Values are escaped, and characters that UTF-8 or HTML can't hold made visible."""
    templates = Environment(
        loader=PackageLoader("crackflow.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_finalize,
    )
    templates.filters |= {"count": "{:,}".format, "oneline": escaping.one_line, "base64": to_base64}
    templates.filters |= {"percent": percent, "interval": interval, "width": width}
    templates.filters |= {
        "length_figure": inspection.length_text,
        "total": inspection.total_text,
        "width_figure": inspection.width_text,
        "width_interval": inspection.interval_text,
        "sort_value": inspection.sort_value,
    }
    templates.globals |= {
        "in_words": results.in_words,
        "seen_in_words": overlap.in_words,
        "VALIDATION": results.VALIDATION,
    }
    return templates


def _finalize(value: object) -> object:
    """Escape the characters that are invisible or that HTML or UTF-8 cannot hold: \\udcff, \\x00, \\u202e."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else escaping.visible(value, keep="\n\t")


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def width(text: object) -> str:
    """The CSS class of a cell in the grid of facts, by how many columns its text needs."""
    length = len(str(text))
    return "full" if length > 56 else "half" if length > 26 else ""


def interval(bounds: Sequence[float], form: Callable[[float], str] = percent) -> str:
    """'98.34 to 99.27 %', kept on one line."""
    low, high = (form(bound) for bound in bounds)
    return f"{low.removesuffix(PERCENT)}\u00a0to\u00a0{high}"


def number(value: float | None) -> str:
    return "undefined" if value is None else plots.four_digits(value)
