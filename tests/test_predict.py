"""crackflow.predict as a user runs it."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from crackflow import predict
from crackflow.core import csv_files
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import ConfigError, RetryableError, UserError
from crackflow.data import reviews
from crackflow.inference import photo_files
from crackflow.model import model_file
from tests.helpers import review_files, support
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
        ({"scale": 1.0, "mm_per_px": 1.0}, "--scale: expected nothing beside --mm_per_px"),
        ({"mm_per_px": -1.0}, "--mm_per_px: expected 0 or a number above 0"),
        ({"mm_per_px": float("inf")}, "--mm_per_px: expected 0 or a number above 0"),
        ({"threshold": 1.0}, "--threshold: expected a fraction"),
        ({"max_megapixels": 0.0}, "--max_megapixels: expected a number above 0"),
        ({"page_photos": -1}, "--page_photos: expected 0 or more"),
        ({"reviews": ("a.json", "")}, "--reviews: expected files, separated by commas"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        PredictConfig(**({"photos": "a", "out": "b"} | settings))


def test_nothing_usable_is_a_clear_error_and_leaves_nothing(input_dir, tmp_path):
    with pytest.raises(UserError, match="--photos: expected photographs, none of 1 files can be used; the first"):
        run(input_dir, tmp_path / "out", photos=str(input_dir / "site/broken.jpg"))
    assert not list(tmp_path.iterdir())


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
