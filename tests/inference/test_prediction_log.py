import dataclasses
import json
import os
import threading

import pytest

from crackflow.core.errors import UserError
from crackflow.inference import prediction_log, suggestions
from crackflow.inference.predictor import Prediction
from tests.helpers import support
from tests.helpers.prediction_logs import photo, prediction, record  # noqa: F401 - fixtures

RUN = {"--scale": "0.0", "--model": "ab12"}


def open_log(tmp_path, run=RUN, overwrite=False):
    return prediction_log.open_log(str(tmp_path / "out"), run, overwrite)


def test_what_is_found_again_is_what_was_appended(tmp_path, photo):
    with open_log(tmp_path) as log:
        added = log.append(record(photo), b"overlay", b"picture")
    with open_log(tmp_path) as log:
        reloaded = log.find(photo[0])
        assert photo[0] in log and len(log) == 1 and "elsewhere.jpg" not in log
        for field in dataclasses.fields(Prediction):
            if field.name != "heat":
                assert getattr(reloaded.prediction, field.name) == getattr(added.prediction, field.name)
                assert repr(getattr(reloaded.prediction, field.name)) == repr(getattr(added.prediction, field.name))
        assert (reloaded.photo.sha256, reloaded.file, reloaded.stat) == (photo[1].sha256, added.file, added.stat)
        assert reloaded.photo.place == added.photo.place == [46.1, -7.2] and reloaded.photo.notes == added.photo.notes
        assert log.picture(reloaded) == b"picture"
        log.copy_overlay(reloaded, str(tmp_path / "copy.jpg"))
    assert (tmp_path / "copy.jpg").read_bytes() == b"overlay"


def test_the_scale_comes_back_as_it_was(tmp_path, photo):
    scale = {"mm_per_px": 0.25, "source": "marker", "marker": {"corners": [[0.5, 1.0]]}, "card_lines": []}
    stated = prediction_log.new_record(prediction(), photo[1], photo[0], prediction_log.file_stat(photo[0]), (), scale)
    with prediction_log.open_log(str(tmp_path / "out"), {}, False) as log:
        log.append(stated, b"overlay", None)
        assert log.find(photo[0]).scale == scale
        log.append(dataclasses.replace(stated, scale={"mm_per_px": "0.25", "source": "marker"}), b"overlay", None)
        assert log.find(photo[0]) is None


def test_candidates_for_labels_come_back_as_they_were(tmp_path, photo):
    features = tuple(float(number) / 7 for number in range(suggestions.NUM_FEATURES))
    windows = [suggestions.Candidate(3, 4, 20, 20, 0.25, features), suggestions.Candidate(30, 4, 20, 20, 0.5, features)]
    stat = prediction_log.file_stat(photo[0])
    with open_log(tmp_path) as log:
        log.append(prediction_log.new_record(prediction(), photo[1], photo[0], stat, windows), b"overlay", None)
    with open_log(tmp_path) as log:
        assert log.find(photo[0]).candidates == tuple(windows)


def test_widths_that_have_another_form_are_measured_anew(tmp_path, photo):
    finding = prediction().findings[0]
    for edited in (
        finding._replace(width_px={"median": 2.0}),
        finding._replace(centerline=[{"points": [[1.0, 2.0]], "widths_px": []}]),
        finding._replace(width_note=None),
    ):
        changed = dataclasses.replace(prediction(), findings=[edited])
        stat = prediction_log.file_stat(photo[0])
        with open_log(tmp_path) as log:
            log.append(prediction_log.new_record(changed, photo[1], photo[0], stat), b"overlay", None)
            assert log.find(photo[0]) is None


@pytest.mark.parametrize(
    ("location", "is_valid"),
    [
        ({"crs": None, "crs_unit": "metre", "transform": [0.1, 0, 5e5, 0, -0.1, 5e6]}, True),
        ({"altitude_m": -12.5, "heading_deg": 90, "heading_reference": "true"}, True),
        ({"transform": [0.1, 0, "5e5", 0, -0.1, 5e6]}, False),
        ({"altitude_m": "high"}, False),
        ("here", False),
    ],
)
def test_more_on_the_place_comes_back_as_it_was_or_not_at_all(tmp_path, photo, location, is_valid):
    photo = photo[0], photo[1]._replace(location=location)
    with open_log(tmp_path) as log:
        log.append(record(photo), b"overlay", None)
    with open_log(tmp_path) as log:
        reloaded = log.find(photo[0])
        assert (reloaded is not None) is is_valid
        assert not is_valid or reloaded.photo.location == location


def test_each_line_is_json_that_other_programs_can_read(tmp_path, photo):
    with open_log(tmp_path) as log:
        log.append(record(photo), b"overlay", None)
    first, line = (tmp_path / "out/unfinished/photos.jsonl").read_text("ascii").splitlines()
    assert json.loads(first)["run"] == RUN
    assert json.loads(line)["prediction"]["decision"] == "cracked" and json.loads(line)["photo"]["place"] == [
        46.1,
        -7.2,
    ]


def test_the_newest_line_of_a_file_counts(tmp_path, photo):
    with open_log(tmp_path) as log:
        log.append(record(photo, "old"), b"1", None)
        log.append(record(photo, "new"), b"2", None)
        assert log.find(photo[0]).prediction.name == "new"
    with open_log(tmp_path) as log:
        assert (log.find(photo[0]).prediction.name, log.find(photo[0]).number, len(log)) == ("new", 2, 1)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_was_cut_off_anywhere_is_gone_and_the_next_is_whole(tmp_path, photo, cut):
    with open_log(tmp_path) as log:
        log.append(record(photo), b"1", None)
        other_file = str(tmp_path / "other.jpg")
        support.put(other_file, b"more")
        log.append(
            dataclasses.replace(record(photo), file=other_file, stat=prediction_log.file_stat(other_file)), b"2", None
        )
    path = tmp_path / "out/unfinished/photos.jsonl"
    os.truncate(path, os.path.getsize(path) - cut)
    with open_log(tmp_path) as log:
        assert photo[0] in log and other_file not in log
        log.append(
            dataclasses.replace(record(photo), file=other_file, stat=prediction_log.file_stat(other_file)), b"3", None
        )
    with open_log(tmp_path) as log:
        assert photo[0] in log and log.find(other_file).number == 2


def test_a_file_system_without_links_gets_copies(tmp_path, photo, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    with open_log(tmp_path) as log:
        added = log.append(record(photo), b"overlay", None)
        monkeypatch.setattr(os, "link", refused)
        log.copy_overlay(added, str(tmp_path / "copy.jpg"))
    assert (tmp_path / "copy.jpg").read_bytes() == b"overlay"


def test_a_write_that_fails_leaves_whole_lines_alone(tmp_path, photo):
    with open_log(tmp_path) as log:
        log.append(record(photo), b"1", None)
        size = os.path.getsize(tmp_path / "out/unfinished/photos.jsonl")
        unwritable = dataclasses.replace(record(photo), stat=("\N{SNOWMAN}", threading.Lock()))
        with pytest.raises(AttributeError):
            log.append(unwritable, b"2", None)
        assert os.path.getsize(tmp_path / "out/unfinished/photos.jsonl") == size and log.find(photo[0]).number == 1


def test_another_run_is_refused_or_begun_anew(tmp_path, photo):
    with open_log(tmp_path) as log:
        log.append(record(photo), b"1", None)
    for other_run in (RUN | {"--scale": "1.0"}, RUN | {"--new": "1"}, {"--scale": "0.0"}):
        with pytest.raises(UserError, match="^--.*: the unfinished results in .* were begun with .*, received "):
            with open_log(tmp_path, other_run):
                pass
    with open_log(tmp_path, overwrite=True) as log:
        assert len(log) == 0
        log.append(record(photo), b"1", None)
    with open_log(tmp_path, overwrite=True) as log:
        assert len(log) == 1


def test_a_log_without_photographs_is_removed(tmp_path):
    with open_log(tmp_path):
        assert (tmp_path / "out/unfinished").exists()
    assert not (tmp_path / "out").exists()
