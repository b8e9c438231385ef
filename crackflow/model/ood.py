"""Does a photograph look like those that the network was trained on?

Synopsis::

    looks = ood.FeatureStatistics(model)                      # of the network's first layer
    known = ood.fit(looks(training_images), looks(validation_images))
    known.distances(looks(windows))                       # float64 [N]; above known.limit: unlike training
    known.write(file)                                     # beside the weights

What the first layer makes of an image, the mean and spread of each channel in logarithms, tells its texture and colour;
the last layer has unlearnt what surface it saw, and told others from METU no better than chance (BUILD_NOTES.md). For
training images these are described by a Gaussian: its main directions, and one spread for all the rest (Tipping and
Bishop, Probabilistic principal component analysis, J. R. Stat. Soc. B 61:611, 1999). The distance is Mahalanobis' (Lee
et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS 2018), per feature and as a root,
so that about 1 is usual whatever the network.
"""

import dataclasses

import h5py
import numpy as np
from sklearn.decomposition import PCA

from crackflow.core.backend import keras, tf

GROUP = "crackflow_familiarity"
DIRECTIONS = 64
OOD_QUANTILE = 0.99  # share of validation images that lie within the limit
LOG_EPSILON = 0.02  # added before the logarithm: channels are about 1 in size
MIN_VARIANCE_RATIO = 1e-6  # of the largest variance: features that never moved in training must not divide by 0


class FeatureStatistics:
    """Of images uint8 [B, px, px, C], 0..255, of the size that `model` takes: float32 [B, K]."""

    def __init__(self, model: keras.Model) -> None:
        activations = (keras.layers.Activation, keras.layers.ReLU, keras.layers.Conv2D)
        spatial = [layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4]
        learned = next(place for place, layer in enumerate(spatial) if layer.trainable_weights)
        first = next((one for one in spatial[learned:] if isinstance(one, activations[:2])), None)
        first = first or next(one for one in spatial if isinstance(one, activations[2]))
        seen = keras.Model(model.input, first.output)

        def look(image: tf.Tensor) -> tf.Tensor:
            found = tf.nn.relu(tf.cast(seen(image, training=False), tf.float32))
            both = tf.concat([tf.reduce_mean(found, [1, 2]), tf.math.reduce_std(found, [1, 2])], -1)
            return tf.math.log(both + LOG_EPSILON)

        self._look = tf.function(look, autograph=False, reduce_retracing=True)

    def __call__(self, images: np.ndarray | tf.Tensor) -> np.ndarray:
        return self._look(images).numpy()


@dataclasses.dataclass(frozen=True)
class OutOfDistributionDetector:
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
        directions = self.directions.astype(np.float64)
        along = away @ directions.T
        left = away - along @ directions
        squares = ((along / self.spreads) ** 2).sum(1) + (left**2).sum(1) / self.rest**2
        return np.sqrt(squares / features.shape[1])

    def write(self, file: h5py.File) -> None:
        """Into a group of its own of an open H5 file."""
        group = file.create_group(GROUP)
        for name, value in dataclasses.asdict(self).items():
            group.create_dataset(name, data=np.asarray(value, np.float32))

    @classmethod
    def read(cls, file: h5py.File) -> "OutOfDistributionDetector | None":
        """What `write` wrote, or None. Raises: ValueError when it makes no sense."""
        if GROUP not in file:
            return None
        stored = {field.name: np.asarray(file[GROUP][field.name]) for field in dataclasses.fields(cls)}
        mean, directions, spreads = stored["mean"], stored["directions"], stored["spreads"]
        shaped = mean.ndim == 1 and directions.shape == (len(spreads), len(mean))
        if not shaped or not all(np.isfinite(value).all() for value in stored.values()) or not (spreads > 0).all():
            raise ValueError("its record of the training images is damaged")
        return cls(mean, directions, spreads, float(stored["rest"]), float(stored["limit"]))


def fit(training: np.ndarray, validation: np.ndarray, seed: int = 0) -> OutOfDistributionDetector:
    """From features float32 [N, K] of training images, N at least 2, and, for the limit, of validation images."""
    count, width = training.shape
    found = PCA(min(DIRECTIONS, width, count - 1), random_state=seed % 2**32).fit(training.astype(np.float64))
    least = max(MIN_VARIANCE_RATIO * found.explained_variance_[0], np.finfo(np.float32).tiny)
    known = OutOfDistributionDetector(
        mean=found.mean_.astype(np.float32),
        directions=found.components_.astype(np.float32),
        spreads=np.sqrt(np.maximum(found.explained_variance_, least)).astype(np.float32),
        rest=float(np.sqrt(max(found.noise_variance_, least))),
        limit=0.0,
    )
    return dataclasses.replace(known, limit=float(np.quantile(known.distances(validation), OOD_QUANTILE)))
