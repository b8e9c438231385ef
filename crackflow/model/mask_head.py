"""An auxiliary head that learns from masks which cells of the last feature map the crack lies in.

Synopsis::

    both = mask_head.attach_head(network)                       # image -> logits [B], cell logits [B, 8, 8]
    targets = mask_head.mask_targets(bits, label)                 # bits of `data.mask_grid`
    loss = mask_head.mask_loss(targets, cell_logits, smoothing=0.02)
    locator = mask_head.MaskHead.from_layer(both.get_layer(mask_head.LAYER))     # the trained head
    locator(features)                                     # float32 [h, w, K] of the cells of a photograph -> [h, w]

The head is one layer of one weight per channel, trained beside the network's own head: the features must then tell
where the crack is, not only whether there is one (an auxiliary loss, as in Lee et al., Deeply-supervised nets, AISTATS
2015). It is no part of the network that is saved, which has one output; its weights lie beside it in the same file.
"""

import dataclasses
from typing import NamedTuple

import h5py
import numpy as np

from crackflow.core.backend import keras, tf
from crackflow.core.errors import UserError
from crackflow.data import mask_grid
from crackflow.model import structure

LAYER = "cells"
GROUP = "crackflow_cells"


class MaskTargets(NamedTuple):
    """The targets of a batch.

    Attributes:
      crack: uint8 [B, 8, 8, 1], 1 where the crack touches the cell.
      known: float32 [B], 0 where the cells of a cracked image are not known.
    """

    crack: tf.Tensor
    known: tf.Tensor


def attach_head(network: keras.Model) -> keras.Model:
    """Adds cell logits, float32 [B, 8, 8], to a network as a second output.

    Args:
      network: uint8 [B, H, W, C], 0..255, to logits [B].

    Returns:
      A model of the same input and both outputs.

    Raises:
      UserError: the network does not pool a single layer of 8 x 8 cells over the image.
    """
    backbone_layer = structure.pooled_layer(network)
    shape = network.get_layer(backbone_layer).output_shape[1:3] if backbone_layer else ()
    if shape != (mask_grid.SIDE, mask_grid.SIDE):
        received = f"{shape[0]} x {shape[1]}" if shape else "no such layer"
        raise UserError(
            f"--mask_weight: expected a network that pools {mask_grid.SIDE} x {mask_grid.SIDE} cells, received "
            f"{received}; such as --model=custom --padding=same --image_px=128"
        )
    logits = keras.layers.Conv2D(1, 1, dtype="float32", name=LAYER)(network.get_layer(backbone_layer).output)
    grid = keras.layers.Reshape(shape, dtype="float32", name="grid")(logits)
    return keras.Model(network.inputs, [*network.outputs, grid])


@dataclasses.dataclass(frozen=True)
class MaskHead:
    """Tells which cells a crack lies in, from the features that a network pools.

    Attributes:
      weights: float32 [K].
      bias: float32.
    """

    weights: np.ndarray
    bias: np.float32

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns logits float32 [...] of cells with `features`, float32 [..., K]."""
        return features @ self.weights + self.bias

    @classmethod
    def from_layer(cls, layer: keras.layers.Layer) -> "MaskHead":
        """Reads the layer that `attach_head` added."""
        kernel, bias = layer.get_weights()
        return cls(kernel.ravel().astype(np.float32), np.float32(bias[0]))

    def copy_to(self, layer: keras.layers.Layer) -> None:
        """Writes into the layer that `attach_head` added, to continue its training."""
        layer.set_weights([self.weights.reshape(1, 1, -1, 1), np.atleast_1d(self.bias)])

    def write(self, file: h5py.File) -> None:
        """Writes into a group of its own in an open H5 file."""
        group = file.create_group(GROUP)
        group.create_dataset("weights", data=self.weights)
        group.create_dataset("bias", data=self.bias)

    @classmethod
    def read(cls, file: h5py.File, network: keras.Model) -> "MaskHead | None":
        """Reads what `write` wrote.

        Returns:
          The mask head, or None where the file has none.

        Raises:
          ValueError: it does not fit `network`, or holds values that are not finite numbers.
        """
        if GROUP not in file:
            return None
        backbone_layer = structure.pooled_layer(network)
        width = network.get_layer(backbone_layer).output_shape[-1] if backbone_layer else None
        try:
            stored = [np.asarray(file[GROUP][name], np.float32) for name in ("weights", "bias")]
        except (KeyError, TypeError, ValueError):
            stored = []
        if [array.shape for array in stored] != [(width,), ()] or not all(np.isfinite(array).all() for array in stored):
            raise ValueError("what it learnt from masks is damaged or of another network")
        return cls(stored[0], np.float32(stored[1]))


def mask_targets(bits: tf.Tensor, label: tf.Tensor) -> MaskTargets:
    """Turns mask bits and labels into targets.

    A clean image has no crack in any cell; a cracked image without a mask tells nothing.

    Args:
      bits: int64 [B] of `data.mask_grid`.
      label: int32 [B], 0 or 1.

    Returns:
      The targets of the batch.
    """
    bit_positions = tf.range(mask_grid.SIDE**2, dtype=tf.int64)
    crack = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits[:, None], bit_positions), tf.constant(1, tf.int64))
    known = (bits != 0) | (label == 0)
    return MaskTargets(
        tf.reshape(tf.cast(crack, tf.uint8), [-1, mask_grid.SIDE, mask_grid.SIDE, 1]), tf.cast(known, tf.float32)
    )


def mask_loss(targets: MaskTargets, logits: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Mean binary cross-entropy of the cells over the batch.

    Args:
      targets: the targets of the batch; images whose targets are not known add 0.
      logits: float32 [B, 8, 8].
      smoothing: label smoothing, 0..1.

    Returns:
      float32 [].
    """
    crack = tf.cast(targets.crack[..., 0], tf.float32) * (1 - smoothing) + smoothing / 2
    losses = tf.nn.sigmoid_cross_entropy_with_logits(crack, tf.cast(logits, tf.float32))
    return tf.reduce_mean(targets.known[:, None, None] * losses)
