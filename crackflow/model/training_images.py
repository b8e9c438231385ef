"""Which images a model has seen: so that figures on them are not taken for a test.

Synopsis::

    seen = training_images.TrainingImages.of(made).and_earlier(source)     # of the run's data set, and of what it began
    with seen.write(file)                                                  # beside the weights
    seen.look_up(digests.load(other, "test"))                           # int8 [N]: UNSEEN, VALIDATED or TRAINED

Of each training and validation image the first five bytes of the SHA-256 of its file are kept: 5 bytes an image, 40 KB
for 8,000. An image that is none of N is taken for one with a probability of N / 2^40: one in 100 million for 10,000. A
Bloom filter of that rate takes as much. They tell who has a photograph whether the model was trained on it, and nobody
what is in it. A picture that was saved anew has other bytes and is not known again.
"""

import dataclasses
from typing import Optional

import h5py
import numpy as np

from crackflow.data import digests
from crackflow.data.dataset import Dataset

GROUP = "crackflow_training_images"
BYTES = 5
UNSEEN, VALIDATED, TRAINED = 0, 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingImages:
    """trained, validated: uint8 [N, 5], sorted, each once: digests of what the weights were fitted to, and of what
    epoch, threshold and temperature were chosen on."""

    trained: np.ndarray
    validated: np.ndarray

    @classmethod
    def of(cls, made: Dataset) -> Optional["TrainingImages"]:
        """Of a data set that is trained on; None where its manifest has no digests. Raises: UserError."""
        every = [digests.load(made, split) for split in ("train", "val")]
        return None if any(one is None for one in every) else cls(*map(_shortened, every))

    def and_earlier(self, earlier: Optional["TrainingImages"]) -> "TrainingImages":
        """With those of the model that training began with: all of them have had a part in the weights."""
        if earlier is None:
            return self
        return TrainingImages(
            _shortened(np.concatenate([self.trained, earlier.trained, earlier.validated])), self.validated
        )

    def look_up(self, found: np.ndarray) -> np.ndarray:
        """int8 [N]: TRAINED, VALIDATED or UNSEEN, of SHA-256 digests uint8 [N, 32]."""
        keys = _keys(found[:, :BYTES])
        seen = np.where(np.isin(keys, _keys(self.validated)), VALIDATED, UNSEEN)
        return np.where(np.isin(keys, _keys(self.trained)), TRAINED, seen).astype(np.int8)

    def write(self, file: h5py.File) -> None:
        """Into a group of its own of an open H5 file."""
        group = file.create_group(GROUP)
        group.create_dataset("trained", data=self.trained)
        group.create_dataset("validated", data=self.validated)

    @classmethod
    def read(cls, file: h5py.File) -> Optional["TrainingImages"]:
        """What `write` wrote, or None. Raises: ValueError when it makes no sense."""
        if GROUP not in file:
            return None
        try:
            stored = [np.asarray(file[GROUP][name]) for name in ("trained", "validated")]
        except (KeyError, TypeError) as error:
            raise ValueError("its list of training images is damaged") from error
        if any(one.dtype != np.uint8 or one.ndim != 2 or one.shape[1] != BYTES for one in stored):
            raise ValueError("its list of training images is damaged")
        return cls(*stored)


def _shortened(found: np.ndarray) -> np.ndarray:
    """uint8 [M, 5], sorted, each once."""
    return np.unique(found[:, :BYTES], axis=0)


def _keys(short: np.ndarray) -> np.ndarray:
    """uint64 [N] of uint8 [N, 5]."""
    return short.astype(np.uint64) @ (np.uint64(256) ** np.arange(BYTES, dtype=np.uint64))
