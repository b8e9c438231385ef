"""The loss of each example, and weights of classes."""

from crackflow.core.backend import tf
from crackflow.core.config.training import Loss, Optimization


def per_example_loss(label: tf.Tensor, logits: tf.Tensor, settings: Optimization) -> tf.Tensor:
    """Binary cross-entropy or focal loss, each class with its weight.

    Labels are smoothed to s/2 and 1 - s/2 (Szegedy et al., 2016). The focal loss multiplies by |label - p|^gamma, so
    that examples that are right already count less (Lin et al., 2017).

    Args:
      label: [B], 0..1; between the two where images were mixed.
      logits: [B] of any precision.
      settings: the loss, its smoothing and its weights.

    Returns:
      float32 [B].
    """
    label, logits = tf.cast(label, tf.float32), tf.cast(logits, tf.float32)
    smoothing = settings.label_smoothing
    loss = tf.nn.sigmoid_cross_entropy_with_logits(label * (1 - smoothing) + smoothing / 2, logits)
    if settings.loss is Loss.FOCAL:
        # Clipped away from 0 and 1, where the power has no finite slope for gamma below 1.
        wrong = tf.clip_by_value(tf.abs(label - tf.sigmoid(logits)), 1e-6, 1.0)
        loss *= wrong**settings.focal_gamma
    clean, cracked = settings.class_weights
    return loss * (clean + (cracked - clean) * label)


def balanced_class_weights(counts: tuple[int, int]) -> tuple[float, float]:
    """Computes weights that make both classes count equally and an image 1 on average.

    Args:
      counts: the training images of (clean, cracked), above 0.

    Returns:
      The weights of (clean, cracked).
    """
    total = sum(counts)
    return tuple(total / (2 * count) for count in counts)
