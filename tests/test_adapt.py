"""crackflow.adapt as a user runs it: labelled windows in, a model with an honest estimate out."""

import contextlib
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from crackflow import adapt
from crackflow.core import flags
from crackflow.core.config.adapt import AdaptConfig, FineTuning
from crackflow.core.errors import UserError
from crackflow.evaluation import adaptation
from crackflow.model import model_file
from crackflow.training import fold_log
from tests.helpers import schemas, small, support

pytestmark = pytest.mark.slow

LEARNS = FineTuning(steps=32, batch_size=8, learning_rate=0.003)
SHORT = FineTuning(steps=4, batch_size=4, learning_rate=0.003)  # where it doesn't matter what is learnt


def config(images, out, fine_tuning=SHORT, **settings):
    return AdaptConfig(images=str(images), out=str(out), fine_tuning=fine_tuning, workers=1, folds=2, **settings)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """14 + 14 pictures that the model calls wrongly or not at all: their classes are the colour of a frame."""
    root = tmp_path_factory.mktemp("windows")
    for number in range(28):
        values = support.picture(number, 128, 128)
        if number % 2:
            values = values // 4
        support.put(root / ("clean", "cracked")[number % 2] / f"{number:02d}.png", support.encoded(values, "PNG"))
    return root


@pytest.fixture(scope="module")
def adapted(windows, tmp_path_factory):
    """(output folder, metrics, what was printed)."""
    out, printed = tmp_path_factory.mktemp("adapted") / "wall", io.StringIO()
    with contextlib.redirect_stdout(printed):
        metrics = adapt.run(config(windows, out, LEARNS))
    return out, metrics, printed.getvalue()


def test_it_leaves_a_model_a_report_and_the_figures(adapted):
    out, metrics, _ = adapted
    assert sorted(os.listdir(out)) == ["flags.cfg", "metrics.json", "model.h5", "report.html"]
    assert json.loads((out / "metrics.json").read_text()) == metrics
    schemas.require_valid("metrics.json", metrics)
    assert {"before", "after", "moved", "p_after", "changed", "forgetting", "clean", "cracked"} <= set(metrics)
    assert metrics["clean"] == metrics["cracked"] == 14


def test_the_model_says_what_it_was_and_which_images_it_has_seen(adapted):
    out, metrics, _ = adapted
    loaded, parent = model_file.load(str(out)), model_file.load("")
    assert loaded.card.parent["sha256"] == parent.sha256
    assert loaded.card.parent["adaptation"] | {"schema_version": 1} == metrics
    assert loaded.card.fingerprint != parent.card.fingerprint
    assert parent.training_images is None and len(loaded.training_images.trained) == 28


def test_what_large_photographs_are_lowered_by_shrinks_as_the_logits_do(adapted):
    out, _, _ = adapted
    adapted_model, parent = model_file.load(str(out)), model_file.load("")
    card = adapted_model.card
    assert card.calibrated_share == 0.5 and card.threshold == 0.5  # both classes count alike, by bayes:1
    images, _ = adaptation.remembered(card.image_px, card.channels)
    after, before = (
        loaded.model.predict(images, verbose=0) / loaded.card.temperature for loaded in (adapted_model, parent)
    )
    ratio = min(after.std() / before.std(), 1)
    for windows in (1, 30, 700):
        assert card.shift_of(windows) == pytest.approx(ratio * parent.card.shift_of(windows), rel=1e-3)
    assert card.photo_images == 0 and card.brightness == parent.card.brightness


def test_a_wall_on_which_the_model_was_blind_is_learnt(adapted, windows):
    out, metrics, _ = adapted
    assert metrics["changed"] == "weights" and metrics["after"]["value"] > metrics["before"]["value"] + 0.2
    loaded = model_file.load(str(out))
    images = [np.asarray(Image.open(path)) for path in sorted(windows.glob("*/*.png"))]
    labels = [path.parent.name == "cracked" for path in sorted(windows.glob("*/*.png"))]
    assert ((loaded.probabilities(np.stack(images)) >= loaded.card.threshold) == labels).mean() > 0.9


def test_the_estimate_is_on_the_terminal_with_its_interval(adapted):
    _, _, printed = adapted
    assert "on this place, by 14 cracked and 14 clean windows: " in printed and "95 % interval" in printed
    assert "cracked windows found: " in printed and "clean windows left alone: " in printed
    assert "on synthetic surfaces: " in printed and "model.h5" in printed


def test_labels_that_mean_nothing_leave_the_model_as_it_was(tmp_path, capsys):
    for number in range(24):
        label = ("clean", "cracked")[number // 2 % 2]
        support.put(
            tmp_path / "windows" / label / f"{number}.png", support.encoded(support.picture(number, 128, 128), "PNG")
        )
    metrics = adapt.run(config(tmp_path / "windows", tmp_path / "wall", LEARNS))
    assert metrics["changed"] == "nothing"
    assert "not better than the model as it is beyond chance" in capsys.readouterr().err
    loaded, parent = model_file.load(str(tmp_path / "wall")), model_file.load("")
    for own, before in zip(loaded.model.get_weights(), parent.model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, before)
    for name in ("threshold", "fingerprint", "brightness", "calibrated_share", "photo_most"):
        assert getattr(loaded.card, name) == getattr(parent.card, name)
    assert loaded.familiarity.limit == parent.familiarity.limit and loaded.training_images is None


def test_a_run_that_was_stopped_computes_no_fold_twice(windows, tmp_path, capsys, monkeypatch):
    out, fits = tmp_path / "wall", []
    fit = adapt.FineTuner.fit

    def stop(tuner, images, labels, seed):
        if len(fits) == 1:
            raise KeyboardInterrupt
        fits.append(seed)
        fit(tuner, images, labels, seed)

    monkeypatch.setattr(adapt.FineTuner, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        adapt.run(config(windows, out))
    assert os.listdir(out) == [fold_log.FOLDER]
    monkeypatch.setattr(adapt.FineTuner, "fit", fit)
    metrics = adapt.run(config(windows, out))
    assert "fold 1: computed before" in capsys.readouterr().out
    assert not (out / fold_log.FOLDER).exists() and metrics["clean"] == 14


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((1, 1), "expected 10 clean windows or more, received 1"),
        ((12, 4), "expected 10 cracked windows or more, received 4; label more"),
    ],
)
def test_too_few_windows_are_refused_by_number(tmp_path, counts, message):
    for label, count in zip(("clean", "cracked"), counts, strict=True):
        for number in range(count):
            seed = number + 100 * (label == "cracked")
            support.put(tmp_path / "windows" / label / f"{seed}.jpg", support.encoded(support.picture(seed)))
    with pytest.raises(UserError, match=message):
        adapt.run(config(tmp_path / "windows", tmp_path / "wall"))
    assert not (tmp_path / "wall").exists()


def test_copies_of_one_picture_are_not_many_windows(tmp_path):
    for number in range(12):
        support.put(tmp_path / "windows/clean" / f"{number}.jpg", support.encoded(support.picture(number)))
        support.put(
            tmp_path / "windows/cracked" / f"{number}.jpg", support.encoded(support.picture(99), quality=80 + number)
        )
    with pytest.raises(
        UserError, match="expected cracked windows of different pictures, received 12 that are copies of"
    ):
        adapt.run(config(tmp_path / "windows", tmp_path / "wall"))


def test_a_finished_folder_is_not_replaced_unless_asked(adapted, windows):
    out, _, _ = adapted
    before = support.tree(out)
    with pytest.raises(UserError, match="exists and is not empty"):
        adapt.run(config(windows, out))
    assert support.tree(out) == before


def test_masks_are_cut_into_windows_of_the_size_that_the_model_knows(tmp_path):
    root = tmp_path / "walls"
    (root / "images").mkdir(parents=True)
    for path in sorted((small.images() / "Positive").iterdir())[:12]:
        photo = Image.open(path).resize((128, 128))
        mask = Image.open(small.images() / "masks" / f"{path.stem}.png").resize((128, 128))
        photo.save(root / "images" / f"{path.stem}.png")
        (root / "masks").mkdir(exist_ok=True)
        mask.save(root / "masks" / f"{path.stem}.png")
    for path in sorted((small.images() / "Negative").iterdir())[:12]:
        Image.open(path).resize((128, 128)).save(root / "images" / f"{path.stem}.png")
        Image.new("L", (128, 128)).save(root / "masks" / f"{path.stem}.png")
    metrics = adapt.run(config(root, tmp_path / "out"))
    assert (metrics["clean"], metrics["cracked"]) == (12, 12)


def test_the_flags_of_a_run_give_the_same_model_again(windows, tmp_path):
    adapt.run(config(windows, tmp_path / "once"))
    adapt.run(flags.parse(AdaptConfig, [f"--flagfile={tmp_path}/once/flags.cfg", f"--out={tmp_path / 'again'}"]))
    weights = [model_file.load(str(tmp_path / name)).model.get_weights() for name in ("once", "again")]
    for once, again in zip(*weights, strict=True):
        np.testing.assert_allclose(once, again, atol=1e-3)  # threads sum in another order


def test_false_alarms_alone_teach_too_with_cracks_drawn_onto_them(tmp_path, capsys):
    for number in range(14):
        values = support.encoded(support.picture(number, 128, 128), "PNG")
        support.put(tmp_path / "windows/clean" / f"{number}.png", values)
    metrics = adapt.run(config(tmp_path / "windows", tmp_path / "wall"))
    assert (
        "no cracked windows: 64 with cracks drawn onto the clean ones stand in; which real cracks"
        in capsys.readouterr().out
    )
    assert (metrics["clean"], metrics["cracked"]) == (14, 0) and metrics["changed"] in ("weights", "nothing")


def test_windows_of_one_class_do_not_pay_with_the_other(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(adapt, "FORGOTTEN", -1.0)  # any accuracy on synthetic surfaces is too little
    for number in range(10):
        values = support.encoded(support.picture(number, 128, 128), "PNG")
        support.put(tmp_path / "windows/clean" / f"{number}.png", values)
    metrics = adapt.run(config(tmp_path / "windows", tmp_path / "wall"))
    assert metrics["changed"] == "nothing" and metrics["forgetting"]["after"] == metrics["forgetting"]["before"]
    words = "Windows of one class can't say what became of the other, so the model keeps its own weights"
    assert words in capsys.readouterr().err and 0 <= metrics["forgetting"]["refused"] <= 1
    own, before = (model_file.load(path).model.get_weights() for path in (str(tmp_path / "wall"), ""))
    for weight, expected in zip(own, before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_what_another_command_has_begun_in_the_folder_is_left_alone(windows, tmp_path):
    support.put(tmp_path / "findings/unfinished/photos.jsonl", b"{}")
    with pytest.raises(UserError, match="holds 'unfinished/photos.jsonl', which this command did not write"):
        adapt.run(config(windows, tmp_path / "findings"))
    assert (tmp_path / "findings/unfinished/photos.jsonl").read_bytes() == b"{}"


def test_a_folder_whose_name_says_nothing_is_refused(tmp_path):
    support.put(tmp_path / "windows/wall" / "1.png", support.encoded(support.picture(1), "PNG"))
    with pytest.raises(UserError, match="expected a name that says whether 'wall' .* is cracked; rename it"):
        adapt.run(config(tmp_path / "windows", tmp_path / "out"))
