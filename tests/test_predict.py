"""crackflow.predict as a user runs it."""

import collections
import dataclasses
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import card_scenes
from crackflow import predict
from crackflow.conversion import layouts
from crackflow.core import csv_files
from crackflow.core.backend import keras
from crackflow.core.config.data import Layout
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import ConfigError, ImageError, RetryableError, UserError
from crackflow.data import reviews
from crackflow.inference import photo_files, suggestions
from crackflow.model import model_file
from tests.helpers import review_files, schemas, support
from tests.helpers.camera_photos import camera_photo
from tests.helpers.gps_photos import located
from tests.helpers.jpegs import jpeg
from tests.helpers.walls import CARD, darkness, wall


@pytest.fixture(scope="module")
def input_dir(tmp_path_factory):
    """model.h5, and site/ with a cracked and a clean wall, one with a GPS position, and a broken file."""
    root = tmp_path_factory.mktemp("predict")
    model_file.save(str(root / "model.h5"), darkness(), CARD)
    support.put(root / "site/cracked.jpg", jpeg(wall()))
    support.put(root / "site/sub/clean.png", support.encoded(wall(crack=None), "PNG"))
    support.put(root / "site/here.jpg", located((46.0, 30.0, 0.0), (7.0, 0.0, 0.0), pixels=wall(crack=None)))
    support.put(root / "site/broken.jpg", b"\xff\xd8\xff broken")
    return root


def run(input_dir, out, **settings):
    settings = {"photos": str(input_dir / "site"), "model": str(input_dir / "model.h5")} | settings
    return predict.run(PredictConfig(out=str(out), **settings))


@pytest.fixture(scope="module")
def done(input_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "findings"
    return out, run(input_dir, out, mm_per_px=0.5)


def test_the_table_has_a_row_for_each_photograph(done):
    rows = csv_files.read(str(done[0] / "predictions.csv"))
    assert list(rows[0]) == ["path", "label", "probability", "decision"]
    assert {row["path"] for row in rows} == {"cracked.jpg", "here.jpg", os.path.join("sub", "clean.png")}
    decisions = {row["path"]: row["decision"] for row in rows}
    assert decisions["cracked.jpg"] == "cracked" and decisions[os.path.join("sub", "clean.png")] == "clean"
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_what_is_found_is_recorded_with_all_that_led_to_it(done, input_dir):
    out, content = done
    assert json.loads((out / "findings.json").read_text()) == content
    assert content["model"]["sha256"] == support.sha256(input_dir / "model.h5")
    assert content["threshold"] == 0.5 and content["crackflow"]
    photo = next(entry for entry in content["photos"] if entry["path"] == "cracked.jpg")
    assert photo["sha256"] == support.sha256(input_dir / "site/cracked.jpg")
    (finding,) = photo["findings"]
    x, y, width, height = finding["box"]
    assert all(x <= px <= x + width and y <= py <= y + height for polygon in finding["polygons"] for px, py in polygon)
    assert finding["length_mm_estimate"] == pytest.approx(finding["length_px_estimate"] / 2, abs=0.1)
    assert finding["decision"] == "cracked" and 0.5 <= finding["probability"] <= 1


def test_the_findings_are_as_their_schema_says(done):
    schemas.require_valid("findings.json", done[0] / "findings.json")
    assert {len(photo["findings"]) for photo in done[1]["photos"]} == {0, 1}


def test_places_become_points_on_a_map(done):
    geojson = json.loads((done[0] / "findings.geojson").read_text())
    (point,) = geojson["features"]
    assert geojson["type"] == "FeatureCollection" and point["geometry"]["type"] == "Point"
    assert point["geometry"]["coordinates"] == [7.0, 46.5]
    assert point["properties"]["path"] == "here.jpg"


def test_without_places_there_is_no_map(input_dir, tmp_path):
    run(input_dir, tmp_path / "out", photos=str(input_dir / "site/cracked.jpg"))
    assert not (tmp_path / "out/findings.geojson").exists()


def test_what_cannot_be_read_is_listed(done):
    (row,) = csv_files.read(str(done[0] / "rejected.csv"))
    assert row["path"] == "broken.jpg" and row["reason"]


def test_overlays_mark_the_crack(done):
    out, content = done
    for photo in content["photos"]:
        picture = np.asarray(Image.open(out / photo["overlay"])).astype(int)
        red = (picture[..., 0] - picture[..., 1:].max(-1) > 60).sum()
        assert picture.shape[1] == photo["width"] and (red > 100) == (photo["path"] == "cracked.jpg")


def test_the_page_holds_photographs_outlines_and_numbers(done):
    text = (done[0] / "report.html").read_text()
    assert text.count("<svg") == 3 and text.count("<polygon") == 1 and "cracked.jpg" in text
    assert "length in mm, estimated" in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


def test_the_photographs_are_not_changed(input_dir, tmp_path):
    before = support.tree(input_dir / "site")
    run(input_dir, tmp_path / "out")
    assert support.tree(input_dir / "site") == before


def test_a_given_threshold_decides(input_dir, tmp_path):
    content = run(input_dir, tmp_path / "out", photos=str(input_dir / "site/cracked.jpg"), threshold=0.9999999)
    assert content["threshold"] == 0.9999999
    assert [photo["decision"] for photo in content["photos"]] in (["clean"], ["cracked"])


def test_only_so_many_photographs_are_on_the_page(input_dir, tmp_path):
    run(input_dir, tmp_path / "out", page_photos=1)
    text = (tmp_path / "out/report.html").read_text()
    assert text.count("<svg") == 1 and "The 1 most probable are shown" in text


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"photos": ""}, "--photos: expected a path"),
        ({"out": ""}, "--out: expected a path"),
        ({"scale": 9.0}, "--scale: expected 0, or 0.015625 to 8"),
        ({"mm_per_px": -1.0}, "--mm_per_px: expected 0 or a number above 0"),
        ({"mm_per_px": float("inf")}, "--mm_per_px: expected 0 or a number above 0"),
        ({"threshold": 1.0}, "--threshold: expected a fraction"),
        ({"max_megapixels": 0.0}, "--max_megapixels: expected a number above 0"),
        ({"page_photos": -1}, "--page_photos: expected 0 or more"),
        ({"expected_cracked": 1.0}, "--expected_cracked: expected a fraction from 0 up to, not including, 1, received"),
        (
            {"expected_cracked": -0.1},
            "--expected_cracked: expected a fraction from 0 up to, not including, 1, received",
        ),
        ({"expected_cracked": float("nan")}, "--expected_cracked: expected a fraction from 0 up to, not including, 1"),
        ({"marker_mm": -1.0}, "--marker_mm: expected 0 or a number above 0, received -1.0"),
        ({"distance_m": float("nan")}, "--distance_m: expected 0 or a number above 0, received nan"),
        ({"suggest": -1}, "--suggest: expected 0 or more, received -1"),
        ({"reviews": ("a.json", "")}, "--reviews: expected files, separated by commas"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        PredictConfig(**({"photos": "a", "out": "b"} | settings))


@pytest.fixture(scope="module")
def visit(input_dir, tmp_path_factory):
    """A folder of twelve walls, two of them cracked."""
    folder = tmp_path_factory.mktemp("visit")
    for number in range(12):
        crack = ((0, 40 + 10 * number), (259, 60 + 10 * number)) if number in (3, 7) else None
        support.put(folder / f"{number:02d}.jpg", jpeg(wall(crack=crack)))
    return folder


def test_a_share_that_is_expected_adds_probabilities_and_changes_none(input_dir, visit, tmp_path):
    plain = run(input_dir, tmp_path / "plain", photos=str(visit))
    at_two_percent = run(input_dir, tmp_path / "given", photos=str(visit), expected_cracked=0.02)
    added = ("probability_at_prior", "rank")
    for before, after in zip(plain["photos"], at_two_percent["photos"], strict=True):
        assert {k: v for k, v in before.items() if k not in (*added, "findings")} == {
            k: v for k, v in after.items() if k not in (*added, "findings")
        }
        for entry in (after, *after["findings"]):
            odds = entry["probability"] / (1 - entry["probability"]) * 0.02 / 0.98 if entry["probability"] < 1 else None
            expected = 1.0 if odds is None else odds / (1 + odds)
            assert entry["probability_at_prior"] == pytest.approx(expected, rel=1e-5)
    for name in ("predictions.csv", "findings.geojson", "rejected.csv"):
        paths = tmp_path / "plain" / name, tmp_path / "given" / name
        assert paths[0].exists() == paths[1].exists()
        assert not paths[0].exists() or paths[0].read_bytes() == paths[1].read_bytes()
    assert (
        at_two_percent["prior"]["used"] == "expected"
        and at_two_percent["prior"]["expected"] == at_two_percent["prior"]["share"] == 0.02
    )
    assert at_two_percent["prior"]["trained"] == 0.5


def test_the_share_of_a_visit_is_estimated_with_its_doubt(input_dir, visit, tmp_path):
    content = run(input_dir, tmp_path / "out", photos=str(visit))
    prior, (low, high) = content["prior"], content["prior"]["estimated_ci95"]
    assert prior["used"] == "estimated" and prior["photographs"] == 12 and prior["expected"] is None
    assert low < prior["estimated"] < high and prior["estimated"] == pytest.approx(2 / 12, abs=0.02)
    assert json.loads((tmp_path / "out/findings.json").read_text())["prior"] == prior


def test_fewer_than_ten_photographs_show_no_share_of_their_own(done):
    _, content = done
    assert content["prior"] == {
        "trained": 0.5,
        "expected": None,
        "estimated": None,
        "estimated_ci95": None,
        "photographs": 3,
        "used": "trained",
        "share": 0.5,
    }
    assert all(photo["probability_at_prior"] == photo["probability"] for photo in content["photos"])
    assert "nothing but the share in the model's training, 50 %" in content["summary"]


def test_the_share_of_training_is_that_of_the_images_the_threshold_was_chosen_on(input_dir, tmp_path):
    card = dataclasses.replace(CARD, validation={"clean": 90, "cracked": 10, "p_value": 0.001})
    model_file.save(str(tmp_path / "model.h5"), darkness(), card)
    content = run(input_dir, tmp_path / "out", model=str(tmp_path / "model.h5"))
    assert content["prior"]["trained"] == 0.1


def test_it_says_which_photographs_hold_most_of_the_cracks(input_dir, visit, tmp_path, capsys):
    content = run(input_dir, tmp_path / "out", photos=str(visit), expected_cracked=0.1)
    ranked = sorted(content["photos"], key=lambda photo: photo["rank"])
    assert [photo["rank"] for photo in ranked] == list(range(1, 13))
    assert {photo["path"] for photo in ranked[:2]} == {"03.jpg", "07.jpg"}
    assert content["work_list"] == {
        "photographs": 2, "of": 12, "holds": 0.95, "expected_cracked": pytest.approx(2, abs=0.1)
    }  # fmt: skip
    assert content["summary"].startswith("Look at 2 of 12 photographs, by rank: they hold 95 % of all cracks expected")
    assert content["summary"] in capsys.readouterr().out.splitlines()


def suggested(out):
    """The table, and the windows by name."""
    rows = csv_files.read(str(out / "suggested/suggested.csv"))
    return rows, {path.name: np.asarray(Image.open(path)) for path in (out / "suggested/unlabelled").iterdir()}


def test_windows_to_label_are_the_photographs_own_pixels(input_dir, visit, tmp_path, capsys):
    out = tmp_path / "out"
    content = run(input_dir, out, photos=str(visit), suggest=8)
    rows, windows = suggested(out)
    assert list(rows[0]) == ["file", "path", "sha256", "x", "y", "width", "height", "probability", "reason"]
    assert len(rows) == len(windows) == 8
    sha256 = {photo["path"]: photo["sha256"] for photo in content["photos"]}
    for row in rows:
        x, y, width, height = (int(row[name]) for name in ("x", "y", "width", "height"))
        pixels = np.asarray(Image.open(visit / row["path"]))
        np.testing.assert_array_equal(
            windows[row["file"].removeprefix("unlabelled/")], pixels[y : y + height, x : x + width]
        )
        assert (width, height) == (64, 64) and row["sha256"] == sha256[row["path"]] and row["reason"]
        assert 0 <= float(row["probability"]) <= 1
    assert max(collections.Counter(row["path"] for row in rows).values()) <= 2
    assert {"03.jpg", "07.jpg"} & {row["path"] for row in rows if row["reason"].startswith("among the most probable")}
    assert sorted(os.listdir(out / "suggested")) == ["clean", "cracked", "suggested.csv", "unlabelled"]
    assert not os.listdir(out / "suggested/cracked") and not os.listdir(out / "suggested/clean")
    said = f"8 windows to label in {out / 'suggested/unlabelled'}: move each to cracked or clean beside that folder"
    assert said in capsys.readouterr().out.splitlines()


def test_windows_are_as_large_as_training_saw_them(input_dir, tmp_path):
    """Photographs twice as fine as the network's windows: those of the photograph have twice the side."""
    model_file.save(str(tmp_path / "model.h5"), darkness(), dataclasses.replace(CARD, source_px=128))
    support.put(tmp_path / "site/wall.png", support.encoded(wall(400, 520, ((0, 180), (519, 240))), "PNG"))
    run(input_dir, tmp_path / "out", photos=str(tmp_path / "site"), model=str(tmp_path / "model.h5"), suggest=3)
    _, windows = suggested(tmp_path / "out")
    assert windows and {pixels.shape for pixels in windows.values()} == {(128, 128, 3)}


def test_one_photograph_gives_windows_that_do_not_overlap(input_dir, tmp_path):
    support.put(tmp_path / "site/wall.png", support.encoded(wall(500, 700), "PNG"))
    run(input_dir, tmp_path / "out", photos=str(tmp_path / "site"), suggest=10)
    rows, windows = suggested(tmp_path / "out")
    assert 5 <= len(rows) == len(windows) <= 10
    boxes = np.array([[int(row[name]) for name in ("x", "y", "width", "height")] for row in rows])
    for index, box in enumerate(boxes):
        assert suggestions.overlaps(np.delete(boxes, index, 0), box).max() <= suggestions.MAX_IOU


def test_a_grey_model_gets_grey_windows(input_dir, tmp_path):
    image = keras.Input((64, 64, 1), dtype="uint8")
    x = keras.layers.Conv2D(2, 3, 4, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    logit = keras.layers.Dense(1)(keras.layers.GlobalMaxPooling2D()(x))
    model = keras.Model(image, keras.layers.Reshape(())(logit))
    model_file.save(str(tmp_path / "model.h5"), model, dataclasses.replace(CARD, channels=1))
    run(input_dir, tmp_path / "out", model=str(tmp_path / "model.h5"), suggest=2)
    _, windows = suggested(tmp_path / "out")
    assert {pixels.ndim for pixels in windows.values()} == {2}


def test_convert_knows_whose_windows_they_are_and_passes_over_those_without_a_label(input_dir, visit, tmp_path):
    run(input_dir, tmp_path / "out", photos=str(visit), suggest=20)
    folder = tmp_path / "out/suggested"
    names = sorted(os.listdir(folder / "unlabelled"))
    for number, name in enumerate(names[:-2]):
        os.rename(folder / "unlabelled" / name, folder / ("clean", "cracked")[number % 2] / name)
    scanned = layouts.scan_layout(str(folder), Layout.AUTO, "")
    assert scanned.classes == ("clean", "cracked") and len(scanned.files) == len(names) - 2
    sources = collections.defaultdict(set)
    for file in scanned.files:
        sources[os.path.basename(file.path).split("_")[0]].add(file.source)
    shared = [own for number, own in sources.items() if sum(name.startswith(number) for name in names[:-2]) > 1]
    assert shared and all(len(own) == 1 for own in shared)


def test_names_of_windows_are_safe_and_tell_photographs_of_one_name_apart(input_dir, tmp_path):
    for name in ("a/Wand süd (1).png", "b/Wand süd (1).png", "c/" + 80 * "x" + ".png", "d/=1+1.png", "e/(((.png"):
        support.put(tmp_path / "site" / name, support.encoded(wall(), "PNG"))
    run(input_dir, tmp_path / "out", photos=str(tmp_path / "site"), suggest=40)
    rows, windows = suggested(tmp_path / "out")
    assert len(windows) == len(rows) and len({row["path"] for row in rows}) == 5
    assert all(re.fullmatch(r"\d{6}_[A-Za-z0-9_.-]{1,60}_x\d+_y\d+\.png", name) for name in windows)
    assert any(name.startswith("000001_Wand_s_d_1_x") for name in windows)


def test_overwrite_replaces_suggestions_but_never_what_a_person_sorted(input_dir, visit, tmp_path):
    out = tmp_path / "out"
    run(input_dir, out, photos=str(visit), suggest=6)
    run(input_dir, out, photos=str(visit), suggest=4, overwrite=True)
    rows, windows = suggested(out)
    assert len(rows) == len(windows) == 4
    name = next(iter(windows))
    os.rename(out / "suggested/unlabelled" / name, out / "suggested/cracked" / name)
    labelled = os.path.join("suggested", "cracked", name)
    with pytest.raises(UserError, match=re.escape(f"holds {labelled!r}, which this command did not write; move it")):
        run(input_dir, out, photos=str(visit), overwrite=True)
    assert (out / labelled).exists()
    os.remove(out / labelled)
    run(input_dir, out, photos=str(visit), overwrite=True)
    assert not (out / "suggested").exists()


def test_a_photograph_that_changes_before_its_windows_are_cut_is_left_out(
    input_dir, visit, tmp_path, monkeypatch, capsys
):
    own, counts = photo_files.read, collections.Counter()

    def read(file, *settings):
        counts[os.path.basename(file)] += 1
        photo = own(file, *settings)
        if counts["03.jpg"] == 2 and file.endswith("03.jpg"):
            return photo._replace(sha256="0" * 64)
        if counts["07.jpg"] == 2 and file.endswith("07.jpg"):
            raise ImageError("unreadable: No such file")
        return photo

    monkeypatch.setattr(photo_files, "read", read)
    run(input_dir, tmp_path / "out", photos=str(visit), suggest=24)
    rows, windows = suggested(tmp_path / "out")
    assert rows and len(rows) == len(windows)
    assert not {"03.jpg", "07.jpg"} & {row["path"] for row in rows}
    captured = capsys.readouterr()
    assert "warning: 03.jpg: no windows are suggested: it has changed since it was scored\n" in captured.err
    assert "warning: 07.jpg: no windows are suggested: unreadable: No such file\n" in captured.err
    assert f"{len(rows)} windows to label in " in captured.out


def test_nothing_usable_is_a_clear_error_and_leaves_nothing(input_dir, tmp_path):
    with pytest.raises(UserError, match="--photos: expected photographs, none of 1 files can be used; the first"):
        run(input_dir, tmp_path / "out", photos=str(input_dir / "site/broken.jpg"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_shipped_model_works_without_any_other_flag(input_dir, tmp_path, monkeypatch):
    done = support.command("predict", f"--photos={input_dir / 'site/cracked.jpg'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = csv_files.read(str(tmp_path / "findings/predictions.csv"))
    assert rows[0]["decision"] in ("cracked", "clean", "review")
    (photo,) = json.loads((tmp_path / "findings/findings.json").read_text())["photos"]
    count = len(photo["findings"])
    assert f", {count} finding{'s' * (count != 1)}\n" in done.stdout
    monkeypatch.chdir(tmp_path)
    again = support.called("predict", f"--photos={input_dir / 'site/cracked.jpg'}")
    support.expect_one_line(again, 2, "exists and is not empty")


def test_a_mistake_is_one_line(tmp_path):
    done = support.called("predict", f"--photos={tmp_path}/none.jpg", f"--out={tmp_path}/out")
    support.expect_one_line(done, 2, "--photos: expected a photograph", "none.jpg")


def test_the_page_recounts_for_another_threshold_what_the_command_decides_with_it(input_dir, tmp_path):
    """Its slider compares the probabilities that the tables hold, lowered for the size of the photograph."""
    card = dataclasses.replace(
        CARD, photo_shift=6.0, photo_level=3.0, photo_growth=2.0, photo_most=20.0, review=(0.4, 0.6)
    )
    model_file.save(str(tmp_path / "model.h5"), darkness(), card)
    content = run(input_dir, tmp_path / "own", model=str(tmp_path / "model.h5"))
    page = (tmp_path / "own/report.html").read_text()
    page_rows = re.findall(r'data-probability="([^"]+)" data-decision="([^"]+)"', page)
    table = csv_files.read(str(tmp_path / "own/predictions.csv"))
    assert sorted((f"{float(p):.6f}", decision) for p, decision in page_rows) == sorted(
        (row["probability"], row["decision"]) for row in table
    )
    assert all(photo["logits_taken_off"] > 6 for photo in content["photos"])
    assert content["photo_threshold"]["shift"] == 6.0 and content["photo_threshold"]["growth"] == 2.0
    for photo in content["photos"]:
        assert photo["decision"] != "clean" or not photo["findings"]
    for threshold in (0.001, 0.9):
        again = run(input_dir, tmp_path / f"at{threshold}", model=str(tmp_path / "model.h5"), threshold=threshold)
        decided = sum(photo["decision"] == "cracked" for photo in again["photos"])
        assert decided == sum(float(p) >= threshold for p, _ in page_rows)


@pytest.fixture(scope="module")
def review(done, input_dir):
    """Of the run `done`: its one finding is a crack, another is marked, and the clean wall was looked through."""
    photos = {photo["path"]: photo for photo in done[1]["photos"]}

    def reviewed(path, *verdicts, **settings):
        photo = photos[path]
        size = {"width": photo["width"], "height": photo["height"], "sha256": photo["sha256"]}
        return review_files.photo_review(*verdicts, path=path, **size, **settings)

    (finding,) = photos["cracked.jpg"]["findings"]
    return review_files.reviews_of(
        reviewed(
            "cracked.jpg",
            review_files.verdict(tuple(finding["box"])),
            review_files.verdict((5.0, 5.0, 30.0, 20.0), source="drawn"),
            looked_through=True,
        ),
        reviewed(os.path.join("sub", "clean.png"), looked_through=True),
    )


def test_reviews_are_counted_in_the_findings_and_go_on_in_the_page(input_dir, tmp_path, review, capsys):
    reviews.write(tmp_path / "reviews.json", review)
    content = run(input_dir, tmp_path / "out", mm_per_px=0.5, reviews=(str(tmp_path / "reviews.json"),))
    printed = capsys.readouterr()
    assert json.loads((tmp_path / "out/findings.json").read_text()) == content
    schemas.require_valid("findings.json", content)
    summary = content["reviews"]
    assert summary["findings"] == {"crack": 1, "not_a_crack": 0, "unsure": 0, "not_judged": 0}
    assert summary["precision"] == 1 and summary["precision_ci95"][0] == pytest.approx(0.2065, abs=1e-3)
    assert (summary["cracks_looked_through"], summary["missed_cracks"], summary["recall"]) == (2, 1, 0.5)
    assert (summary["photographs"], summary["photographs_looked_through"], summary["photographs_absent"]) == (2, 2, 0)
    assert summary["files"] == [str(tmp_path / "reviews.json")] and summary["reviewers"] == ["Ann"]
    assert (
        "reviews: 1 of 1 findings judged in 2 photographs; precision 100.0 % [20.7, 100.0]; 1 of 2 cracks missed in "
        "the 2 photographs looked through\n"
    ) in printed.out
    assert "--reviews" not in printed.err
    page = (tmp_path / "out/report.html").read_text()
    (embedded,) = re.findall('<script type="application/json" id="earlier">(.*?)</script>', page)
    assert json.loads(embedded) == reviews.as_dict(review)


def test_without_reviews_nothing_is_said_of_them(done):
    assert "reviews" not in done[1] and 'id="earlier"' not in (done[0] / "report.html").read_text()


def test_reviewed_photographs_that_are_absent_are_counted_in_a_warning(input_dir, tmp_path, review, capsys):
    reviews.write(tmp_path / "reviews.json", review)
    content = run(
        input_dir,
        tmp_path / "out",
        photos=str(input_dir / "site/sub"),
        reviews=(str(tmp_path / "reviews.json"),),
    )
    assert (
        "warning: --reviews: 1 of the reviewed photographs are not among those that were analysed; the first: "
        "'cracked.jpg'\n"
    ) in capsys.readouterr().err
    assert content["reviews"]["photographs"] == 1  # clean.png, whose name was another: its SHA-256 is the same


def test_another_photograph_with_the_name_of_a_reviewed_one_is_refused(input_dir, tmp_path, review):
    first = dataclasses.replace(review.photographs[0], sha256="0" * 64)
    reviews.write(tmp_path / "reviews.json", dataclasses.replace(review, photographs=(first,)))
    with pytest.raises(UserError, match="--reviews: expected the photograph 'cracked.jpg' that was reviewed"):
        run(input_dir, tmp_path / "out", reviews=(str(tmp_path / "reviews.json"),))
    assert os.listdir(tmp_path) == ["reviews.json"]


def test_a_review_that_cannot_be_read_is_one_line(input_dir, tmp_path):
    (tmp_path / "reviews.json").write_text("{}")
    done = support.called(
        "predict", f"--photos={input_dir / 'site'}", f"--out={tmp_path}/out", f"--reviews={tmp_path}/reviews.json"
    )
    support.expect_one_line(done, 2, "expected the content to be an object with the keys schema_version")


def test_a_run_resumes_with_the_same_reviews_alone(input_dir, tmp_path, review, monkeypatch):
    reviews.write(tmp_path / "reviews.json", review)
    reviews.write(tmp_path / "again.json", review)
    reviews.write(tmp_path / "other.json", dataclasses.replace(review, photographs=review.photographs[:1]))
    own, seen = photo_files.read, []

    def read(file, *settings):
        if seen.count("here.jpg"):
            raise KeyboardInterrupt
        seen.append(os.path.basename(file))
        return own(file, *settings)

    monkeypatch.setattr(photo_files, "read", read)
    with pytest.raises(RetryableError):
        run(input_dir, tmp_path / "out", reviews=(str(tmp_path / "reviews.json"),))
    monkeypatch.setattr(photo_files, "read", own)
    for names in ((), ("other.json",)):
        with pytest.raises(UserError, match="--reviews: the unfinished results in .* were begun with"):
            run(input_dir, tmp_path / "out", reviews=tuple(str(tmp_path / name) for name in names))
    content = run(input_dir, tmp_path / "out", reviews=(str(tmp_path / "again.json"),))
    undisturbed = run(input_dir, tmp_path / "undisturbed", reviews=(str(tmp_path / "again.json"),))
    assert content == undisturbed


def replay(input_dir, path, **settings):
    settings = {"photos": str(input_dir / "site"), "model": str(input_dir / "model.h5")} | settings
    return predict.run(PredictConfig(replay=str(path), **settings))


def test_a_replay_gives_equal_findings_and_writes_nothing(done, input_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(str(path) for path in input_dir.rglob("*"))
    content = replay(input_dir, done[0] / "findings.json")
    assert capsys.readouterr().out.splitlines()[-1] == "replayed 3 photographs: all findings equal"
    assert content == done[1]
    assert not os.listdir(tmp_path) and sorted(str(path) for path in input_dir.rglob("*")) == before


def test_a_replay_takes_all_flags_of_that_run(input_dir, visit, tmp_path):
    out = tmp_path / "findings"
    flags = {"scale": 0.5, "threshold": 0.3, "expected_cracked": 0.02, "suggest": 2, "page_photos": 1}
    content = run(input_dir, out, photos=str(visit), **flags)
    assert replay(input_dir, out / "findings.json", photos=str(visit)) == content


def test_a_replay_that_differs_is_exit_code_1_and_another_model_2(done, input_dir, tmp_path):
    content = json.loads((done[0] / "findings.json").read_text())
    path, photos = tmp_path / "findings.json", f"--photos={input_dir / 'site'}"
    content["photos"][0]["probability"] -= 1e-6
    path.write_text(json.dumps(content))
    ended = support.command("predict", photos, f"--replay={path}", f"--model={input_dir / 'model.h5'}")
    assert ended.returncode == 1, ended.stderr
    assert "photos[0].probability: 0.99" in ended.stdout
    assert re.search(r"^crackflow.predict: replayed 3 photographs: 1 differ, 1 values in all; ", ended.stderr)
    ended = support.command("predict", photos, f"--replay={path}")  # the model that comes with crackflow
    assert ended.returncode == 2 and ended.stderr.startswith("crackflow.predict: --model: expected the model of ")


def test_a_photograph_that_no_longer_decodes_is_one_line(done, input_dir, monkeypatch):
    def fail(*_):
        raise ImageError("its data end early")

    monkeypatch.setattr(photo_files, "read", fail)
    with pytest.raises(UserError, match=r"'cracked.jpg': expected the photograph of .*findings.json': its data end ea"):
        replay(input_dir, done[0] / "findings.json")


@pytest.fixture(scope="module")
def scaled_site(input_dir, tmp_path_factory):
    """A site with the card on a wall, a photograph with a focal length, and one with nothing; and a file of scales."""
    root = tmp_path_factory.mktemp("scaled")
    size = (600, 500)
    matrix = card_scenes.camera(35, 500.0, 1000.0, size, azimuth=90.0)
    card = card_scenes.photograph(matrix, size)
    (x0, y0), (x1, y1) = card_scenes.project(matrix, [(-40.0, 20.0), (-40.0, 170.0)])
    for t in np.linspace(0, 1, 3000):  # a crack of 150 mm beside the card
        x, y = round(x0 + t * (x1 - x0)), round(y0 + t * (y1 - y0))
        card[y - 1 : y + 2, x - 1 : x + 2] = 5
    support.put(root / "site/card.png", support.encoded(card, "PNG"))
    support.put(root / "site/exif.jpg", camera_photo(pixels=wall(), FocalLengthIn35mmFilm=28))
    support.put(root / "site/none.png", support.encoded(wall(crack=None), "PNG"))
    (root / "scales.csv").write_text("path,mm_per_px\nexif.jpg,0.25\n")
    return root


def run_scaled(input_dir, site, out, **settings):
    content = run(input_dir, out, **{"photos": str(site / "site"), "marker_mm": 50.0} | settings)
    return {photo["path"]: photo for photo in content["photos"]}


def test_each_photograph_has_the_scale_of_its_best_source(input_dir, scaled_site, tmp_path, capsys):
    photos = run_scaled(input_dir, scaled_site, tmp_path / "out", distance_m=1.5)
    scales = {path: photo["scale"] and photo["scale"]["source"] for path, photo in photos.items()}
    assert scales == {"card.png": "marker", "exif.jpg": "exif", "none.png": None}
    assert "scale of the photographs by marker 1, exif 1, none 1" in capsys.readouterr().out
    card, exif = photos["card.png"], photos["exif.jpg"]
    assert any("taken at 35 degrees" in text for text in card["warnings"])
    assert "no scale from a distance of 1.5 m: it has no EXIF" in photos["none.png"]["notes"]
    (crack,) = card["findings"]
    assert crack["length_mm_estimate"] == pytest.approx(150, rel=0.06), "the card's lines are no findings"
    assert len(card["scale"]["card_lines"]) == 13
    (crack,) = exif["findings"]
    expected = crack["length_px_estimate"] * exif["scale"]["mm_per_px"]
    assert crack["length_mm_estimate"] == pytest.approx(expected, rel=1e-3)
    assert "length in mm" in (tmp_path / "out/report.html").read_text()
    assert card["sha256"] == support.sha256(scaled_site / "site/card.png")


def test_a_scale_of_the_table_counts_before_the_camera(input_dir, scaled_site, tmp_path):
    flags = {"scales": str(scaled_site / "scales.csv"), "distance_m": 1.5, "marker_mm": 0.0}
    photos = run_scaled(input_dir, scaled_site, tmp_path / "out", **flags)
    assert photos["exif.jpg"]["scale"] == {
        "mm_per_px": 0.25, "source": "scales", "relative_error": None, "note": None,
    }  # fmt: skip
    assert photos["card.png"]["scale"] is None and "--scales has no line for it" in photos["card.png"]["notes"]


def test_a_run_resumes_with_its_scales_and_no_others(input_dir, scaled_site, tmp_path, monkeypatch):
    flags = {"scales": str(scaled_site / "scales.csv"), "distance_m": 1.5}
    whole = run_scaled(input_dir, scaled_site, tmp_path / "whole", **flags)
    process, done = predict._process_photo, []

    def stop_at_the_third(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(process(*arguments))
        return done[-1]

    monkeypatch.setattr(predict, "_process_photo", stop_at_the_third)
    with pytest.raises(RetryableError):
        run_scaled(input_dir, scaled_site, tmp_path / "out", **flags)
    monkeypatch.setattr(predict, "_process_photo", process)
    (tmp_path / "other.csv").write_text("path,mm_per_px\nexif.jpg,0.26\n")
    with pytest.raises(UserError, match="--scales: the unfinished results in .* were begun with '"):
        run_scaled(input_dir, scaled_site, tmp_path / "out", **flags | {"scales": str(tmp_path / "other.csv")})
    (tmp_path / "same.csv").write_bytes((scaled_site / "scales.csv").read_bytes())
    resumed = run_scaled(input_dir, scaled_site, tmp_path / "out", **flags | {"scales": str(tmp_path / "same.csv")})
    assert resumed == whole


def test_a_damaged_table_ends_the_command_before_any_work(input_dir, scaled_site, tmp_path):
    (tmp_path / "bad.csv").write_text("path,mm_per_px\nelsewhere.jpg,1\n")
    with pytest.raises(UserError, match="line 2: expected the path of one of the photographs"):
        run_scaled(input_dir, scaled_site, tmp_path / "out", scales=str(tmp_path / "bad.csv"))
    assert not (tmp_path / "out").exists()
