"""Command-line flags that are generated from a config dataclass, and the entry and exit of every command.

Synopsis::

    def run(config: ConvertConfig) -> None: ...

    if __name__ == "__main__":
        flags.main(ConvertConfig, run, __doc__)

A default is written in the dataclass alone; the fields of a dataclass within it become flags like its own.
`--flagfile=FILE` works everywhere (one flag per line, `#` comments), and `as_flagfile(config)` writes a file that
replays the run. `core.callable_module` makes the same configs from the arguments of a Python call.
"""

import contextlib
import dataclasses
import enum
import os
import signal
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from absl import flags as absl_flags

from crackflow.core import console, errors
from crackflow.core.escaping import one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
MAX_FLAGFILES, MAX_FLAGFILE_BYTES = 100, 1 << 20
GIVEN = "_given"  # an attribute but no field: which flags were written out is not part of the config


def define(config_class: type) -> absl_flags.FlagValues:
    """Defines one flag for each field of `config_class`, in a FlagValues of its own."""
    values = absl_flags.FlagValues()
    for setting in settings(config_class):
        _define_flag(values, setting)
        for alias in setting.aliases:
            absl_flags.DEFINE_alias(alias, setting.name, flag_values=values)
    absl_flags.DEFINE_string("flagfile", None, "read more flags from this file", flag_values=values)
    absl_flags.DEFINE_boolean("help", False, "print this list", short_name="h", flag_values=values)
    return values


class Setting(NamedTuple):
    """A field of a config: its flag."""

    name: str
    kind: Any  # a class, or tuple[class, ...]
    default: Any
    help: str
    aliases: tuple[str, ...] = ()


def settings(config_class: type, defaults: object = None) -> Iterator[Setting]:
    """Yields one setting per field. A field that is a dataclass yields its own fields, with the defaults of its
    default.
    """
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        default = field.default if defaults is None else getattr(defaults, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            yield from settings(hints[field.name], default)
        else:
            aliases = field.metadata.get("aliases", ())
            yield Setting(field.name, hints[field.name], default, field.metadata["help"], aliases)


def _define_flag(values: absl_flags.FlagValues, setting: Setting) -> None:
    name, kind, default, text, _ = setting
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
        absl_flags.DEFINE_enum(name, default.value, choices, text, flag_values=values)
    elif get_origin(kind) is tuple:
        absl_flags.DEFINE_list(name, [_text(item) for item in default], text, flag_values=values)
    else:
        makers: dict[type, Callable[..., object]] = {
            bool: absl_flags.DEFINE_boolean,
            int: absl_flags.DEFINE_integer,
            float: absl_flags.DEFINE_float,
            str: absl_flags.DEFINE_string,
        }
        makers[kind](name, default, text, flag_values=values)


def parse(config_class: type[Config], argv: Sequence[str]) -> Config:
    """Returns the config that `argv` (without the program's name) describes.

    Raises:
        UserError: for an unknown flag, a value of the wrong type, a stray word or an unreadable flagfile.
        ConfigError: for a value outside its range.
    """
    values = define(config_class)
    try:
        _require_few_flagfiles(argv)
        rest = values(["crackflow", *argv])[1:]
    except (absl_flags.Error, OSError, ValueError) as error:  # absl lets some errors of int() and of decoding pass
        raise errors.UserError(f"{one_line(error)}; --help lists the flags") from error
    if values.help:
        raise HelpRequested(_help(config_class))
    if rest:
        raise errors.UserError(f"expected only --flags, received {rest[0]!r}; write --name=value")
    config = build(
        config_class, {name: _from_words(name, kind, values[name].value) for name, kind, *_ in settings(config_class)}
    )
    mark_explicit(config, (name for name in values if values[name].present))
    return config


def mark_explicit(config: object, names: Iterable[str]) -> None:
    """Notes which flags of `config` were given, by their names or aliases; `explicit_flags` returns them."""
    by_alias = {alias: setting.name for setting in settings(type(config)) for alias in setting.aliases}
    object.__setattr__(config, GIVEN, frozenset(by_alias.get(name, name) for name in names))


def _require_few_flagfiles(argv: Sequence[str]) -> None:
    """Refuses large and endless flagfiles. Files that name each other, a few lines each, would be read 2 ** 30 times.

    Raises:
        UserError: for such files.
        OSError: when a file can't be read.
    """
    left, read = _flagfiles(argv), 0
    while left:
        path, read = left.pop(), read + 1
        if read > MAX_FLAGFILES:
            raise errors.UserError(
                f"--flagfile: expected files that name no more than {MAX_FLAGFILES} others, received {path!r}, which "
                "names itself or very many"
            )
        if os.path.isfile(path) and os.path.getsize(path) > MAX_FLAGFILE_BYTES:
            raise errors.UserError(f"--flagfile: expected a file of flags, received {path!r}, which is too large")
        if os.path.exists(path) and stat.S_ISCHR(os.stat(path).st_mode):  # a pipe ends, but /dev/zero does not
            raise errors.UserError(f"--flagfile: expected a file of flags, received {path!r}, which is a device")
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                left += _flagfiles([line.strip() for line in file])


def _flagfiles(words: Sequence[str]) -> list[str]:
    """Returns the flagfiles that `words` name, by the rules of absl."""
    paths = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, equals, path = word.partition("=")
        if name in ("--flagfile", "-flagfile"):
            paths.append(os.path.expanduser((path if equals else following).strip()))
    return paths


def explicit_flags(config: object) -> frozenset[str]:
    """Returns the names of the flags that the command or its flagfile wrote out, even with their defaults.

    For a config that was built in Python, these are the flags that differ from the default. `dataclasses.replace`
    forgets which flags were written out.
    """
    defaults = _values(type(config))
    differing = {name for name, value in _values(type(config), config).items() if value != defaults[name]}
    return frozenset(getattr(config, GIVEN, ())) | differing


def _values(config_class: type, config: object = None) -> dict[str, object]:
    """Returns the value of each setting in `config`, by name; those of the defaults without one."""
    return {setting.name: setting.default for setting in settings(config_class, config)}


class HelpRequested(Exception):
    """`--help` was passed; the text is the message."""


def build(config_class: type[Config], values: Mapping[str, object]) -> Config:
    """Builds a config, and the configs within it, from the value of each setting by name; others keep their defaults.

    A config within another may have other defaults there than by itself.

    Raises:
        ConfigError: for a value outside its range.
    """
    hints, fields = get_type_hints(config_class), {}
    for field in dataclasses.fields(config_class):
        if dataclasses.is_dataclass(hints[field.name]):
            names = {setting.name for setting in settings(hints[field.name])}
            given = {name: value for name, value in values.items() if name in names}
            fields[field.name] = build(hints[field.name], _values(hints[field.name], field.default) | given)
        elif field.name in values:
            fields[field.name] = values[field.name]
    return config_class(**fields)


def _from_words(name: str, kind: Any, value: Any) -> object:
    """Returns the value of the flag `name` as its field has it, from what absl parsed."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if get_origin(kind) is tuple:
        items = _as_tuple(name, value, get_args(kind)[0])
        return tuple(map(expand_user, items)) if get_args(kind)[0] is str else items
    return expand_user(value) if kind is str else value


def _as_tuple(name: str, items: Sequence[str], kind: type) -> tuple:
    try:
        return tuple(kind(item) for item in items)
    except ValueError as error:
        expected = " or ".join(member.value for member in kind) if issubclass(kind, enum.Enum) else kind.__name__
        raise errors.UserError(
            f"--{name}: expected {expected} values separated by commas, received {','.join(items)!r}"
        ) from error


def expand_user(value: str) -> str:
    """Expands ~, which a shell leaves as it is within --out=~/data: a folder of that name would be created."""
    return os.path.expanduser(value) if value.startswith("~") else value


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return ",".join(_text(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _help(config_class: type) -> str:
    lines = []
    for name, kind, default, help, _ in settings(config_class):
        names = "|".join(m.value for m in kind) if isinstance(kind, type) and issubclass(kind, enum.Enum) else ""
        lines.append(f"  --{name}={names or _text(default) or '...'}")
        lines.append(f"      {help}" + (f" (default {_text(default)})" if names else ""))
    lines.append("  --flagfile=FILE")
    lines.append("      read more flags from FILE, one per line")
    return "\n".join(lines)


def as_flagfile(config: object, header: str = "") -> str:
    """Returns `config` as the text of a flagfile: `--name=value` lines in the order of the fields."""
    lines = [f"# {line}" for line in header.splitlines()]
    lines += [f"--{name}={_text(value)}" for name, _, value, *_ in settings(type(config), config)]
    return "\n".join(lines) + "\n"


def as_dict(config: object, without: Collection[str] = ()) -> dict[str, str]:
    """Returns the name and the value of each flag, as text, except those in `without`."""
    return {name: _text(value) for name, _, value, *_ in settings(type(config), config) if name not in without}


def as_json(config: object, without: Collection[str] = ()) -> dict[str, Any]:
    """Returns the name and the value of each flag, as JSON has it, except those in `without`.

    `callable_module.build_config` makes the config again.
    """
    return {name: _plain(value) for name, _, value, *_ in settings(type(config), config) if name not in without}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def main(
    config_class: type[Config],
    run: Callable[[Config], object],
    about: str | None,
    argv: Sequence[str] | None = None,
) -> None:
    """Parses the flags, runs the command, and exits with the documented code.

    The codes are 0 done, 1 check failed, 2 the user's mistake, 75 run it again, 130 interrupted.

    Args:
        config_class: the dataclass of the flags.
        run: the command.
        about: the text above the list of flags in --help.
        argv: arguments without the program's name; None: those of this process.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    console.make_streams_safe()
    try:
        run(parse(config_class, sys.argv[1:] if argv is None else argv))
    except HelpRequested as help_request:
        console.info_lines(f"{(about or '').strip()}\n\nFlags:\n{help_request}")
    except errors.UserError as error:
        _exit(errors.EXIT_USER_ERROR, error)
    except errors.VerificationError as error:
        _exit(errors.EXIT_CHECK_FAILED, error)
    except errors.RetryableError as error:
        _exit(errors.EXIT_TRY_AGAIN, error)
    except KeyboardInterrupt:
        _exit(errors.EXIT_INTERRUPTED, "interrupted; nothing half-written was left under the final name")
    except Exception as error:
        user_error = (isinstance(error, OSError) and errors.from_os_error(error)) or errors.raised_inside(error)
        user_error = user_error or errors.from_shortage(error)
        if user_error is None:
            raise
        _exit(errors.EXIT_USER_ERROR, user_error)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _exit(code: int, message: object) -> None:
    with contextlib.suppress(OSError):  # its reader may be gone; the exit code remains
        sys.stderr.write(errors.signed(message))
    sys.exit(code)
