"""Flags about devices, precision and compilation."""

import enum


class Precision(enum.Enum):
    AUTO = "auto"
    FLOAT32 = "float32"
    MIXED_BFLOAT16 = "mixed_bfloat16"
    MIXED_FLOAT16 = "mixed_float16"


class Xla(enum.Enum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


class AllReduce(enum.Enum):
    AUTO = "auto"
    RING = "ring"
    NCCL = "nccl"


class Strategy(enum.Enum):
    AUTO = "auto"
    ONE = "one"
    MIRRORED = "mirrored"
    MULTIWORKER = "multiworker"
