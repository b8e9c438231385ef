"""Out-of-distribution detection: whether a photograph looks like those that the network was trained on.

Synopsis::

    statistics = ood.FeatureStatistics(model)             # of the network's first layer
    detector = ood.fit(statistics(training_images), statistics(validation_images))
    detector.distances(statistics(windows))               # float64 [N]; above detector.limit: out of distribution
    detector.write(file)                                  # beside the weights

The output of the first layer, as the logarithm of the mean and spread of each channel, describes the texture and colour
of an image. The last layer no longer tells surfaces apart: it separated others from METU no better than chance
(BUILD_NOTES.md). A Gaussian describes these statistics for training images: its principal directions, and one spread
for all the rest (Tipping and Bishop, Probabilistic principal component analysis, J. R. Stat. Soc. B 61:611, 1999). The
distance is Mahalanobis' (Lee et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS
2018), per feature and as a root, so that it is typically about 1 whatever the network.
"""

import dataclasses

import h5py
import numpy as np
from sklearn.decomposition import PCA

from crackflow.core.backend import keras, tf

GROUP = "crackflow_familiarity"
DIRECTIONS = 64
OOD_QUANTILE = 0.99  # fraction of validation images that lie within the limit
LOG_EPSILON = 0.02  # added before the logarithm: channels are about 1 in size
MIN_VARIANCE_RATIO = 1e-6  # of the largest variance: features that are constant in training must not divide by 0


class FeatureStatistics:
    """Computes float32 [B, K] from images uint8 [B, px, px, C], 0..255, of the input size of `model`."""

    def __init__(self, model: keras.Model) -> None:
        activations = (keras.layers.Activation, keras.layers.ReLU, keras.layers.Conv2D)
        spatial = [layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4]
        first_trainable = next(index for index, layer in enumerate(spatial) if layer.trainable_weights)
        first = next((layer for layer in spatial[first_trainable:] if isinstance(layer, activations[:2])), None)
        first = first or next(layer for layer in spatial if isinstance(layer, activations[2]))
        feature_model = keras.Model(model.input, first.output)

        def compute(image: tf.Tensor) -> tf.Tensor:
            activation = tf.nn.relu(tf.cast(feature_model(image, training=False), tf.float32))
            statistics = tf.concat([tf.reduce_mean(activation, [1, 2]), tf.math.reduce_std(activation, [1, 2])], -1)
            return tf.math.log(statistics + LOG_EPSILON)

        self._compute = tf.function(compute, autograph=False, reduce_retracing=True)

    def __call__(self, images: np.ndarray | tf.Tensor) -> np.ndarray:
        return self._compute(images).numpy()


@dataclasses.dataclass(frozen=True)
class OutOfDistributionDetector:
    """A Gaussian over feature statistics, and the distance from which on an image is out of distribution.

    Attributes:
      mean: float32 [K].
      directions: float32 [D, K], orthonormal.
      spreads: float32 [D], the standard deviations along `directions`.
      rest: the standard deviation along each other direction.
      limit: the distance that few validation images exceed (`OOD_QUANTILE`).
    """

    mean: np.ndarray
    directions: np.ndarray
    spreads: np.ndarray
    rest: float
    limit: float

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Returns float64 [N], from 0, typically about 1, for features float32 [N, K]."""
        deviation = features.astype(np.float64) - self.mean
        directions = self.directions.astype(np.float64)
        along = deviation @ directions.T
        residual = deviation - along @ directions
        squares = ((along / self.spreads) ** 2).sum(1) + (residual**2).sum(1) / self.rest**2
        return np.sqrt(squares / features.shape[1])

    def write(self, file: h5py.File) -> None:
        """Writes into a group of its own in an open H5 file."""
        group = file.create_group(GROUP)
        for name, value in dataclasses.asdict(self).items():
            group.create_dataset(name, data=np.asarray(value, np.float32))

    @classmethod
    def read(cls, file: h5py.File) -> "OutOfDistributionDetector | None":
        """Reads what `write` wrote.

        Returns:
          The detector, or None where the file has none.

        Raises:
          ValueError: it is damaged.
        """
        if GROUP not in file:
            return None
        stored = {field.name: np.asarray(file[GROUP][field.name]) for field in dataclasses.fields(cls)}
        mean, directions, spreads = stored["mean"], stored["directions"], stored["spreads"]
        shaped = mean.ndim == 1 and directions.shape == (len(spreads), len(mean))
        if not shaped or not all(np.isfinite(value).all() for value in stored.values()) or not (spreads > 0).all():
            raise ValueError("its record of the training images is damaged")
        return cls(mean, directions, spreads, float(stored["rest"]), float(stored["limit"]))


def fit(training: np.ndarray, validation: np.ndarray, seed: int = 0) -> OutOfDistributionDetector:
    """Fits the Gaussian to training images and sets the limit on validation images.

    Args:
      training: features float32 [N, K], N at least 2.
      validation: features float32 [M, K].
      seed: that of the principal component analysis.

    Returns:
      The detector.
    """
    count, width = training.shape
    pca = PCA(min(DIRECTIONS, width, count - 1), random_state=seed % 2**32).fit(training.astype(np.float64))
    min_variance = max(MIN_VARIANCE_RATIO * pca.explained_variance_[0], np.finfo(np.float32).tiny)
    detector = OutOfDistributionDetector(
        mean=pca.mean_.astype(np.float32),
        directions=pca.components_.astype(np.float32),
        spreads=np.sqrt(np.maximum(pca.explained_variance_, min_variance)).astype(np.float32),
        rest=float(np.sqrt(max(pca.noise_variance_, min_variance))),
        limit=0.0,
    )
    return dataclasses.replace(detector, limit=float(np.quantile(detector.distances(validation), OOD_QUANTILE)))
