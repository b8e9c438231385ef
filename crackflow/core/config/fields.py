"""Fields and checks of the configs: frozen dataclasses that hold every setting and its default once.

Synopsis::

    config = ConvertConfig(images="photos", out="data/photos", split=(0.7, 0.15, 0.15))
    config = dataclasses.replace(config, seed=7)

A config refuses a value outside its range. Command-line flags are generated from its fields (`core.flags`); the help
text stands beside the default.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from crackflow.core.errors import ConfigError


def option(default: Any, help: str, aliases: Sequence[str] = ()) -> Any:
    """Defines a field with its default and the help text of its flag.

    Args:
        default: the value when the flag is not given.
        help: what --help says.
        aliases: other names that the command line takes for the flag; --help and flag files do not have them.
    """
    return dataclasses.field(default=default, metadata={"help": help, "aliases": tuple(aliases)})


def require(condition: bool, name: str, expected: str, received: object) -> None:
    """Raises: ConfigError, which names the flag `name`, unless `condition` holds."""
    if not condition:
        raise ConfigError(f"--{name}: expected {expected}, received {received!r}")


def require_given(config: object, names: Sequence[str]) -> None:
    """Raises: ConfigError when one of the fields `names` is empty."""
    for name in names:
        require(getattr(config, name) != "", name, "a path", "")


def require_address(name: str, address: str) -> None:
    """Raises: ConfigError when `address` is not of the form grpc://host:port."""
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    is_valid = address.startswith("grpc://") and host and port.isdigit() and 0 < int(port) < 65536
    require(bool(is_valid), name, "grpc://host:port", address)


def require_positive(config: object, names: Sequence[str]) -> None:
    """Raises: ConfigError when one of the fields `names` is not a finite number above 0."""
    for name in names:
        value = getattr(config, name)
        require(math.isfinite(value) and value > 0, name, "a number above 0", value)


def require_at_least(config: object, low: int, names: Sequence[str]) -> None:
    """Raises: ConfigError when one of the fields `names` is below `low`, or does not fit into 64 bits."""
    for name in names:
        value = getattr(config, name)
        require(value >= low, name, f"{low} or more", value)
        require(value < 2**63, name, "a number that fits into 64 bits", value)


def require_non_negative(config: object, names: Sequence[str]) -> None:
    """Raises: ConfigError when one of the fields `names` is negative, infinite or NaN."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value < math.inf, name, "0 or a number above 0", value)


def require_fraction(config: object, names: Sequence[str]) -> None:
    """Raises: ConfigError when one of the fields `names` is outside 0 <= value < 1."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value < 1, name, "a fraction from 0 up to, not including, 1", value)
