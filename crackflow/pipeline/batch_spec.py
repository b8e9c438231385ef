"""What a batch is, whichever loader fills it, and which images it holds.

Synopsis::

    spec = BatchSpec(batch_size=64, image_px=128, channels=3, seed=0)
    batch_positions(number, spec.batch_size, shard)     # int64 [b]: positions in the sequence of all images
"""

import dataclasses

from crackflow.core.backend import tf
from crackflow.core.sharding import ShardOptions


@dataclasses.dataclass(frozen=True)
class BatchSpec:
    """The batches of a run.

    Attributes:
        batch_size: images per global batch.
        image_px: side of the images in pixels.
        channels: 1 or 3.
        seed: seed of the training order; evaluation has the order of the shards.
    """

    batch_size: int
    image_px: int
    channels: int
    seed: int = 0


def batch_positions(number: tf.Tensor, batch_size: int, shard: ShardOptions) -> tf.Tensor:
    """The positions of the images of a process's batch `number`, an int64 scalar: int64 [size of its part].

    Position p of training lies in epoch p // N of N images, position p of evaluation is row p; both start at 0.
    """
    at = shard.position(number, batch_size)
    return at.batch * batch_size + at.first + tf.range(shard.size(batch_size), dtype=tf.int64)
