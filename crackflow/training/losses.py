"""The loss of each example, and weights of classes."""

from crackflow.core.backend import tf
from crackflow.core.config.training import Loss, Optimization


def per_example_loss(label: tf.Tensor, logits: tf.Tensor, settings: Optimization) -> tf.Tensor:
    """float32 [B], from labels [B], 0..1 (between the two where pictures were mixed), and logits [B] of any precision.

    Binary cross-entropy, the labels pulled to s/2 and 1 - s/2 (label smoothing: Szegedy et al., 2016), each class
    with its weight; focal: times |label - p|^gamma, so that what is right already counts less (Lin et al., 2017).
    """
    label, logits = tf.cast(label, tf.float32), tf.cast(logits, tf.float32)
    smoothing = settings.label_smoothing
    loss = tf.nn.sigmoid_cross_entropy_with_logits(label * (1 - smoothing) + smoothing / 2, logits)
    if settings.loss is Loss.FOCAL:
        # Away from 0 and 1, where the power has no finite slope for gamma below 1.
        wrong = tf.clip_by_value(tf.abs(label - tf.sigmoid(logits)), 1e-6, 1.0)
        loss *= wrong**settings.focal_gamma
    clean, cracked = settings.class_weights
    return loss * (clean + (cracked - clean) * label)


def balanced_class_weights(counts: tuple[int, int]) -> tuple[float, float]:
    """Weights of (clean, cracked) by which both classes weigh alike and a picture weighs 1 on average; `counts` of
    each in the training split, above 0."""
    total = sum(counts)
    return tuple(total / (2 * count) for count in counts)
