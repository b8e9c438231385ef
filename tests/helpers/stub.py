"""Writes crackflow/__init__.pyi, by which editors and type checkers know the verbs' arguments, from the configs.

python -m tests.helpers.stub
"""

import enum
import importlib
import inspect
import pathlib
import textwrap
from typing import get_args, get_origin

import crackflow
from crackflow.core import flags, verbs

PATH = pathlib.Path(crackflow.__file__).with_suffix(".pyi")
HEADER = """# Written by python -m tests.helpers.stub from the dataclasses of crackflow/core/config.
from collections.abc import Sequence
from os import PathLike
from typing import Literal

from crackflow.inference.predictor import Finding as Finding
from crackflow.inference.predictor import Model as Model
from crackflow.inference.predictor import Prediction as Prediction
from crackflow.inference.predictor import load as load_model
from crackflow.search.search import SearchResult
from crackflow.version import __version__ as __version__

__all__ = [
    "__version__",
    "Finding",
    "Model",
    "Prediction",
    "load_model",
%s]
"""


def annotation(kind):
    """The type of an argument, as a call may give it."""
    if get_origin(kind) is tuple:
        item = annotation(get_args(kind)[0])
        return f"{item} | Sequence[{item}]"
    if issubclass(kind, enum.Enum):
        return f"Literal[{', '.join(repr(member.value) for member in kind)}]"
    return "str | PathLike[str]" if kind is str else kind.__name__


def default(value):
    """The default of an argument as a literal."""
    if isinstance(value, tuple):
        inside = ", ".join(map(default, value))
        return f"({inside},)" if value else "()"
    return repr(value.value if isinstance(value, enum.Enum) else value)


def returned(run):
    """The annotation of what a verb returns, as the stub can name it."""
    kind = inspect.signature(run).return_annotation
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    return name.replace("crackflow.search.search.", "") if kind else "None"


def render():
    """The text of the stub."""
    names = [name for name in crackflow.__all__ if name in verbs.CONFIGS]
    parts = [HEADER % "".join(f'    "{name}",\n' for name in names)]
    for name in names:
        settings = flags.settings(verbs.CONFIGS[name])
        arguments = "".join(f"    {s.name}: {annotation(s.kind)} = {default(s.default)},\n" for s in settings)
        result = returned(importlib.import_module(f"crackflow.{name}").run)
        summary = textwrap.fill(verbs.summary(name), 110, subsequent_indent="    ")
        parts.append(f'def {name}(\n    *,\n{arguments}) -> {result}:\n    """{summary}"""\n')
    return "\n".join(parts).replace("'", '"')


if __name__ == "__main__":
    PATH.write_text(render())
