"""Flags of doctor and data_service."""

import dataclasses
import enum

from crackflow.core.config.fields import option, require, require_address, require_at_least, require_positive
from crackflow.core.config.hardware import Precision, Xla
from crackflow.core.config.network import Architecture, Network, require_used
from crackflow.core.config.training import Input


class ServiceRole(enum.Enum):
    DISPATCHER = "dispatcher"
    WORKER = "worker"


@dataclasses.dataclass(frozen=True)
class DoctorConfig:
    data: str = option("", "dataset made by crackflow.convert; none: a small one is made, measured and removed")
    images: int = option(1000, "without --data: images to make")
    model: Network = option(Network.CRACKFLOW_S, "network whose train step is measured")
    architecture: Architecture = Architecture()
    image_px: int = option(0, "side the network sees, in pixels; 0: the network's own")
    batch_size: int = option(64, "images a step")
    input: Input = option(Input.AUTO, "what training would be fed from")
    precision: Precision = option(Precision.AUTO, "arithmetic of the layers")
    xla: Xla = option(Xla.AUTO, "compile layers and augmentation; auto: on a CPU the augmentation alone")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    seconds: float = option(1.0, "length of one measurement")
    windows: int = option(5, "measurements of each stage; the median is shown")
    json: str = option("", "file to write the table to, as JSON")

    def __post_init__(self) -> None:
        require(self.image_px == 0 or 32 <= self.image_px <= 1024, "image_px", "0, or 32 to 1024", self.image_px)
        require_used(self.model, self.architecture)
        require(self.images >= 100, "images", "100 or more", self.images)
        require_at_least(self, 1, ["batch_size", "windows"])
        require_at_least(self, 0, ["threads"])
        require_positive(self, ["seconds"])


@dataclasses.dataclass(frozen=True)
class DataServiceConfig:
    role: ServiceRole = option(ServiceRole.DISPATCHER, "dispatcher: one, hands out work; worker: decodes images")
    port: int = option(0, "to listen on; 0: a free one")
    dispatcher: str = option("", "worker: grpc://host:port of the dispatcher")
    host: str = option(
        "localhost",
        "name or address under which others reach it; localhost: this machine alone, on loopback; any other (0.0.0.0: "
        "the machine's name): it listens on every address, and whoever reaches its port reads and writes your files",
    )
    work_dir: str = option("", "dispatcher: folder for its journal, from which it resumes after a restart; none: no")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")

    def __post_init__(self) -> None:
        require(0 <= self.port < 65536, "port", "0 to 65535", self.port)
        require_at_least(self, 0, ["threads"])
        require(bool(self.host.strip()), "host", "localhost, or a name or address of this machine", self.host)
        if self.role is ServiceRole.WORKER:
            require_address("dispatcher", self.dispatcher)
