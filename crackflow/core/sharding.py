"""The part of every global batch that one process reads.

Synopsis::

    shard = ShardOptions(first=2, count=2, of=8)  # parts 2 and 3 of 8
    shard.position(number, 64)                    # of the process's batch `number`: (global batch, first image in it)
"""

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from crackflow.core.backend import tf


class ShardPosition(NamedTuple):
    """The images from `first` on of global batch `batch`; integers or int64 scalars."""

    batch: object
    first: object


@dataclasses.dataclass(frozen=True)
class ShardOptions:
    """The parts of one process: `count` parts from `first` on, of `of` equal parts, one for each replica."""

    first: int = 0
    count: int = 1
    of: int = 1

    def size(self, batch_size: int) -> int:
        """Returns the number of images in a part of a global batch of `batch_size`, a multiple of `of`."""
        if batch_size % self.of:
            raise ValueError(f"expected a batch size that {self.of} parts divide, received {batch_size}")
        return batch_size // self.of

    def position(self, number: "int | tf.Tensor", batch_size: int) -> ShardPosition:
        """Returns where the process's batch `number`, from 0, lies. `number`: an integer or an int64 scalar."""
        return ShardPosition(number // self.count, (self.first + number % self.count) * self.size(batch_size))


NO_SHARDING = ShardOptions()  # for one device alone
