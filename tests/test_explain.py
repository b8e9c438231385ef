"""crackflow.explain as a user runs it."""

import csv
import dataclasses
import json
import os

import numpy as np
import pytest

from crackflow import explain
from crackflow.core.config.network import Network
from crackflow.core.config.trained import ExplainConfig, Method, Toward
from crackflow.core.errors import UserError
from crackflow.model import model_file, networks
from tests.helpers import support

CARD = model_file.ModelMetadata("crackflow_xs", ("clean", "cracked"), 0.5, 1.0, 64, 3, "f" * 64, {}, 0)


def network(path):
    """A network with small random weights, saved as a model."""
    model = networks.NETWORKS[Network.CRACKFLOW_XS].build(64)
    generator = np.random.default_rng(0)
    weights = [
        0.05 * generator.normal(size=weight.shape) if weight.ndim > 1 else weight for weight in model.get_weights()
    ]
    model.set_weights(weights)
    model_file.save(str(path), model, CARD)
    return str(path)


@pytest.fixture(scope="module")
def input_dir(tmp_path_factory):
    """model.h5, and images/ and masks/ with three pictures, one of them broken."""
    root = tmp_path_factory.mktemp("explain")
    network(root / "model.h5")
    for number in range(3):
        picture = support.picture(number, 128, 64).copy()
        picture[:, 20:24] = 0
        mask = np.zeros((64, 128, 3), np.uint8)
        mask[:, 20:24] = 255
        support.put(root / "images" / f"{number}.png", support.encoded(picture, "PNG"))
        support.put(root / "masks" / f"{number}.png", support.encoded(mask, "PNG"))
    support.put(root / "images/2.png", b"broken")
    return root


def config(input_dir, tmp_path, **settings):
    settings = {"sample": 2, "batch_size": 4} | settings
    return ExplainConfig(
        model=str(input_dir / "model.h5"), images=str(input_dir / "images"), out=str(tmp_path / "why"), **settings
    )


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_everything_promised_is_in_the_folder(input_dir, tmp_path):
    methods = (Method.INTEGRATED_GRADIENTS, Method.GRAD_CAM)
    asked = config(
        input_dir, tmp_path, masks=str(input_dir / "masks"), patch_px=64, method=methods, toward=Toward.CRACKED
    )
    content = explain.run(asked)
    out = tmp_path / "why"
    rows = table(out / "explanations.csv")
    assert [row["path"] for row in rows] == [f"{n}.png#xywh={x},0,64,64" for n in (0, 1) for x in (0, 64)]
    for row in rows:
        assert (out / row["overlay"]).stat().st_size > 100
        assert row["decided"] == CARD.classes[float(row["probability"]) >= 0.5] and row["explained"] == "cracked"
    (rejected,) = table(out / "rejected.csv")
    assert rejected["path"] == "2.png" and rejected["reason"]
    assert (out / "contact_sheet.png").exists() and os.listdir(out / "filters") == ["stem_conv.png"]
    stages = {"stem_relu.png", "stage1_down_relu.png", "stage2_down_relu.png", "stage3_down_relu.png"}
    assert set(os.listdir(out / "activations")) == stages | {"stem_conv.png"}
    assert json.loads((out / "scores.json").read_text()) == content
    assert content["explained"] == 4 and content["scored"] == 2 and content["default"] == "integrated_gradients"
    for row in content["methods"].values():
        assert {"deletion", "insertion", "drop", "increase", "images_per_sec", "random_weights"} <= set(row)
    for row in [*content["methods"].values(), *content["baselines"].values()]:
        assert ("pointing" in row) == (content["with_masks"] > 0)


def test_a_decision_for_clean_is_explained_as_clean(input_dir, tmp_path):
    explain.run(config(input_dir, tmp_path, toward=Toward.DECIDED))
    for row in table(tmp_path / "why/explanations.csv"):
        assert row["explained"] == row["decided"]


def test_chosen_layers_are_shown_and_explained_from(input_dir, tmp_path):
    asked = config(
        input_dir, tmp_path, layers=("stage2_down_conv", "stage1_down_relu"), method=(Method.GRAD_CAM,), sample=0
    )
    content = explain.run(asked)
    out = tmp_path / "why"
    assert os.listdir(out / "filters") == ["stage2_down_conv.png"]
    assert set(os.listdir(out / "activations")) == {"stage2_down_conv.png", "stage1_down_relu.png"}
    assert content["layers"] == {"grad_cam": ["stage1_down_relu"]} and content["scored"] == 0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scores(input_dir, tmp_path):
    results = [explain.run(config(input_dir, tmp_path / name, sample=1)) for name in "ab"]
    for content in results:
        content["methods"]["integrated_gradients"].pop("images_per_sec")
    assert results[0] == results[1]


def test_a_mistake_in_the_flags_is_one_line(input_dir, tmp_path):
    done = support.called(
        "explain",
        f"--model={input_dir}/model.h5",
        f"--images={input_dir}/images",
        f"--out={tmp_path}/why",
        "--layers=nose",
    )
    support.expect_one_line(done, 2, "--layers: expected layers of crackflow_xs", "stage3_down_relu", "received nose")
    assert not (tmp_path / "why").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": ()}, "--method: expected one method or more, each once"),
        ({"method": (Method.GRAD_CAM,) * 2}, "--method: expected one method or more, each once"),
        ({"patch_px": 4}, "--patch_px: expected 0, or 8 and more, received 4"),
        ({"min_crack_fraction": 0.0}, "--min_crack_fraction: expected a fraction"),
        ({"sample": -1}, "--sample"),
        ({"batch_size": 0}, "--batch_size"),
    ],
)
def test_settings_that_make_no_sense_are_refused(input_dir, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        config(input_dir, tmp_path, **settings)


def test_photographs_of_which_none_can_be_used_are_an_error_and_leave_nothing(input_dir, tmp_path):
    support.put(tmp_path / "bad/one.png", b"broken")
    asked = ExplainConfig(model=str(input_dir / "model.h5"), images=str(tmp_path / "bad"), out=str(tmp_path / "why"))
    with pytest.raises(
        UserError, match="--images: expected photographs, none of 1 files can be used; the first: one.png"
    ):
        explain.run(asked)
    assert not (tmp_path / "why").exists()
    speck = np.zeros((64, 64, 3), np.uint8)
    speck[3, 3] = 255
    support.put(tmp_path / "bad/one.png", support.encoded(support.picture(1), "PNG"))
    support.put(tmp_path / "masks/one.png", support.encoded(speck, "PNG"))
    asked = ExplainConfig(
        model=asked.model, images=asked.images, masks=str(tmp_path / "masks"), out=str(tmp_path / "why")
    )
    with pytest.raises(
        UserError, match="the first: one.png: neither clean nor cracked: 0.02% of it is crack, less than"
    ):
        explain.run(asked)
    with pytest.raises(UserError, match="the first: no part of it is clearly cracked or clean"):
        explain.run(dataclasses.replace(asked, patch_px=64))


def test_results_that_stand_there_are_replaced_only_when_asked(input_dir, tmp_path):
    explain.run(config(input_dir, tmp_path, sample=0))
    before = support.tree(tmp_path / "why")
    with pytest.raises(UserError, match="--overwrite"):
        explain.run(config(input_dir, tmp_path, sample=0))
    assert support.tree(tmp_path / "why") == before
    explain.run(config(input_dir, tmp_path, sample=0, overwrite=True))
