"""crackflow.evaluate as a user runs it, on a network with random weights: what is measured, not how well it does."""

import csv
import dataclasses
import json
import os
import shutil

import h5py
import numpy as np
import pytest

from crackflow import convert, evaluate
from crackflow.core.config.data import ConvertConfig
from crackflow.core.config.network import Network
from crackflow.core.config.threshold import F1
from crackflow.core.config.trained import EvalSplit, EvaluateConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset
from crackflow.evaluation import scoring, thresholds
from crackflow.model import model_file, networks, training_images
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from tests.helpers import schemas, small, support


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.h5"
    network = networks.NETWORKS[Network.CRACKFLOW_XS].build(small.IMAGE_PX)
    generator = np.random.default_rng(0)
    network.set_weights([generator.normal(0, 0.1, w.shape) if w.ndim > 1 else w for w in network.get_weights()])
    card = model_file.ModelMetadata(
        "crackflow_xs", ("Negative", "Positive"), 0.5, 3.0, small.IMAGE_PX, 3, "f" * 64, {"crackflow": "0"}, 0
    )
    model_file.save(str(path), network, card)
    return str(path)


def config(model, tmp_path, *data, **settings):
    data = data or (small.data().folder,)
    settings = {"split": EvalSplit.ALL, "resamples": 100} | settings
    return EvaluateConfig(model=model, data=data, out=str(tmp_path / "out"), **settings)


def test_one_data_set_leaves_what_is_promised(model, tmp_path):
    content = evaluate.run(config(model, tmp_path))
    out = tmp_path / "out"
    assert json.loads((out / "metrics.json").read_text()) == content and content["n"] == small.COUNT
    schemas.require_valid("metrics.json", content)
    for name in ("confusion", "roc", "precision_recall", "scores", "calibration", "coverage"):
        assert (out / f"{name}.png").stat().st_size > 1000
    with open(out / "suspects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == content["suspects"]
    for row in rows:
        assert row["label"] == row["path"].split("/")[0] and (not row["picture"] or (out / row["picture"]).exists())
    kinds = {part["kind"] for part in content["slices"]}
    assert kinds == {"brightness", "sharpness"}
    assert sum(part["n"] for part in content["slices"] if part["kind"] == "sharpness") == small.COUNT


@pytest.mark.slow
def test_a_threshold_by_rule_is_chosen_on_validation_images_and_moves_the_band(model, tmp_path):
    asked = config(model, tmp_path, threshold="recall:1", split=EvalSplit.VAL)
    content = evaluate.run(asked)
    assert content["recall"] == 1.0 and content["review"]["low"] <= content["threshold"] <= content["review"]["high"]
    dear = evaluate.run(config(model, tmp_path, threshold="cost:0.01", split=EvalSplit.VAL, overwrite=True))
    assert dear["threshold"] > content["threshold"] and dear["confusion"]["fp"] <= content["confusion"]["fp"]


def test_few_validation_images_choose_a_threshold_as_they_do_in_training(model, tmp_path):
    content = evaluate.run(config(model, tmp_path, threshold="f1", split=EvalSplit.VAL))
    loaded = model_file.load(model)
    checks = tfrecord_loader.eval_batches(
        small.data(), "val", BatchSpec(16, loaded.card.image_px, loaded.card.channels)
    )
    labels, logits = scoring.predict_logits(loaded.model, scoring.in_eight_orientations(checks))
    threshold = thresholds.choose_threshold(labels, model_file.to_probabilities(logits, loaded.card.temperature))
    few = min(np.bincount(labels)) // 8
    assert content["threshold"] == pytest.approx(thresholds.shrunk(threshold, F1, few), abs=1e-6)
    assert content["threshold"] != pytest.approx(threshold, abs=1e-6)


def test_a_rule_moves_the_band_and_leaves_as_many_to_a_person_as_before(model, tmp_path):
    wide = thresholds.abstention_band(probabilities_of(model), 0.5, 0.4)
    loaded = model_file.load(model)
    card = dataclasses.replace(loaded.card, threshold=0.5, review=wide)
    model_file.save(str(tmp_path / "wide.h5"), loaded.model, card)
    content = evaluate.run(config(str(tmp_path / "wide.h5"), tmp_path, threshold="youden", split=EvalSplit.VAL))
    assert content["review"]["share"] == pytest.approx(0.4, abs=1 / 16)


def probabilities_of(model):
    loaded = model_file.load(model)
    batches = tfrecord_loader.eval_batches(
        small.data(), "val", BatchSpec(16, loaded.card.image_px, loaded.card.channels)
    )
    _, logits = scoring.predict_logits(loaded.model, batches)
    return model_file.to_probabilities(logits, loaded.card.temperature)


def test_a_rule_that_measures_needs_both_classes_among_the_validation_images(model, tmp_path, monkeypatch):
    judge = scoring.predict_logits
    monkeypatch.setattr(scoring, "predict_logits", lambda *args: [np.zeros_like(judge(*args)[0]), *judge(*args)[1:]])
    with pytest.raises(UserError, match="--threshold=f1: expected validation images of both classes in .*, found one"):
        evaluate.run(config(model, tmp_path, threshold="f1"))


def test_an_image_that_a_joined_set_has_several_times_counts_once(model, tmp_path):
    support.converted(support.photos(tmp_path / "photos", 24, first_seed=70), tmp_path / "other", shards=1)
    joined = str(tmp_path / "both")
    convert.run(
        ConvertConfig(join=(small.data().folder, str(tmp_path / "other")), repeat=(3, 1), out=joined, workers=1)
    )
    content = evaluate.run(config(model, tmp_path, joined))
    assert (
        content["n"] == small.COUNT + 24 < sum(dataset.load(joined).count(split) for split in ("train", "val", "test"))
    )
    with open(tmp_path / "out/suspects.csv", newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert len(paths) == len(set(paths))


def trained_on(model, path, **settings):
    """The model as if it had been trained on the small dataset, in a file that says which images these were."""
    loaded, images = model_file.load(model), training_images.TrainingImages.of(small.data())
    model_file.save(str(path), loaded.model, dataclasses.replace(loaded.card, **settings), training_images=images)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("split", [EvalSplit.TRAIN, EvalSplit.VAL, EvalSplit.ALL])
def test_images_seen_in_training_are_counted_in_red_with_the_metrics_without_them(model, tmp_path, capsys, split):
    path = trained_on(model, tmp_path / "model.h5")
    content = evaluate.run(config(path, tmp_path, small.data("png", 32).folder, split=split))  # another conversion
    overlap, said = content["training_overlap"], capsys.readouterr().err
    counts = {EvalSplit.TRAIN: (64, 0), EvalSplit.VAL: (0, 16), EvalSplit.ALL: (64, 16)}[split]
    assert (overlap["trained_on"], overlap["validated_on"], overlap["n"]) == (*counts, content["n"])
    words = f"{sum(counts)} of {content['n']} images were in the model's training data ("
    html = (tmp_path / "out/report.html").read_text()
    assert f"WARNING: data-png-32 {content_split(split)}: {words}" in said
    assert 'class="warn seen"' in html and words.replace("'", "&#39;") in html
    if split is EvalSplit.ALL:
        alone = evaluate.run(config(path, tmp_path, split=EvalSplit.TEST, overwrite=True))
        assert overlap["without"]["confusion"] == alone["confusion"] and overlap["without"]["n"] == 16
    else:
        assert overlap["without"] is None and "no image is left without them" in said


def content_split(split):
    return "train+val+test" if split is EvalSplit.ALL else split.value


@pytest.mark.slow
def test_unseen_images_bring_no_warning_and_an_older_model_reports_no_overlap(model, tmp_path, capsys):
    path = trained_on(model, tmp_path / "model.h5")
    content = evaluate.run(config(path, tmp_path, split=EvalSplit.TEST))
    assert content["training_overlap"] == {"n": 16, "trained_on": 0, "validated_on": 0, "without": None}
    older = evaluate.run(config(model, tmp_path, overwrite=True))
    assert older["training_overlap"] is None
    assert (
        "training data" not in capsys.readouterr().err and "warn seen" not in (tmp_path / "out/report.html").read_text()
    )


def test_an_older_model_is_known_on_its_own_data_set_by_the_fingerprint(model, tmp_path, capsys):
    loaded = model_file.load(model)
    own = dataclasses.replace(loaded.card, fingerprint=small.data().metadata["fingerprint"])
    model_file.save(str(tmp_path / "old.h5"), loaded.model, own)
    overlap = evaluate.run(config(str(tmp_path / "old.h5"), tmp_path))["training_overlap"]
    assert (overlap["trained_on"], overlap["validated_on"], overlap["without"]["n"]) == (64, 16, 16)
    assert "80 of 96 images were in the model's training data" in capsys.readouterr().err


def test_of_a_joined_set_the_known_images_are_counted_once(model, tmp_path):
    support.converted(support.photos(tmp_path / "photos", 24, first_seed=70), tmp_path / "other", shards=1)
    joined = str(tmp_path / "both")
    convert.run(
        ConvertConfig(join=(small.data().folder, str(tmp_path / "other")), repeat=(3, 1), out=joined, workers=1)
    )
    overlap = evaluate.run(config(trained_on(model, tmp_path / "model.h5"), tmp_path, joined))["training_overlap"]
    assert (overlap["n"], overlap["trained_on"], overlap["validated_on"]) == (small.COUNT + 24, 64, 16)


def test_validation_images_that_chose_a_threshold_here_count_as_seen(model, tmp_path):
    overlap = evaluate.run(config(model, tmp_path, threshold="f1", split=EvalSplit.VAL))["training_overlap"]
    assert (overlap["trained_on"], overlap["validated_on"]) == (0, 16)


def test_a_training_run_is_never_replaced_by_an_evaluation(model, tmp_path):
    for name in ("flags.cfg", "metrics.json", "model.h5"):
        support.put(tmp_path / "out" / name, b"of a run")
    with pytest.raises(
        UserError, match="--out: expected a folder of its own, received .* holds a training run; choose"
    ):
        evaluate.run(config(model, tmp_path, overwrite=True))
    assert (tmp_path / "out/model.h5").read_bytes() == b"of a run"


@pytest.mark.slow
def test_several_data_sets_are_a_matrix(model, tmp_path, capsys):
    other = tmp_path / "other"
    support.converted(small.images(), other)
    content = evaluate.run(config(model, tmp_path, small.data().folder, str(other)))
    names = [os.path.basename(small.data().folder), "other"]
    assert list(content["datasets"]) == names
    assert content["datasets"][names[0]]["accuracy"] == content["datasets"]["other"]["accuracy"]
    for name in names:
        assert (tmp_path / "out" / name / "suspects.csv").exists()
    said = capsys.readouterr().out
    assert "Specificity" in said and "other train+val+test" in said and "!" not in said


def test_a_rule_without_validation_images_and_one_that_is_none_are_refused(model, tmp_path):
    support.converted(small.images(), tmp_path / "bare", split=(0.0, 0.0, 1.0))
    asked = config(model, tmp_path, str(tmp_path / "bare"), threshold="youden", split=EvalSplit.TEST)
    with pytest.raises(UserError, match="expected images in the split 'val', found none"):
        evaluate.run(asked)
    with pytest.raises(
        UserError, match="--threshold: expected f1, youden, recall:R, cost:C or bayes:C.*received 'recall:2'"
    ):
        config(model, tmp_path, threshold="recall:2")


@pytest.mark.parametrize("name", ["my_plot.png", "annotated/wall7.png", "errors/mine.png"])
def test_a_picture_of_the_users_among_the_results_is_never_removed(model, tmp_path, name):
    support.put(tmp_path / "out/metrics.json", b"{}")
    support.put(tmp_path / "out" / name, b"mine")
    with pytest.raises(UserError, match=f"holds '{name}', which this command did not write"):
        evaluate.run(config(model, tmp_path, overwrite=True))
    assert (tmp_path / "out" / name).read_bytes() == b"mine"


def test_two_data_sets_of_one_name_are_refused(model, tmp_path):
    with pytest.raises(UserError, match="--data: expected folders of different names, received two called"):
        evaluate.run(config(model, tmp_path, small.data().folder, small.data().folder))


def test_a_card_without_a_review_band_leaves_nothing_to_a_person(model, tmp_path):
    with h5py.File(model, "r") as file:
        facts = json.loads(file.attrs["crackflow"])
    path = tmp_path / "old.h5"
    shutil.copy(model, path)
    with h5py.File(path, "r+") as file:
        older_facts = {name: value for name, value in facts.items() if name not in ("review", "threshold_rule")}
        file.attrs["crackflow"] = np.bytes_(json.dumps(older_facts).encode())
    content = evaluate.run(config(str(path), tmp_path))
    assert content["review"]["count"] == 0
