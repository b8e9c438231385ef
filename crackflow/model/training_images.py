"""Records which images a model has seen, so that figures on them are not reported as a test.

Synopsis::

    seen = training_images.TrainingImages.of(dataset)     # the run's dataset
    seen = seen.and_earlier(source_images)                # and the images of the model that it started from
    seen.write(file)                                      # beside the weights
    seen.look_up(digests.load(test_dataset, "test"))      # int8 [N]: UNSEEN, VALIDATED or TRAINED

For each training and validation image the first five bytes of the SHA-256 of its file are stored: 5 bytes per image,
40 KB for 8,000. An image that is none of N is mistaken for one with a probability of N / 2^40: one in 100 million for
10,000. A Bloom filter of that rate takes as much. The digests tell whoever has a photograph whether the model was
trained on it, and nobody what is in it. An image that was encoded again has other bytes and is not recognised.
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
    """Truncated digests of the images that a model has seen.

    Attributes:
      trained: uint8 [N, 5], sorted and unique, of the images that the weights were fitted to.
      validated: uint8 [M, 5], sorted and unique, of those that epoch, threshold and temperature were chosen on.
    """

    trained: np.ndarray
    validated: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> Optional["TrainingImages"]:
        """Collects the training and validation images of a dataset.

        Returns:
          The digests; None where the manifest of the dataset has none.

        Raises:
          UserError: the manifest is damaged.
        """
        trained, validated = (digests.load(dataset, split) for split in ("train", "val"))
        if trained is None or validated is None:
            return None
        return cls(_unique_prefixes(trained), _unique_prefixes(validated))

    def and_earlier(self, earlier: Optional["TrainingImages"]) -> "TrainingImages":
        """Adds the images of the model that training started from: all of them have influenced the weights."""
        if earlier is None:
            return self
        return TrainingImages(
            _unique_prefixes(np.concatenate([self.trained, earlier.trained, earlier.validated])), self.validated
        )

    def look_up(self, sha256: np.ndarray) -> np.ndarray:
        """Returns int8 [N], TRAINED, VALIDATED or UNSEEN, for SHA-256 digests uint8 [N, 32]."""
        keys = _to_integers(sha256[:, :BYTES])
        seen = np.where(np.isin(keys, _to_integers(self.validated)), VALIDATED, UNSEEN)
        return np.where(np.isin(keys, _to_integers(self.trained)), TRAINED, seen).astype(np.int8)

    def write(self, file: h5py.File) -> None:
        """Writes into a group of its own in an open H5 file."""
        group = file.create_group(GROUP)
        group.create_dataset("trained", data=self.trained)
        group.create_dataset("validated", data=self.validated)

    @classmethod
    def read(cls, file: h5py.File) -> Optional["TrainingImages"]:
        """Reads what `write` wrote.

        Returns:
          The digests, or None where the file has none.

        Raises:
          ValueError: they are damaged.
        """
        if GROUP not in file:
            return None
        try:
            stored = [np.asarray(file[GROUP][name]) for name in ("trained", "validated")]
        except (KeyError, TypeError) as error:
            raise ValueError("its list of training images is damaged") from error
        if any(array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != BYTES for array in stored):
            raise ValueError("its list of training images is damaged")
        return cls(*stored)


def _unique_prefixes(sha256: np.ndarray) -> np.ndarray:
    """The first five bytes of digests uint8 [N, 32]: uint8 [M, 5], sorted and unique."""
    return np.unique(sha256[:, :BYTES], axis=0)


def _to_integers(short: np.ndarray) -> np.ndarray:
    """Turns uint8 [N, 5] into uint64 [N]."""
    return short.astype(np.uint64) @ (np.uint64(256) ** np.arange(BYTES, dtype=np.uint64))
