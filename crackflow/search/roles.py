"""The role of a process in a search: alone, the chief, or a worker of a chief elsewhere."""

from collections.abc import Mapping
from typing import NamedTuple

from crackflow.core import server_address
from crackflow.core.config.search import TuneConfig
from crackflow.core.errors import UserError

CHIEF = "chief"
VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
REACHED = "whoever reaches it takes part in the search: is given its trials, and writes their scores"


class Role(NamedTuple):
    """What one process is in a search.

    Attributes:
        name: Of the worker, or `CHIEF`.
        address: host:port of the chief; "" for a search in one process.
    """

    name: str = "alone"
    address: str = ""

    @property
    def is_chief(self) -> bool:
        """Whether the name is exactly "chief"; Keras Tuner takes a "mischief" for one as well."""
        return bool(self.address) and self.name == CHIEF


def detect_role(environment: Mapping[str, str]) -> Role:
    """The role of this process, by the variables that Keras Tuner defines.

    Args:
        environment: Environment variables, of which `VARIABLES` are read.

    Returns:
        The role; alone without the address of a chief.

    Raises:
        UserError: Some of the variables are missing, or the port is not one.
    """
    defined = [name for name in VARIABLES if environment.get(name)]
    if VARIABLES[1] not in defined:
        return Role()
    missing = [name for name in VARIABLES if name not in defined]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: expected beside {VARIABLES[1]}, which says that several processes share a search; "
            "set them as launch/tune_workers.sh does, or unset all"
        )
    name, host, port = (environment[name] for name in VARIABLES)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"{VARIABLES[2]}: expected a port, 1 to 65535, received {port!r}")
    return Role(name, f"{host}:{port}")


def listening_address(config: TuneConfig, chief: Role) -> str:
    """The address on which the chief listens: loopback, unless --host names more.

    Args:
        config: Of the search; its `host` is used.
        chief: Role of this process.

    Returns:
        host:port, with an IPv6 host in brackets.

    Raises:
        UserError: Workers are given another address than loopback, and --host does not open it.
    """
    host, _, port = chief.address.rpartition(":")
    local = server_address.loopback(config.host)
    if local and not server_address.loopback(host):
        raise UserError(
            f"--host: expected the name or address that the chief may listen on, as {VARIABLES[1]} is {host}, received "
            f"{config.host}, which is this machine alone; --host={host} opens it, and {REACHED}"
        )
    address = server_address.loopback(host) if local else config.host.strip("[]")
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
