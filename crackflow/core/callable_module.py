"""A verb's page can be called from Python with the flags of its command as keyword arguments.

Synopsis::

    callable_module.install(__name__, TrainConfig, run)     # in crackflow/train.py

    import crackflow
    crackflow.train(data="data/metu", run_dir="runs/metu", epochs=3)     # run(TrainConfig(data=..., ...))
"""

import difflib
import enum
import importlib
import inspect
import numbers
import os
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from crackflow.core import flags
from crackflow.core.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


class CallableModule(types.ModuleType):
    """A module whose call runs its verb; `inspect.signature` and editors see the flags."""

    call_verb: Callable[..., object]
    __signature__: inspect.Signature

    def __call__(self, **arguments: object) -> object:
        return self.call_verb(**arguments)


def install(name: str, config_class: type[Config], run: Callable[[Config], object]) -> None:
    """Makes the module `name` callable; does nothing where that module is the command itself (`__main__`).

    Args:
        name: `__name__` of the page.
        config_class: the dataclass of its flags.
        run: the verb.
    """
    if name == "__main__":
        return
    module = importlib.import_module(name)  # itself, while it is imported

    def call_verb(**arguments: object) -> object:
        return run(build_config(config_class, arguments))

    module.__class__ = CallableModule
    module.call_verb = call_verb  # type: ignore[attr-defined]
    module.__signature__ = signature(config_class, run)  # type: ignore[attr-defined]


def signature(config_class: type, run: Callable[..., object]) -> inspect.Signature:
    """Returns the signature of a verb's call: keyword arguments alone, with the types and defaults of its flags."""
    parameters = [
        inspect.Parameter(
            setting.name, inspect.Parameter.KEYWORD_ONLY, default=setting.default, annotation=setting.kind
        )
        for setting in flags.settings(config_class)
    ]
    return inspect.Signature(parameters, return_annotation=inspect.signature(run).return_annotation)


def build_config(config_class: type[Config], arguments: Mapping[str, object]) -> Config:
    """Builds the config that the arguments of a Python call describe.

    Enum members may be given by their values, a tuple as any sequence or as its one item, a path as a `pathlib.Path`.
    Flags may be given by their aliases.

    Raises:
        TypeError: for an argument that is no flag.
        UserError: for a value of another type.
        ConfigError: for a value outside its range.
    """
    by_name = {name: setting for setting in flags.settings(config_class) for name in (setting.name, *setting.aliases)}
    values = {}
    for name, value in arguments.items():
        if name not in by_name:
            nearest = difflib.get_close_matches(name, by_name, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else f", expected one of {', '.join(sorted(by_name))}"
            raise TypeError(f"unexpected argument {name!r}{hint}")
        setting = by_name[name]
        if setting.name in values:
            raise TypeError(f"argument {setting.name!r} was given twice, also as {name!r}")
        values[setting.name] = _convert(setting, value)
    config = flags.build(config_class, values)
    flags.mark_explicit(config, arguments)
    return config


def _convert(setting: flags.Setting, value: object) -> object:
    """Returns `value` as the field of `setting` has it. Raises: UserError for another type."""
    if get_origin(setting.kind) is not tuple:
        return _convert_item(setting.name, setting.kind, value)
    one = isinstance(value, (str, os.PathLike, enum.Enum)) or not hasattr(value, "__iter__")
    items: Any = (value,) if one else value
    return tuple(_convert_item(setting.name, get_args(setting.kind)[0], item) for item in items)


def _convert_item(name: str, kind: type, value: object) -> object:
    if issubclass(kind, enum.Enum):
        values = [member.value for member in kind]
        if isinstance(value, kind) or value in values:
            return kind(value)
        raise UserError(f"{name}: expected {' or '.join(map(repr, values))}, received {value!r}")
    if kind is str and isinstance(value, (str, os.PathLike)):
        return flags.expand_user(os.fspath(value))
    is_bool = isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # also NumPy's
    if kind is bool and is_bool:
        return bool(value)
    if kind is int and isinstance(value, numbers.Integral) and not is_bool:
        return int(value)
    if kind is float and isinstance(value, numbers.Real) and not is_bool:
        return float(value)
    raise UserError(f"{name}: expected {kind.__name__}, received {value!r}")
