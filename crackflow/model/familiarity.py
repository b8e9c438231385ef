"""Does a photograph look like those that the network was trained on?

Synopsis::

    known = familiarity.fit(features_of_training_images, features_of_validation_images)
    known.distances(features)          # float64 [N]; above known.limit: unlike anything in training
    known.write(file)                  # beside the weights

What the last layer sees of the training images is described by a Gaussian: its main directions, and one spread for all
the rest (Tipping and Bishop, Probabilistic principal component analysis, J. R. Stat. Soc. B 61:611, 1999). The distance
is Mahalanobis' (Lee et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS 2018), per
feature and as a root, so that about 1 is usual whatever the network.
"""

import dataclasses

import h5py
import numpy as np
from sklearn.decomposition import PCA

GROUP = "crackflow_familiarity"
DIRECTIONS = 64
USUAL = 0.999  # share of validation images that lie within the limit
SMALLEST = 1e-6  # of the largest variance: features that never moved in training must not divide by 0


@dataclasses.dataclass(frozen=True)
class Familiarity:
    """mean: float32 [K]; directions: float32 [D, K], orthonormal; spreads: float32 [D], standard deviations along them;
    rest: the standard deviation along each other direction; limit: the distance that few images exceed."""

    mean: np.ndarray
    directions: np.ndarray
    spreads: np.ndarray
    rest: float
    limit: float

    def distances(self, features: np.ndarray) -> np.ndarray:
        """float64 [N], 0 or more, about 1 for what is usual, of features float32 [N, K]."""
        away = features.astype(np.float64) - self.mean
        along = away @ self.directions.T.astype(np.float64)
        left = np.maximum((away**2).sum(1) - (along**2).sum(1), 0)
        squares = ((along / self.spreads) ** 2).sum(1) + left / self.rest**2
        return np.sqrt(squares / features.shape[1])

    def write(self, file: h5py.File) -> None:
        """Into a group of its own of an open H5 file."""
        group = file.create_group(GROUP)
        for name, value in dataclasses.asdict(self).items():
            group.create_dataset(name, data=np.asarray(value, np.float32))

    @classmethod
    def read(cls, file: h5py.File) -> "Familiarity | None":
        """What `write` wrote, or None. Raises: ValueError when it makes no sense."""
        if GROUP not in file:
            return None
        stored = {field.name: np.asarray(file[GROUP][field.name]) for field in dataclasses.fields(cls)}
        mean, directions, spreads = stored["mean"], stored["directions"], stored["spreads"]
        shaped = mean.ndim == 1 and directions.shape == (len(spreads), len(mean))
        if not shaped or not all(np.isfinite(value).all() for value in stored.values()) or not (spreads > 0).all():
            raise ValueError("its record of the training images is damaged")
        return cls(mean, directions, spreads, float(stored["rest"]), float(stored["limit"]))


def fit(training: np.ndarray, validation: np.ndarray, seed: int = 0) -> Familiarity:
    """From features float32 [N, K] of training images, N at least 2, and, for the limit, of validation images."""
    count, width = training.shape
    found = PCA(min(DIRECTIONS, width, count - 1), random_state=seed).fit(training.astype(np.float64))
    least = max(SMALLEST * found.explained_variance_[0], np.finfo(np.float32).tiny)
    known = Familiarity(
        mean=found.mean_.astype(np.float32),
        directions=found.components_.astype(np.float32),
        spreads=np.sqrt(np.maximum(found.explained_variance_, least)).astype(np.float32),
        rest=float(np.sqrt(max(found.noise_variance_, least))),
        limit=0.0,
    )
    return dataclasses.replace(known, limit=float(np.quantile(known.distances(validation), USUAL)))
