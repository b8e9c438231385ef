"""Who takes part in a search: alone, its chief, or a worker of a chief elsewhere."""

from collections.abc import Mapping
from typing import NamedTuple

from crackflow.core import listening
from crackflow.core.config.search import TuneConfig
from crackflow.core.errors import UserError

CHIEF = "chief"
VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
REACHED = "whoever reaches it takes part in the search: is given its trials, and writes their scores"


class Role(NamedTuple):
    """`name`: of a worker; `address`: host:port of the chief, "" for a search in one process."""

    name: str = "alone"
    address: str = ""

    @property
    def is_chief(self) -> bool:
        """Who is called just this; Keras Tuner takes a "mischief" for one as well."""
        return bool(self.address) and self.name == CHIEF


def role(environment: Mapping[str, str]) -> Role:
    """Who this process is, by the variables that Keras Tuner defines. Raises: UserError when some are missing."""
    given = [name for name in VARIABLES if environment.get(name)]
    if VARIABLES[1] not in given:
        return Role()
    missing = [name for name in VARIABLES if name not in given]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: expected beside {VARIABLES[1]}, which says that several processes share a search; "
            "set them as launch/tune_workers.sh does, or unset all"
        )
    name, host, port = (environment[name] for name in VARIABLES)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"{VARIABLES[2]}: expected a port, 1 to 65535, received {port!r}")
    return Role(name, f"{host}:{port}")


def listening_address(config: TuneConfig, who: Role) -> str:
    """host:port on which the chief `who` listens: loopback, unless --host names more. Raises: UserError when workers
    are told of another address, and --host does not open it."""
    host, _, port = who.address.rpartition(":")
    local = listening.loopback(config.host)
    if local and not listening.loopback(host):
        raise UserError(
            f"--host: expected the name or address that the chief may listen on, as {VARIABLES[1]} is {host}, received "
            f"{config.host}, which is this machine alone; --host={host} opens it, and {REACHED}"
        )
    address = listening.loopback(host) if local else config.host.strip("[]")
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
