"""Heat maps: each method against an independent computation on a tiny network, and on every network that is trained."""

import functools
import itertools

import numpy as np
import pytest
from scipy import ndimage

from crackflow.core.backend import keras, tf
from crackflow.core.config.network import Network
from crackflow.core.config.trained import Method
from crackflow.explanation import saliency
from crackflow.model import networks
from tests.helpers import small

PX = 10
KERNELS = 4


@pytest.fixture(autouse=True)
def same_weights():
    """Makes random weights the same in every run."""
    keras.utils.set_random_seed(0)


@functools.cache
def tiny():
    """One convolution, then mean and maximum, then a logit, which is how crackflow's own networks end."""
    image = keras.Input((PX, PX, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(KERNELS, 3, padding="same", activation="relu", name="conv")(x)
    pooled = [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]
    logit = keras.layers.Dense(1)(keras.layers.Concatenate()(pooled))
    model = keras.Model(image, keras.layers.Reshape(())(logit))
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 1, weight.shape) for weight in model.get_weights()])
    return model


def pictures(count=3, image_px=PX, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, image_px, image_px, 3), np.uint8)


def numpy_activation(picture):
    """float64 [PX, PX, KERNELS] of `tiny`, by SciPy, from floats 0..1."""
    kernel, bias = (weight.astype(np.float64) for weight in tiny().get_weights()[:2])
    maps = [
        sum(ndimage.correlate(picture[..., c], kernel[..., c, k], mode="constant") for c in range(3)) + bias[k]
        for k in range(KERNELS)
    ]
    return np.maximum(np.stack(maps, -1), 0)


def numpy_logit(picture):
    weight, bias = (array.astype(np.float64) for array in tiny().get_weights()[2:])
    activation = numpy_activation(picture)
    pooled = np.concatenate([activation.mean((0, 1)), activation.max((0, 1))])
    return float(pooled @ weight[:, 0] + bias[0])


def numpy_gradient(picture):
    """Of the logit by the activation, [PX, PX, KERNELS]: a mean spreads its weight, a maximum gives it to one cell."""
    weight, activation = tiny().get_weights()[2][:, 0].astype(np.float64), numpy_activation(picture)
    gradient = np.broadcast_to(weight[:KERNELS] / PX**2, activation.shape).copy()
    for k in range(KERNELS):
        y, x = np.unravel_index(activation[..., k].argmax(), (PX, PX))
        if activation[y, x, k] > 0:
            gradient[y, x, k] += weight[KERNELS + k]
    return gradient


def by_hand(method, activation, gradient):
    if method is Method.GRAD_CAM:
        cam = sum(gradient[..., k].mean() * activation[..., k] for k in range(KERNELS))
    elif method is Method.HIRES_CAM:
        cam = sum(gradient[..., k] * activation[..., k] for k in range(KERNELS))
    elif method is Method.LAYER_CAM:
        cam = sum(np.maximum(gradient[..., k], 0) * activation[..., k] for k in range(KERNELS))
    else:
        cam = 0
        for k in range(KERNELS):
            g = gradient[..., k]
            denominator = 2 * g**2 + activation[..., k].sum() * g**3
            alpha = np.divide(g**2, denominator, out=np.zeros_like(g), where=denominator != 0)
            cam = cam + (alpha * np.maximum(g, 0)).sum() * activation[..., k]
    return np.maximum(cam, 0)


@pytest.mark.parametrize("toward", [True, False])
@pytest.mark.parametrize("method", [Method.GRAD_CAM, Method.GRAD_CAM_PLUS_PLUS, Method.HIRES_CAM, Method.LAYER_CAM])
def test_maps_of_activations_are_those_computed_by_hand(method, toward):
    image = pictures()
    heatmaps = saliency.Explainer(tiny(), method)(image, np.full(3, toward))
    for heatmap, picture in zip(heatmaps, image / 255, strict=True):
        expected = by_hand(method, numpy_activation(picture), (1 if toward else -1) * numpy_gradient(picture))
        np.testing.assert_allclose(heatmap, expected, rtol=2e-3, atol=1e-4 * max(expected.max(), 1e-3))


@pytest.mark.parametrize("method", Method)
def test_a_map_without_a_graph_is_that_of_the_graph(method):
    maps = [saliency.Explainer(tiny(), method, compiled=flag)(pictures(2), [True, False]) for flag in (True, False)]
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("toward", [True, False])
def test_integrated_gradients_are_the_integral_of_finite_differences(toward):
    picture = pictures(1)[0] / 255
    flat = np.broadcast_to(picture.mean((0, 1)), picture.shape)
    total, step = np.zeros(picture.shape), 1e-6
    for fraction in (np.arange(saliency.INTEGRATION_STEPS) + 0.5) / saliency.INTEGRATION_STEPS:
        between = flat + fraction * (picture - flat)
        for position in itertools.product(range(PX), range(PX), range(3)):
            up, down = between.copy(), between.copy()
            up[position] += step
            down[position] -= step
            total[position] += (numpy_logit(up) - numpy_logit(down)) / (2 * step)
    expected = (picture - flat) * total / saliency.INTEGRATION_STEPS
    sign = 1.0 if toward else -1.0
    rest = keras.Model(tiny().layers[1].output, tiny().outputs[0])
    attribution = saliency.integrated_gradients(rest, tf.constant(picture[None], tf.float32), tf.constant([sign]))[0]
    np.testing.assert_allclose(attribution, sign * expected, atol=2e-4 * np.abs(expected).max())
    heatmap = saliency.Explainer(tiny(), Method.INTEGRATED_GRADIENTS)(pictures(1), [toward])[0]
    np.testing.assert_allclose(heatmap, np.maximum(sign * expected.sum(-1), 0), atol=5e-4 * np.abs(expected).max())


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(monkeypatch):
    # A network with random weights is less linear than a trained one.
    monkeypatch.setattr(saliency, "INTEGRATION_STEPS", 100)
    model = networks.NETWORKS[Network.CRACKFLOW_XS].build(64)
    image = tf.cast(pictures(4, 64), tf.float32) / 255
    rest = keras.Model(model.layers[1].output, model.outputs[0])
    attribution = saliency.integrated_gradients(rest, image, tf.ones(4))
    flat = tf.zeros_like(image) + tf.reduce_mean(image, [1, 2], keepdims=True)
    expected = rest(image) - rest(flat)
    np.testing.assert_allclose(tf.reduce_sum(attribution, [1, 2, 3]), expected, atol=0.01 * np.abs(expected).max())


@pytest.mark.parametrize("toward", [True, False])
def test_occlusion_is_the_fall_of_the_logit_averaged_over_the_windows(toward):
    image, side = pictures(2, 32), 4
    corner = image[:, :8, :8].mean((1, 2, 3))

    def logits(images):
        return images.astype(np.float64)[:, :8, :8].mean((1, 2, 3))

    heatmaps = saliency.occlusion(logits, image, np.full(2, toward))
    for row in range(2):
        total, covered = np.zeros((32, 32)), np.zeros((32, 32))
        for y, x in itertools.product(range(0, 29, 2), repeat=2):
            hidden = image[row].copy()
            hidden[y : y + side, x : x + side] = np.round(image[row].mean((0, 1)))
            total[y : y + side, x : x + side] += corner[row] - logits(hidden[None])[0]
            covered[y : y + side, x : x + side] += 1
        expected = np.maximum((1 if toward else -1) * total / covered, 0)
        np.testing.assert_allclose(heatmaps[row], expected, atol=1e-4)
        assert not heatmaps[row, 12:, 12:].any() and heatmaps[row].any()


def test_hires_cam_before_a_linear_head_adds_up_to_the_logit_without_its_bias():
    picture = pictures(1)[0] / 255
    parts = (numpy_gradient(picture) * numpy_activation(picture)).sum()
    assert parts == pytest.approx(numpy_logit(picture) - float(tiny().get_weights()[3][0]), rel=1e-9)


def test_fused_maps_take_the_largest_after_evening_out_the_shallow():
    shallow, deep = np.random.default_rng(2).random((2, 1, 5, 5)).astype(np.float32)
    expected = np.maximum(np.tanh(2 * shallow / shallow.max()), deep / deep.max())
    np.testing.assert_allclose(saliency.fuse_maps([tf.constant(shallow), tf.constant(deep)]), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "method"),
    [
        *((Network.CRACKFLOW_S, method) for method in Method),
        *((network, Method.LAYER_CAM) for network in Network if network not in (Network.SEED, Network.CRACKFLOW_S)),
        (Network.MOBILENET_V3_SMALL, Method.INTEGRATED_GRADIENTS),
    ],
)
def test_every_network_is_explained_and_by_every_method(network, method, monkeypatch):
    monkeypatch.setattr(saliency, "OCCLUDED", 2)
    explain = saliency.Explainer(small.network(network), method)
    heatmaps = explain(pictures(2, 64), [True, False])
    assert heatmaps.shape == (2, 64, 64) and heatmaps.dtype == np.float32
    assert np.isfinite(heatmaps).all() and (heatmaps >= 0).all()


def test_a_grey_network_with_a_dense_layer_is_explained():
    model = networks.NETWORKS[Network.SEED].build(64)
    heatmaps = saliency.Explainer(model, Method.LAYER_CAM)(pictures(1, 64)[..., :1], [True])
    assert heatmaps.shape == (1, 64, 64) and heatmaps.max() > 0


@pytest.mark.parametrize("method", [Method.HIRES_CAM, Method.LAYER_CAM, Method.INTEGRATED_GRADIENTS])
def test_half_precision_explains_alike(method):
    plain = networks.NETWORKS[Network.CRACKFLOW_XS].build(64)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        half = networks.NETWORKS[Network.CRACKFLOW_XS].build(64)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    half.set_weights(plain.get_weights())
    image = pictures(2, 64)
    expected, received = (saliency.Explainer(model, method)(image, [True, True]).ravel() for model in (plain, half))
    assert np.corrcoef(expected, received)[0, 1] > 0.9


def test_a_frozen_network_is_explained_and_one_without_maps_is_not():
    model = networks.NETWORKS[Network.CRACKFLOW_XS].build(64)
    model.trainable = False
    with pytest.raises(ValueError, match="expected a network with maps of more than one cell"):
        saliency.feature_maps(keras.Sequential([keras.Input((4, 4, 3)), keras.layers.GlobalAveragePooling2D()]))
    assert saliency.Explainer(model, Method.LAYER_CAM)(pictures(1, 64), [True]).max() > 0


def test_a_layer_that_is_no_stage_is_refused_by_name():
    with pytest.raises(ValueError, match="expected stages among conv; received dense"):
        saliency.Explainer(tiny(), Method.GRAD_CAM, ["dense"])


@pytest.mark.parametrize("network", list(Network))
def test_every_stage_covers_the_picture(network):
    for stage in saliency.feature_maps(small.network(network)):
        for cells, stride, offset in zip(stage.size, stage.stride, stage.offset, strict=True):
            assert 0.7 * 64 <= stride * cells <= 1.1 * 64 and 0 <= offset <= max(stride, 8.5), stage


@pytest.mark.parametrize(
    ("network", "image_px"),
    [(Network.CRACKFLOW_S, 64), (Network.CRACKFLOW_S, 65), (Network.RESNET50, 64), (Network.SEED, 50)],
)
def test_cells_lie_where_their_receptive_fields_are_centred(network, image_px):
    model = networks.NETWORKS[network].build(image_px)
    for stage in saliency.feature_maps(model)[:3]:
        cell = stage.size[0] // 2
        rest = keras.Model(model.layers[1].output, model.get_layer(stage.name).output)
        image = tf.random.stateless_uniform((8, image_px, image_px, model.input_shape[3]), [1, 2])
        with tf.GradientTape() as tape:
            tape.watch(image)
            score = tf.reduce_sum(tf.nn.softplus(rest(image))[:, cell, cell])
        seen = np.abs(tape.gradient(score, image)).sum((0, 3))
        rows = np.flatnonzero(seen.sum(1))
        if rows[0] == 0 or rows[-1] == image_px - 1:
            continue  # the receptive field reaches over the border
        assert (rows[0] + rows[-1]) / 2 == stage.offset[0] + stage.stride[0] * cell, stage
        break
    else:
        raise AssertionError("no stage whose field lies inside")


def test_a_map_laid_over_the_picture_is_itself_at_the_centres():
    stage = saliency.FeatureMap("", (4, 4), (4.0, 4.0), (3.0, 3.0))
    rows, columns = saliency.overlay_weights(stage, 16)
    cells = np.random.default_rng(3).random((4, 4)).astype(np.float32)
    laid = rows @ cells @ columns.T
    np.testing.assert_allclose(laid[3::4, 3::4], cells, rtol=1e-6)
    np.testing.assert_allclose(laid[5, 3], (cells[0, 0] + cells[1, 0]) / 2, rtol=1e-6)
    np.testing.assert_allclose(
        laid[0, 0], cells[0, 0], rtol=1e-6
    )  # nothing is extrapolated beyond the outermost centre
