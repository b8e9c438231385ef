"""Command-line flags made from a settings dataclass, and the way in and out of every verb.

Synopsis::

    def run(config: ConvertConfig) -> None: ...

    if __name__ == "__main__":
        flags.main(ConvertConfig, run, __doc__)

A default lives in the dataclass alone; the fields of a dataclass within it become flags like its own.
`--flagfile=FILE` works everywhere (one flag a line, `#` comments), and `as_flagfile(config)` writes a file that replays
the run.
"""

import dataclasses
import enum
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, get_args, get_origin, get_type_hints

from absl import flags as absl_flags

from crackflow.core import errors

Config = TypeVar("Config")


def define(config_class: type) -> absl_flags.FlagValues:
    """One flag for each field of `config_class`, in a set of flags of its own."""
    values = absl_flags.FlagValues()
    for field, kind in _fields(config_class):
        _define_one(values, field, kind)
    absl_flags.DEFINE_string("flagfile", None, "read more flags from this file", flag_values=values)
    absl_flags.DEFINE_boolean("help", False, "print this list", short_name="h", flag_values=values)
    return values


def _fields(config_class: type) -> Iterator[tuple[dataclasses.Field, type]]:
    """Each field with its type; where that is a dataclass, the fields of that one instead."""
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _fields(hints[field.name])
        else:
            yield field, hints[field.name]


def _define_one(values: absl_flags.FlagValues, field: dataclasses.Field, kind: type) -> None:
    text = field.metadata["help"]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
        absl_flags.DEFINE_enum(field.name, field.default.value, choices, text, flag_values=values)
    elif get_origin(kind) is tuple:
        default = [str(item) for item in field.default]
        absl_flags.DEFINE_list(field.name, default, text, flag_values=values)
    else:
        make = {
            bool: absl_flags.DEFINE_boolean,
            int: absl_flags.DEFINE_integer,
            float: absl_flags.DEFINE_float,
            str: absl_flags.DEFINE_string,
        }[kind]
        make(field.name, field.default, text, flag_values=values)


def parse(config_class: type[Config], argv: Sequence[str]) -> Config:
    """The settings that `argv` (without the program's name) asks for.

    Raises: UserError for an unknown flag, a value of the wrong kind, a stray word or an unreadable flagfile;
    ConfigError for a value outside its range.
    """
    values = define(config_class)
    try:
        rest = values(["crackflow", *argv])[1:]
    except (absl_flags.Error, OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f"{errors.one_line(error)}; --help lists the flags") from error
    if values.help:
        raise HelpAsked(_help(config_class))
    if rest:
        raise errors.UserError(f"expected only --flags, received {rest[0]!r}; write --name=value")
    return _build(config_class, values)


class HelpAsked(Exception):
    """`--help` was given; the text is the message."""


def _build(config_class: type[Config], values: absl_flags.FlagValues) -> Config:
    hints = get_type_hints(config_class)
    settings = {}
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            settings[field.name] = _build(kind, values)
            continue
        value = values[field.name].value
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            value = kind(value)
        elif get_origin(kind) is tuple:
            value = _as_tuple(field.name, value, get_args(kind)[0])
        settings[field.name] = value
    return config_class(**settings)


def _as_tuple(name: str, items: Sequence[str], kind: type) -> tuple:
    try:
        return tuple(kind(item) for item in items)
    except ValueError as error:
        raise errors.UserError(
            f"--{name}: expected {kind.__name__} values separated by commas, received {','.join(items)!r}"
        ) from error


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _help(config_class: type) -> str:
    lines = []
    for field, kind in _fields(config_class):
        names = "|".join(m.value for m in kind) if isinstance(kind, type) and issubclass(kind, enum.Enum) else ""
        default = _text(field.default)
        lines.append(f"  --{field.name}={names or default or '...'}")
        lines.append(f"      {field.metadata['help']}" + (f" (default {default})" if names else ""))
    lines.append("  --flagfile=FILE")
    lines.append("      read more flags from FILE, one a line")
    return "\n".join(lines)


def as_flagfile(config: object, header: str = "") -> str:
    """`config` as the text of a flagfile: `--name=value` lines in the order of the fields."""
    lines = [f"# {line}" for line in header.splitlines()]
    lines += [f"--{name}={_text(value)}" for name, value in _settings(config)]
    return "\n".join(lines) + "\n"


def _settings(config: object) -> Iterator[tuple[str, object]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _settings(value)
        else:
            yield field.name, value


def main(
    config_class: type[Config],
    run: Callable[[Config], object],
    about: str | None,
    argv: Sequence[str] | None = None,
) -> None:
    """Parse, run, and leave with the documented exit code (0 done, 1 check failed, 2 the user's mistake)."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run(parse(config_class, sys.argv[1:] if argv is None else argv))
    except HelpAsked as asked:
        sys.stdout.write(f"{(about or '').strip()}\n\nFlags:\n{asked}\n")
    except errors.UserError as error:
        _leave(errors.EXIT_USER_ERROR, error)
    except errors.CheckFailed as error:
        _leave(errors.EXIT_CHECK_FAILED, error)
    except KeyboardInterrupt:
        _leave(errors.EXIT_INTERRUPTED, "interrupted; nothing half-written was left under the final name")
    except OSError as error:
        mistake = errors.from_os_error(error)
        if mistake is None:
            raise
        _leave(errors.EXIT_USER_ERROR, mistake)
    except Exception as error:
        mistake = errors.raised_inside(error)
        if mistake is None:
            raise
        _leave(errors.EXIT_USER_ERROR, mistake)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _leave(code: int, message: object) -> None:
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    sys.stderr.write(f"crackflow.{program}: {errors.one_line(message)}\n")
    sys.exit(code)
