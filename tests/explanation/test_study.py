"""Explanations of a model on tiles, and their scores."""

import numpy as np
import pytest

from crackflow.core.backend import keras
from crackflow.core.config.network import Network
from crackflow.core.config.trained import Method, Toward
from crackflow.data import resize
from crackflow.explanation import saliency, study
from crackflow.explanation.inputs import LabelledTile
from crackflow.model import model_file, networks

CARD = model_file.ModelMetadata("crackflow_xs", ("clean", "cracked"), 0.5, 1.0, 64, 3, "f" * 64, {}, 0)


@pytest.fixture(autouse=True)
def same_weights():
    """Makes random weights the same in every run."""
    keras.utils.set_random_seed(0)


def new_study(toward=Toward.DECIDED, sample=4, seed=0, methods=(Method.LAYER_CAM,)):
    model = networks.NETWORKS[Network.CRACKFLOW_XS].build(64)
    return study.ExplanationRun(model_file.TrainedModel(model, CARD), list(methods), toward, (), sample, seed)


def tiles(count, image_px=64, mask=None):
    generator = np.random.default_rng(0)
    for number in range(count):
        yield LabelledTile(
            str(number),
            generator.integers(0, 256, (image_px, image_px, 3), np.uint8),
            mask,
            1 if mask is not None else -1,
        )


def test_a_finding_does_not_depend_on_the_batch_it_was_in():
    run = new_study()
    explanations, other_explanations = (list(run.findings(tiles(5), size)) for size in (2, 5))
    assert [explanation.tile.name for explanation in explanations] == list("01234")
    for a, b in zip(explanations, other_explanations, strict=True):
        assert abs(a.probability - b.probability) < 1e-5
        np.testing.assert_allclose(a.maps[Method.LAYER_CAM], b.maps[Method.LAYER_CAM], rtol=1e-3, atol=1e-5)


def test_the_side_that_is_explained_is_the_one_asked_for():
    for toward in Toward:
        for explanation in new_study(toward).findings(tiles(3), 2):
            decided = explanation.probability >= 0.5
            assert explanation.toward == {Toward.DECIDED: decided, Toward.CRACKED: True, Toward.CLEAN: False}[toward]


def test_masks_are_met_at_the_size_of_the_photograph():
    mask = np.zeros((100, 100), bool)
    mask[40:60] = True
    run = new_study(Toward.CRACKED)
    run.loaded = model_file.TrainedModel(run.loaded.model, CARD.__class__(**{**CARD.__dict__, "threshold": 0.0}))
    for explanation in run.findings(tiles(3, 100, mask), 2):
        assert explanation.maps[Method.LAYER_CAM].shape == (64, 64)
    scores = run.scores()
    assert scores["with_masks"] == 3 and scores["methods"]["layer_cam"]["random_weights"].keys() >= {"energy"}
    assert (
        abs(scores["baselines"]["centre dot"]["energy"] - 0.6) < 0.15
        and scores["baselines"]["centre dot"]["exact"] == 1
    )


def test_large_photographs_are_kept_thinned(monkeypatch):
    monkeypatch.setattr(study, "MAX_PX", 100)
    mask = np.zeros((320, 320), bool)
    mask[100:200] = True
    run = new_study(Toward.CRACKED)
    (explanation,) = run.findings(tiles(1, 320, mask), 2)
    whole = next(tiles(1, 320))
    np.testing.assert_array_equal(explanation.tile.pixels, whole.pixels[::4, ::4])
    np.testing.assert_array_equal(explanation.tile.mask, mask[::4, ::4])
    np.testing.assert_array_equal(explanation.image, resize.resize_array(whole.pixels, 64))
    assert explanation.tile.pixels.base is None  # it is no view, which would keep the photograph in memory


def test_the_sample_is_drawn_from_all_findings_alike():
    drawn = np.zeros(20)
    for seed in range(300):
        sample = study._Reservoir(5, seed)
        for number in range(20):
            sample.add(number)
        assert len(set(sample.items)) == 5
        drawn[sample.items] += 1
    assert (np.abs(drawn - 75) < 4 * np.sqrt(300 * 0.25 * 0.75)).all()


def test_random_weights_are_others_and_the_same_for_one_seed():
    model = networks.NETWORKS[Network.CRACKFLOW_XS].build(64)
    first, again, second = (study.reinitialize(model, seed).get_weights()[0] for seed in (1, 1, 20261129135300))
    np.testing.assert_array_equal(first, again)
    assert (first != second).any() and (first != model.get_weights()[0]).any()


def test_a_map_is_stretched_over_its_piece():
    cells = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    np.testing.assert_array_equal(study._resize_map(cells, (8, 8)), cells)
    wide = study._resize_map(cells, (24, 40))
    np.testing.assert_allclose(wide[1::3, 2::5], cells, rtol=1e-5)  # the centres
    assert saliency.feature_maps(networks.NETWORKS[Network.CRACKFLOW_XS].build(64))
