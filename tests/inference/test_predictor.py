"""The Python API: a model predicts on photographs."""

import dataclasses
import inspect

import numpy as np
import pytest
from PIL import Image
from scipy import special

import crackflow
from crackflow.core.backend import keras
from crackflow.core.config.network import Network
from crackflow.core.errors import UserError
from crackflow.data import resize
from crackflow.inference import multi_scale, predictor, sliding_window
from crackflow.inference.marker_plane import MarkerPlane
from crackflow.inference.photo_scale import PhotoScale, Source
from crackflow.model import mask_head, model_file, networks, ood
from tests.helpers import support
from tests.helpers.walls import CARD, PX, darkness, model, wall


def test_a_crack_is_found_outlined_and_measured():
    (prediction,) = model().predict(wall(), scale=1.0)
    assert (prediction.decision, prediction.label) == ("cracked", "cracked") and prediction.probability > 0.99
    (crack,) = prediction.findings
    x, y, width, height = crack.box
    assert x < 10 and x + width > 250 and 75 < y < 95 and 110 < y + height < 135
    assert crack.length_px == pytest.approx(np.hypot(259, 30), rel=0.1) and crack.length_mm is None
    assert prediction.heat.shape == (-(-200 // 4), 260 // 4)


def test_the_width_of_a_crack_is_that_of_the_photograph_also_when_it_is_resized():
    picture = wall()
    double = resize.scaled(picture, 400, 520)
    (small,) = model().predict(picture, scale=1.0)[0].findings
    (large,) = model(source_px=2 * PX).predict(double, scale=1.0, mm_per_px=0.5)[0].findings
    assert len(small.centerline) == 1 and len(small.centerline[0]["points"]) == len(small.centerline[0]["widths_px"])
    assert np.ptp(np.array(large.centerline[0]["points"])[:, 0]) > 480
    assert bool(small.width_px) != bool(small.width_note) and bool(large.width_px) != bool(large.width_note)
    ratio = large.width_px["median"]["value"] / small.width_px["median"]["value"]
    assert ratio == pytest.approx(2, rel=0.2)
    assert large.width_mm["median"]["value"] == pytest.approx(large.width_px["median"]["value"] / 2, rel=0.01)


def test_a_clean_wall_is_clean():
    (prediction,) = model().predict([wall(crack=None)])
    assert (prediction.decision, prediction.label, prediction.findings) == ("clean", "clean", [])
    assert prediction.probability < 0.01 and (prediction.width, prediction.height) == (260, 200)


def test_one_window_has_the_probability_that_the_model_gives_it():
    picture = support.picture(3, PX, PX)
    crack_model = model()
    (prediction,) = crack_model.predict(picture, scale=1.0)
    assert prediction.probability == pytest.approx(crack_model.bundle.probabilities(picture[None])[0], abs=1e-3)


def test_photographs_are_made_as_large_as_training_was():
    picture = wall()
    double = resize.scaled(picture, 400, 520)
    (small,), (large,) = model().predict(picture, scale=1.0), model(source_px=2 * PX).predict(double, scale=1.0)
    assert large.probability == pytest.approx(small.probability, abs=0.02)
    np.testing.assert_allclose(np.array(large.findings[0].box) / 2, small.findings[0].box, atol=6)
    assert large.findings[0].length_px == pytest.approx(2 * small.findings[0].length_px, rel=0.1)


def test_without_a_scale_three_are_looked_at_and_with_one_only_that():
    assert model().predict(wall())[0].scales == predictor.SCALES
    assert model().predict(wall(), scale=0.5)[0].scales == (0.5,)
    assert model().predict(wall(70, 80))[0].scales == (1.0, 2.0)  # half of it is smaller than a window


def test_millimetres_give_scale_and_length():
    (prediction,) = model(mm_per_px=0.5).predict(wall(), mm_per_px=0.5)
    assert prediction.scales == (1.0,) and not prediction.warnings
    crack = prediction.findings[0]
    assert crack.length_mm == pytest.approx(crack.length_px / 2)


def test_millimetres_alone_give_lengths_when_training_had_none():
    (prediction,) = model().predict(wall(), mm_per_px=2.0)
    assert prediction.scales == predictor.SCALES
    assert prediction.findings[0].length_mm == pytest.approx(2 * prediction.findings[0].length_px)


@pytest.mark.parametrize("mm_per_px, warning", [(2.0, "4.0 times as coarse"), (0.1, "5.0 times as fine"), (0.6, "")])
def test_a_scale_far_from_training_is_a_warning(mm_per_px, warning):
    (prediction,) = model(mm_per_px=0.5).predict(wall(), mm_per_px=mm_per_px)
    assert prediction.scales == (pytest.approx(mm_per_px / 0.5),)
    assert [warning in text for text in prediction.warnings[:1]] == ([True] if warning else [])


def test_a_scale_beside_millimetres_is_refused_only_where_they_give_it():
    with pytest.raises(UserError, match="--scale: expected nothing beside --mm_per_px, which gives it for this model"):
        model(mm_per_px=0.5).predict(wall(), scale=1.0, mm_per_px=0.5)
    (prediction,) = model().predict(wall(), scale=1.0, mm_per_px=2.0)
    (finding,) = prediction.findings
    assert prediction.scales == (1.0,) and finding.length_mm == pytest.approx(2 * finding.length_px)


def test_what_is_made_much_smaller_than_a_window_says_both():
    (prediction,) = model(mm_per_px=0.5).predict(wall(height=120, width=120), mm_per_px=0.1)
    assert [text in " ".join(prediction.warnings) for text in ("times as fine", "its window of")] == [True, True]


@pytest.mark.parametrize("mm_per_px", [0.001, 100.0])
def test_millimetres_beyond_any_use_are_a_clear_error(mm_per_px):
    with pytest.raises(
        UserError, match="--mm_per_px: expected 0.00781 to 4 for a model that was trained on 0.5, received"
    ):
        model(mm_per_px=0.5).predict(wall(), mm_per_px=mm_per_px)


@pytest.mark.parametrize("mm_per_px", [0.001, 100.0])
def test_what_was_measured_of_one_photograph_refuses_no_run(mm_per_px):
    crack_model, scale = model(mm_per_px=0.5), PhotoScale(mm_per_px, Source.MARKER, warnings=("oblique",))
    scores = crack_model.score(wall(), measured=scale)
    prediction = crack_model.extract_findings(scores, "wall")
    assert prediction.scales[0] == 1.0 and prediction.warnings[0] == "oblique"
    assert (
        f"its pixels are {mm_per_px:.3g} mm, and the model was trained on 0.5: too far apart" in prediction.warnings[1]
    )
    (crack,) = prediction.findings
    assert crack.length_mm == pytest.approx(crack.length_px * mm_per_px)


def test_a_measured_scale_is_that_of_the_network_unless_a_scale_was_given():
    crack_model, scale = model(mm_per_px=0.5), PhotoScale(0.25, Source.SCALES)
    assert [part.scale for part in crack_model.score(wall(), measured=scale).scale_scores] == [0.5]
    assert [part.scale for part in crack_model.score(wall(), 1.5, measured=scale).scale_scores] == [1.5]
    with pytest.raises(UserError, match="--scale: expected nothing beside --mm_per_px"):
        crack_model.score(wall(), 1.5, measured=PhotoScale(0.25, Source.MM_PER_PX))


def test_lengths_in_millimetres_follow_the_plane_of_the_marker():
    """A wall that is seen from the side: its left half is nearer, and has more pixels a millimetre."""
    plane = MarkerPlane.of([(20.0, 20.0), (60.0, 22.0), (60.0, 58.0), (20.0, 60.0)], 10.0)
    scores = model().score(wall(), 1.0, measured=PhotoScale(0.3, Source.MARKER, plane=plane))
    (crack,) = model().extract_findings(scores, "wall").findings
    (x0, y0), (x1, y1) = plane.to_mm([(3.0, 90.0), (257.0, 120.0)])
    assert crack.length_mm == pytest.approx(np.hypot(x1 - x0, y1 - y0), rel=0.1)
    assert abs(crack.length_px * 0.3 / crack.length_mm - 1) > 0.2
    beyond = MarkerPlane.of([(20.0, 20.0), (60.0, 33.0), (60.0, 47.0), (20.0, 60.0)], 10.0)
    scores = model().score(wall(), 1.0, measured=PhotoScale(0.3, Source.MARKER, plane=beyond))
    (crack,) = model().extract_findings(scores, "wall").findings
    assert crack.length_mm is None and crack.length_px > 100


@pytest.mark.parametrize("settings", [{"scale": -1.0}, {"mm_per_px": -1.0}, {"max_megapixels": 0.0}])
def test_numbers_out_of_their_range_are_a_clear_error(settings):
    with pytest.raises(UserError, match="expected"):
        model().predict(wall(), **settings)


def test_what_looks_unlike_training_is_a_warning():
    usual = [wall(PX, PX, None if number % 2 else ((0, number % 60), (63, 60 - number % 60))) for number in range(60)]
    network = networks.NETWORKS[Network.CRACKFLOW_XS].build(PX)
    looks = ood.FeatureStatistics(network)(np.stack(usual))
    crack_model = predictor.Model(model_file.TrainedModel(network, CARD, ood.fit(looks, looks)))
    (like,) = crack_model.predict(usual[20], scale=1.0)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    (unlike,) = crack_model.predict(noise, scale=1.0)
    assert not like.warnings and like.distance <= 1
    assert "looks unlike the training images" in unlike.warnings[0] and unlike.distance > 1


def test_a_model_that_knows_no_training_images_says_nothing_of_them():
    assert model().predict(wall())[0].distance is None


def test_a_photograph_smaller_than_a_window_is_decided_by_what_is_in_it():
    """Not by the mirrored pixels that pad it."""
    shipped = predictor.load()
    for seed in range(6):
        (prediction,) = shipped.predict(support.picture(seed, 90, 90))
        assert prediction.probability == prediction.heat.max()


@pytest.mark.parametrize("band", [64, 128])
def test_bands_of_rows_leave_no_seam(band, monkeypatch):
    picture = wall(500, 90, ((10, 0), (80, 499)))
    whole = model()._scorer.score(picture[None], [1.0])[0].first.heat
    monkeypatch.setattr(multi_scale, "BLOCK_PIXELS", band * picture.shape[1])
    np.testing.assert_allclose(model()._scorer.score(picture[None], [1.0])[0].first.heat, whole, atol=1e-5)


def test_bands_leave_no_seam_in_what_the_shipped_model_sees_either(monkeypatch):
    """It pads borders with zeros, and standardises by the windows around a cell."""
    shipped = predictor.load()
    picture = support.picture(3, 700, 900)
    whole = shipped._scorer.score(picture[None], [1.0])[0].first
    monkeypatch.setattr(multi_scale, "BLOCK_PIXELS", 600 * 600)
    parts = shipped._scorer.score(picture[None], [1.0])[0].first
    np.testing.assert_allclose(parts.heat, whole.heat, atol=1e-5)
    np.testing.assert_allclose(parts.cell_probabilities, whole.cell_probabilities, atol=1e-5)
    assert whole.heat.std() > 0.01


def padded_darkness(locator=None, **card):
    """As `darkness`, with zero padding: the position of each cell is known."""
    image = keras.Input((PX, PX, 3), dtype="uint8")
    light = keras.layers.Rescaling(-1 / 255, offset=1)(image)  # a zero at the border is white
    x = keras.layers.Conv2D(1, 5, 4, padding="same", name="dark", activation="relu")(light)
    logit = keras.layers.Dense(1, name="logit")(keras.layers.GlobalMaxPooling2D(name="max")(x))
    network = keras.Model(image, keras.layers.Reshape((), name="logits")(logit))
    network.get_layer("dark").set_weights([np.full((5, 5, 3, 1), 1 / 75, np.float32), np.float32([-0.6])])
    network.get_layer("logit").set_weights([np.float32([[60.0]]), np.float32([-3.0])])
    return predictor.Model(model_file.TrainedModel(network, dataclasses.replace(CARD, **card), None, locator))


def test_the_mask_head_locates_the_crack_whatever_the_temperature_of_windows():
    locator = mask_head.MaskHead(np.float32([40.0]), np.float32(-2))
    plain, taught = padded_darkness(temperature=2.0), padded_darkness(locator, temperature=2.0)
    plain_scores, taught_scores = (
        plain._scorer.score(wall()[None], [1.0])[0].first,
        taught._scorer.score(wall()[None], [1.0])[0].first,
    )
    np.testing.assert_array_equal(plain_scores.heat, taught_scores.heat)
    np.testing.assert_allclose(taught_scores.cell_probabilities.min(), 1 / (1 + np.exp(2)), rtol=1e-5)
    logits = special.logit(plain_scores.cell_probabilities.astype(np.float64)) * 2
    dark = (logits + 3) / 60  # back through the last layer
    np.testing.assert_allclose(taught_scores.cell_probabilities, special.expit(40 * dark - 2), atol=1e-4)
    nowhere = padded_darkness(mask_head.MaskHead(np.float32([0.0]), np.float32(-9)))
    boxes = [
        [finding.box for finding in padded_model.predict(wall(), scale=1.0)[0].findings]
        for padded_model in (taught, nowhere)
    ]
    assert boxes[0] != boxes[1]


@pytest.mark.parametrize("band", [64, 128, 2048])
def test_what_a_padded_network_knows_of_places_comes_with_every_band(band, monkeypatch):
    picture = wall(500, 90, ((10, 0), (80, 499)))
    monkeypatch.setattr(multi_scale, "BLOCK_PIXELS", band * picture.shape[1])
    look = padded_darkness()._scorer.score(picture[None], [1.0])[0].first
    assert look.cell_probabilities.shape == look.heat.shape
    rows = np.argmax(look.cell_probabilities[:120], axis=1)
    expected = (10 + 70 * (np.arange(120) * 4 + 2) / 500) / 4
    assert np.abs(rows - expected).max() < 3


def test_a_padded_network_outlines_the_crack_and_not_the_window_around_it():
    (prediction,) = padded_darkness().predict(wall(), scale=1.0)
    (crack,) = prediction.findings
    assert 75 < crack.box[1] < 95 and 110 < crack.box[1] + crack.box[3] < 135
    assert prediction.probability > 0.99


def test_between_the_bounds_a_person_decides():
    (prediction,) = model(threshold=0.5, review=(0.3, 1.1)).predict(wall(), scale=1.0)
    assert prediction.decision == "review" and prediction.findings[0].decision == "review"
    assert prediction.label == "cracked"


def test_a_given_threshold_stands_instead_of_the_models():
    loaded = model_file.TrainedModel(darkness(), dataclasses.replace(CARD, review=(0.3, 0.7)))
    strict = predictor.Model(loaded, threshold=0.9)
    assert strict.card.threshold == 0.9 and strict.card.review == (0.0, 0.0)


def test_files_and_grey_pictures_are_read(tmp_path):
    path = tmp_path / "wall.png"
    Image.fromarray(wall()).save(path)
    from_file, from_array, grey = model().predict([path, wall(), wall()[..., 0]])
    assert from_file.probability == pytest.approx(from_array.probability) and from_file.name == str(path)
    assert grey.probability == pytest.approx(from_array.probability, abs=1e-3)
    assert from_array.name == "array 1"


def test_a_grey_model_takes_coloured_pictures(tmp_path):
    recipe = networks.NETWORKS[Network.SEED]
    card = dataclasses.replace(CARD, channels=1, network="seed")
    grey_model = predictor.Model(model_file.TrainedModel(recipe.build(PX), card))
    assert 0 <= grey_model.predict(wall())[0].probability <= 1


@pytest.mark.parametrize(
    "photo", [np.zeros((3, 3, 3)), np.zeros((3, 3, 4), np.uint8), np.zeros((0, 3, 3), np.uint8), np.zeros(3, np.uint8)]
)
def test_an_array_of_another_kind_is_a_clear_error(photo):
    with pytest.raises(UserError, match=r"expected pixels uint8 \[H, W, 3\] or \[H, W\], 0..255, received"):
        model().predict([photo])


def test_a_file_that_is_no_photograph_is_a_clear_error(tmp_path):
    (tmp_path / "a.jpg").write_text("no")
    with pytest.raises(UserError, match="expected a photograph, received .*a.jpg': not an image"):
        model().predict(str(tmp_path / "a.jpg"))


def test_the_package_offers_it_with_hints(tmp_path):
    model_file.save(str(tmp_path / "model.h5"), darkness(), CARD)
    loaded = crackflow.load_model(tmp_path / "model.h5")
    assert isinstance(loaded, crackflow.Model)
    assert isinstance(loaded.predict(wall())[0], crackflow.Prediction)
    hints = inspect.signature(crackflow.Model.predict).parameters
    assert all(
        parameter.annotation is not inspect.Parameter.empty for name, parameter in hints.items() if name != "self"
    )


def test_the_package_has_nothing_else():
    with pytest.raises(AttributeError, match="module 'crackflow' has no attribute 'nonsense'"):
        _ = crackflow.nonsense


def test_the_larger_a_photograph_the_more_is_taken_off_all_its_places():
    spot = wall(PX, PX, None)
    spot[20:26, 20:26] = 60
    large = wall(4 * PX, 4 * PX, None)
    large[20:26, 20:26] = 60
    plain, card = model(), {"photo_shift": 0.5, "photo_level": -1.0, "photo_growth": 1.5, "photo_most": 9.0}
    for picture, windows, shift in ((spot, 1, 0.5), (large, 16, -1 + 1.5 * np.log(16))):
        (before,), (after,) = plain.predict(picture, scale=1.0), model(**card).predict(picture, scale=1.0)
        assert after.shift == pytest.approx(shift) and before.shift == 0
        assert special.logit(after.probability) == pytest.approx(special.logit(before.probability) - shift, abs=1e-3)
        assert after.probability == after.heat.max() and after.heat.shape == before.heat.shape
        assert model(**card)._num_windows(picture.shape[:2]) == windows


def test_decision_label_and_findings_follow_from_what_is_left():
    picture = wall(crack=((0, 90), (20, 92)))
    (prediction,) = model().predict(picture)
    assert prediction.decision == "cracked" and prediction.findings
    for shift in (0.0, 3.0, 8.0, 30.0):
        (prediction,) = model(photo_shift=shift, review=(0.3, 0.7)).predict(picture)
        assert bool(prediction.findings) == (prediction.decision != "clean")
        assert max([0.0, *(finding.probability for finding in prediction.findings)]) in (0.0, prediction.probability)
        assert (prediction.label == "cracked") == (prediction.probability >= 0.5)
    assert prediction.decision == "clean"


def test_a_given_threshold_is_compared_with_what_is_left():
    card = dataclasses.replace(CARD, photo_shift=14.0)
    (own,) = predictor.Model(model_file.TrainedModel(darkness(), card)).predict(wall())
    for threshold, decision in ((own.probability - 0.001, "cracked"), (own.probability + 0.001, "clean")):
        (prediction,) = predictor.Model(model_file.TrainedModel(darkness(), card), threshold=threshold).predict(wall())
        assert prediction.decision == decision and prediction.probability == pytest.approx(own.probability, abs=1e-6)


def test_a_photograph_exposed_otherwise_is_brought_to_the_brightness_of_training():
    picture = np.clip(wall(crack=((0, 90), (20, 92))), 62, 200)
    mean = float(picture.mean())
    (usual,) = model(brightness=mean).predict(picture)
    for gain in (0.5, 0.8, 1.2):
        (prediction,) = model(brightness=mean).predict(np.uint8(picture * gain + 0.5))
        assert special.logit(prediction.probability) == pytest.approx(special.logit(usual.probability), abs=0.5)
        (left,) = model().predict(np.uint8(picture * gain + 0.5))
        assert abs(special.logit(left.probability) - special.logit(usual.probability)) > 2


@pytest.mark.parametrize("by_window", [False, True])
def test_photographs_of_one_size_are_judged_together_as_each_alone(monkeypatch, by_window):
    monkeypatch.setattr(predictor, "BATCH_PIXELS", 12 * PX**2)  # three at the finest scale
    if by_window:
        monkeypatch.setattr(sliding_window.receptive_field, "find_backbone", lambda model: None)
    looker, sizes = model(photo_shift=2.0, review=(0.2, 0.8), brightness=150.0), []
    assert looker.is_slow == by_window
    places = looker._scorer.windows.places
    monkeypatch.setattr(looker._scorer.windows, "places", lambda batch: sizes.append(len(batch)) or places(batch))
    photographs = []
    for number in range(8):
        height, width = (PX + 20, PX - 40) if number % 3 == 2 else (PX, PX)
        photographs.append(wall(height, width, ((0, 10), (width - 1, 20)) if number == 3 else None))
        photographs[-1][20:26, 10:16] = 50 + 2 * number
    decisions = looker.decide(photographs)
    assert max(sizes) == 3
    for pixels, decision in zip(photographs, decisions, strict=True):
        alone = looker.predict_array(pixels, "here")
        assert decision.probability == pytest.approx(alone.probability, abs=1e-5)
        assert (decision.decision, looker.card.shift_of(decision.windows)) == (alone.decision, alone.shift)
    assert len({round(decision.probability, 5) for decision in decisions}) > 3
