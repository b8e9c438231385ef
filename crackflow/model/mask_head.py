"""Masks as targets while a network learns: which cells of its last features the crack lies in.

Synopsis::

    both = mask_head.attach_head(network)                       # image -> logits [B], cell logits [B, 8, 8]
    where = mask_head.mask_targets(bits, label)               # of `data.mask_grid`
    loss = mask_head.mask_loss(where, cell_logits, smoothing=0.02)
    locator = mask_head.MaskHead.of(both.get_layer(mask_head.LAYER))     # what it learnt
    locator(features)                                     # float32 [h, w, K] of the cells of a photograph -> [h, w]

One more layer of one weight a channel, which learns beside the network's own head: the features must then tell where
the crack is, not only whether there is one (an auxiliary loss, as in Lee et al., Deeply-supervised nets, AISTATS 2015).
It is no part of the network that is saved, which has one output; what it learnt lies beside it in the same file.
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
    """crack: uint8 [B, 8, 8, 1], 1 where the crack touches the cell; known: float32 [B], 0 where that is not told."""

    crack: tf.Tensor
    known: tf.Tensor


def attach_head(network: keras.Model) -> keras.Model:
    """`network`, uint8 [B, H, W, C] to logits [B], with logits of its cells, float32 [B, 8, 8], as a second output.

    Raises: UserError when what it pools over the picture is not one layer of 8 x 8 cells.
    """
    trunk = structure.pooled_layer(network)
    shape = network.get_layer(trunk).output_shape[1:3] if trunk else ()
    if shape != (mask_grid.SIDE, mask_grid.SIDE):
        received = f"{shape[0]} x {shape[1]}" if shape else "no such layer"
        raise UserError(
            f"--mask_weight: expected a network that pools {mask_grid.SIDE} x {mask_grid.SIDE} cells, received "
            f"{received}; such as --model=custom --padding=same --image_px=128"
        )
    logits = keras.layers.Conv2D(1, 1, dtype="float32", name=LAYER)(network.get_layer(trunk).output)
    grid = keras.layers.Reshape(shape, dtype="float32", name="grid")(logits)
    return keras.Model(network.inputs, [*network.outputs, grid])


@dataclasses.dataclass(frozen=True)
class MaskHead:
    """Which cells a crack lies in, of the features that a network pools. weights: float32 [K]; bias: float32."""

    weights: np.ndarray
    bias: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits float32 [...] of cells with `features`, float32 [..., K]."""
        return features @ self.weights + self.bias

    @classmethod
    def of(cls, layer: keras.layers.Layer) -> "MaskHead":
        """From the layer that `attach_head` added."""
        kernel, bias = layer.get_weights()
        return cls(kernel.ravel().astype(np.float32), np.float32(bias[0]))

    def put(self, layer: keras.layers.Layer) -> None:
        """Into the layer that `attach_head` added, to learn on from here."""
        layer.set_weights([self.weights.reshape(1, 1, -1, 1), self.bias[None]])

    def write(self, file: h5py.File) -> None:
        """Into a group of its own of an open H5 file."""
        group = file.create_group(GROUP)
        group.create_dataset("weights", data=self.weights)
        group.create_dataset("bias", data=self.bias)

    @classmethod
    def read(cls, file: h5py.File, network: keras.Model) -> "MaskHead | None":
        """What `write` wrote, or None. Raises: ValueError when it is not of `network`, or no numbers."""
        if GROUP not in file:
            return None
        trunk = structure.pooled_layer(network)
        width = network.get_layer(trunk).output_shape[-1] if trunk else None
        try:
            stored = [np.asarray(file[GROUP][name], np.float32) for name in ("weights", "bias")]
        except (KeyError, TypeError, ValueError):
            stored = []
        if [one.shape for one in stored] != [(width,), ()] or not all(np.isfinite(one).all() for one in stored):
            raise ValueError("what it learnt from masks is damaged or of another network")
        return cls(stored[0], np.float32(stored[1]))


def mask_targets(bits: tf.Tensor, label: tf.Tensor) -> MaskTargets:
    """From int64 [B] of `data.mask_grid` and labels int32 [B]: a clean picture has no crack in any cell, a cracked one
    without a mask tells nothing."""
    places = tf.range(mask_grid.SIDE**2, dtype=tf.int64)
    crack = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits[:, None], places), tf.constant(1, tf.int64))
    known = (bits != 0) | (label == 0)
    return MaskTargets(
        tf.reshape(tf.cast(crack, tf.uint8), [-1, mask_grid.SIDE, mask_grid.SIDE, 1]), tf.cast(known, tf.float32)
    )


def mask_loss(where: MaskTargets, logits: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Mean binary cross-entropy of cell logits float32 [B, 8, 8] over the batch, the targets smoothed as labels are;
    pictures of which nothing is known add 0."""
    crack = tf.cast(where.crack[..., 0], tf.float32) * (1 - smoothing) + smoothing / 2
    every = tf.nn.sigmoid_cross_entropy_with_logits(crack, tf.cast(logits, tf.float32))
    return tf.reduce_mean(where.known[:, None, None] * every)
