"""Scores of all windows of a photograph are those of the windows alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crackflow.core.backend import keras
from crackflow.core.config.network import Architecture, Network, Padding
from crackflow.inference import sliding_window
from crackflow.model import networks, structure
from tests.helpers import support
from tests.helpers.lively_networks import lively

OURS = (Network.CRACKFLOW_XS, Network.CRACKFLOW_S)
ALONE = 1e-3  # of a logit


@pytest.fixture(scope="module")
def model():
    return lively(Network.CRACKFLOW_S, 96)


def alone(model, scorer, whole, rows, columns):
    """Logits of the windows at grid places, each by itself."""
    windows = [
        whole[y * scorer.step :, x * scorer.step :][: scorer.px, : scorer.px]
        for y, x in zip(rows, columns, strict=True)
    ]
    return model(np.stack(windows), training=False).numpy()


def mirrored(picture, scorer):
    return sliding_window._padded(picture, scorer.px, scorer.step)


@pytest.mark.parametrize("name", [*OURS, Network.SEED])
def test_every_window_has_the_score_that_it_has_alone(name):
    model = lively(name, 96) if name is not Network.SEED else networks.NETWORKS[name].build(96)
    scorer = sliding_window.create_scorer(model)
    picture = support.picture(1, 330, 270)[..., : model.input_shape[-1]]
    logits = scorer.score(picture)
    rows, columns = map(np.ravel, np.indices(logits.shape))
    expected = alone(model, scorer, mirrored(picture, scorer), rows, columns)
    np.testing.assert_allclose(logits.ravel(), expected, atol=ALONE)
    assert expected.std() > (0.1 if name in OURS else 0)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("px", [96, 128, 227])
def test_our_small_networks_are_scored_all_at_once(name, px):
    assert isinstance(
        sliding_window.create_scorer(networks.NETWORKS[name].build(px)), sliding_window.FullyConvolutionalScorer
    )


@pytest.mark.parametrize("name", [Network.SEED, Network.MOBILENET_V3_SMALL])
def test_networks_that_flatten_or_weigh_the_whole_are_scored_window_by_window(name):
    assert isinstance(
        sliding_window.create_scorer(networks.NETWORKS[name].build(96)), sliding_window.SlidingWindowScorer
    )


def test_a_network_that_adds_zeros_is_scored_all_at_once_in_its_surroundings():
    model = shared(Network.CRACKFLOW_M)
    scorer = sliding_window.create_scorer(model)
    assert isinstance(scorer, sliding_window.PaddedFullyConvolutionalScorer) and scorer.step == 16
    picture = support.picture(2, 128, 160)
    logits = scorer.score(picture)
    assert logits.shape == (5, 3)
    expected = alone(model, scorer, picture, [0], [0])
    assert np.abs(logits[0, 0] - expected[0]) > 1e-4  # zeros alone, ground in the photograph
    np.testing.assert_allclose(scorer.score(picture[:96, :96]), expected[None], atol=ALONE)


def test_the_most_cracked_cell_of_a_network_that_takes_the_maximum_gives_the_score():
    image = keras.Input((64, 64, 3), dtype="uint8")
    x = keras.layers.Conv2D(1, 3, 4, padding="same")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Conv2D(1, 3, padding="same", activation="relu")(x)
    logit = keras.layers.Dense(1, kernel_initializer="ones")(keras.layers.GlobalMaxPooling2D()(x))
    model = keras.Model(image, keras.layers.Reshape(())(logit))
    scorer = sliding_window.create_scorer(model)
    assert isinstance(scorer, sliding_window.PaddedFullyConvolutionalScorer)
    scores, cells = scorer.places(support.picture(4, 120, 100)[None])
    assert cells.shape == (1, scores.shape[1] + 15, scores.shape[2] + 15)
    most = np.lib.stride_tricks.sliding_window_view(cells, (16, 16), (1, 2)).max((3, 4))
    np.testing.assert_allclose(scores, most, atol=1e-5)


def test_only_padded_networks_tell_which_cell_is_cracked(model):
    picture = support.picture(3, 130, 120)
    scores, cells = sliding_window.create_scorer(model).places(picture[None])
    assert cells is None
    np.testing.assert_array_equal(scores[0], sliding_window.create_scorer(model).score(picture))
    assert (
        sliding_window.create_scorer(networks.NETWORKS[Network.SEED].build(96)).places(picture[None, ..., :1])[1]
        is None
    )
    scores, cells = sliding_window.create_scorer(shared(Network.CRACKFLOW_M)).places(picture[None])
    assert cells.shape == (1, scores.shape[1] + 5, scores.shape[2] + 5)


def test_what_was_learnt_from_masks_tells_the_cells_where_there_is_such_a_thing():
    picture, model = support.picture(3, 130, 120), shared(Network.CRACKFLOW_M)
    seen = []
    scorer = sliding_window.create_scorer(model, lambda features: seen.append(features) or features[..., 0])
    scores, cells = scorer.places(picture[None])
    np.testing.assert_array_equal(scores[0], scorer.score(picture))
    np.testing.assert_array_equal(cells, seen[0][..., 0])
    assert seen[0].shape == (
        1,
        scores.shape[1] + 5,
        scores.shape[2] + 5,
        model.get_layer(structure.pooled_layer(model)).output_shape[3],
    )


def test_far_from_its_window_nothing_changes_a_score():
    scorer = sliding_window.create_scorer(shared(Network.CRACKFLOW_M))
    picture, reach = support.picture(2, 400, 400), -scorer._reach.low + scorer._reach.high
    first = scorer.score(picture)
    changed = picture.copy()
    changed[96 + reach :] = 0
    changed[:, 96 + reach :] = 0
    np.testing.assert_allclose(scorer.score(changed)[0, 0], first[0, 0], atol=1e-5)
    assert np.abs(scorer.score(changed) - first).max() > 0.01


LEVELS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(3, 9), st.integers(1, 4), st.just(2)),
    elements=st.floats(0, 1, width=32),
)
STANDARDISED = Architecture(stem=16, widths=(16, 32), repeats=(0, 1), padding=Padding.SAME, standardised=True)


def test_a_standardised_network_sees_a_lone_window_as_it_is_and_others_in_context():
    scorer = sliding_window.create_scorer(shared(STANDARDISED))
    assert isinstance(scorer, sliding_window.PaddedFullyConvolutionalScorer)
    picture = support.picture(6, 96, 96)
    expected = shared(STANDARDISED)(picture[None], training=False)
    np.testing.assert_allclose(scorer.score(picture)[0], expected, atol=ALONE)
    dark, light = support.picture(6, 96, 400) // 3, support.picture(6, 96, 400)
    both = np.concatenate([dark, light])  # what is far away can no longer be told from what is near
    reach = 2 * scorer.px - scorer._reach.low + scorer._reach.high
    near = (400 - reach) // scorer.step
    alone = scorer.score(dark)
    change = np.abs(scorer.score(both)[: len(alone)] - alone).max(1)
    assert change[:near].max() < 1e-4 and change[near + 1 :].max() > 1e-3


@given(LEVELS)
def test_levels_of_a_cell_are_the_mean_over_all_windows_that_hold_it(levels):
    starts = range(len(levels) - 2)
    windows = np.array([levels[start : start + 3].mean(0) for start in starts])
    expected = [
        windows[[start for start in starts if start <= cell < start + 3]].mean(0) for cell in range(len(levels))
    ]
    np.testing.assert_allclose(sliding_window._over_windows(levels, 3), expected, atol=1e-5)


def test_a_norm_behind_overlap_or_twice_or_unpadded_is_scored_window_by_window():
    def scorer(padding, *chain):
        image = keras.Input((64, 64, 3), dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(image)
        for kernel in chain:
            x = keras.layers.Conv2D(4, kernel, 2, padding=padding)(x)
            x = keras.layers.LayerNormalization(axis=[1, 2], center=False, scale=False)(x)
        x = keras.layers.Conv2D(4, 3, padding=padding)(x)
        logit = keras.layers.Dense(1)(keras.layers.GlobalMaxPooling2D()(x))
        return type(sliding_window.create_scorer(keras.Model(image, keras.layers.Reshape(())(logit))))

    assert scorer("same", 2) is sliding_window.PaddedFullyConvolutionalScorer
    assert scorer("same", 3) is scorer("same", 2, 2) is scorer("valid", 2) is sliding_window.SlidingWindowScorer


@pytest.mark.slow
@pytest.mark.parametrize("name", [Network.CRACKFLOW_S, STANDARDISED])  # without padding and with
@given(height=st.integers(1, 280), width=st.integers(1, 280), tile=st.integers(97, 200))
def test_tiles_of_any_size_leave_no_seam(name, height, width, tile):
    scorer = sliding_window.create_scorer(shared(name))
    picture = support.picture(height * 401 + width, width, height)
    whole = scorer.score(picture)
    before, sliding_window.TILE_PX = sliding_window.TILE_PX, tile
    try:
        np.testing.assert_allclose(scorer.score(picture), whole, atol=1e-4)
    finally:
        sliding_window.TILE_PX = before


@pytest.mark.parametrize("name", [Network.CRACKFLOW_S, Network.CRACKFLOW_M, STANDARDISED, Network.SEED])
@pytest.mark.parametrize(("height", "width"), [(96, 96), (130, 210), (50, 120)])
def test_photographs_of_one_size_have_the_scores_together_that_they_have_alone(name, height, width):
    scorer = sliding_window.create_scorer(networks.NETWORKS[name].build(96) if name is Network.SEED else shared(name))
    colours = 1 if name is Network.SEED else 3
    batch = np.stack([support.picture(number, width, height)[..., :colours] for number in range(5)])
    scores, cells = scorer.places(batch)
    alone = [scorer.places(picture[None]) for picture in batch]
    np.testing.assert_allclose(scores, np.concatenate([window_scores for window_scores, _ in alone]), atol=1e-4)
    np.testing.assert_array_equal(alone[3][0][0], scorer.score(batch[3]))
    if isinstance(scorer, sliding_window.PaddedFullyConvolutionalScorer):
        np.testing.assert_allclose(cells, np.concatenate([cell_scores for _, cell_scores in alone]), atol=1e-4)
    else:
        assert cells is None


_SHARED = {}


def shared(name):
    """The same network for every example."""
    if name not in _SHARED:
        _SHARED[name] = lively(name, 96)
    return _SHARED[name]


@given(st.integers(1, 300), st.integers(1, 300))
def test_windows_cover_the_whole_photograph_and_nothing_more_than_a_step_beyond(height, width):
    px, step = 96, 16
    padded = sliding_window._padded(np.zeros((height, width, 3), np.uint8), px, step)
    for side, whole in zip((height, width), padded.shape[:2], strict=True):
        assert whole >= max(side, px) and (whole - px) % step == 0 and whole < max(side, px) + step


def test_beyond_its_border_a_small_picture_is_mirrored():
    picture = support.picture(0, 40, 50)
    padded = sliding_window._padded(picture, 96, 16)
    assert padded.shape == (96, 96, 3)
    np.testing.assert_array_equal(padded[50:96], padded[4:50][::-1])


def test_one_picture_of_the_size_of_a_window_has_one_score(model):
    picture = support.picture(3, 96, 96)
    logits = sliding_window.create_scorer(model).score(picture)
    assert logits.shape == (1, 1)
    np.testing.assert_allclose(logits[0, 0], model(picture[None], training=False)[0], atol=ALONE)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: keras.layers.Conv2D(16, 3, padding="same")(x),
        lambda x: keras.layers.ZeroPadding2D(1)(x),
        lambda x: keras.layers.UpSampling2D(2)(x),
        lambda x: keras.layers.Cropping2D(((1, 0), (0, 1)))(x),
        lambda x: keras.layers.Cropping2D(2)(x),
        lambda x: keras.layers.LayerNormalization(axis=[1, 2, 3])(x),
        lambda x: keras.layers.Multiply()(
            [x, keras.layers.Reshape((1, 1, 8))(keras.layers.GlobalAveragePooling2D()(x))]
        ),
    ],
)
def test_whatever_sees_the_border_or_the_whole_is_not_scored_all_at_once(change):
    image = keras.Input((64, 64, 3), dtype="uint8")
    x = change(keras.layers.Conv2D(8, 3, 2)(keras.layers.Rescaling(1 / 255)(image)))
    logit = keras.layers.Dense(1)(keras.layers.GlobalMaxPooling2D()(x))
    model = keras.Model(image, keras.layers.Reshape(())(logit))
    scorer = sliding_window.create_scorer(model)
    assert isinstance(scorer, sliding_window.SlidingWindowScorer)
    picture = support.picture(5, 100, 90)
    logits = scorer.score(picture)
    rows, columns = map(np.ravel, np.indices(logits.shape))
    np.testing.assert_allclose(
        logits.ravel(), alone(model, scorer, mirrored(picture, scorer), rows, columns), atol=ALONE
    )


def test_dilated_strided_and_pooled_convolutions_are_scored_all_at_once():
    image = keras.Input((64, 64, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, dilation_rate=2, activation="relu")(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.SeparableConv2D(12, 3, 2)(x)
    x = keras.layers.AveragePooling2D(3, 1)(x)
    pooled = [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]
    logit = keras.layers.Dense(1)(keras.layers.Dense(5, activation="relu")(keras.layers.Concatenate()(pooled)))
    model = keras.Model(image, keras.layers.Reshape(())(logit))
    scorer = sliding_window.create_scorer(model)
    assert isinstance(scorer, sliding_window.FullyConvolutionalScorer) and scorer.step == 4
    picture = support.picture(5, 101, 90)
    logits = scorer.score(picture)
    rows, columns = map(np.ravel, np.indices(logits.shape))
    np.testing.assert_allclose(
        logits.ravel(), alone(model, scorer, mirrored(picture, scorer), rows, columns), atol=ALONE
    )


def test_a_network_whose_layers_were_used_elsewhere_is_scored_all_at_once_as_before():
    """An evaluation explains its mistakes before it looks at photographs; these were then scored window by window."""
    model = lively(Network.CRACKFLOW_XS, 64)
    pixels = support.picture(0, 100, 90)
    before = sliding_window.create_scorer(model).score(pixels)
    layer = model.layers[-2]
    keras.Model(model.input, layer(keras.layers.ReLU()(layer.input)))
    again = sliding_window.create_scorer(model)
    assert isinstance(again, sliding_window.FullyConvolutionalScorer)
    np.testing.assert_array_equal(again.score(pixels), before)
