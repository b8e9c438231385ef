"""Findings of an earlier run, compared with those of today."""

import copy
import json

import pytest

from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import UserError, VerificationError
from crackflow.inference import replay
from crackflow.inference.photo_files import PhotoPath
from crackflow.version import __version__
from tests.helpers import support
from tests.helpers.jpegs import jpeg
from tests.helpers.walls import wall

SETTINGS = {"scale": 0.5, "mm_per_px": 0.0, "threshold": 0.0, "expected_cracked": 0.1, "max_megapixels": 200.0}


def entry(path, sha256):
    return {"path": path, "sha256": sha256, "overlay": "overlays/000001.jpg", "probability": 0.912345, "findings": []}


@pytest.fixture
def site(tmp_path):
    """Two photographs, and the files as list_photos names them."""
    for number, name in enumerate(("a.jpg", "b.jpg")):
        support.put(tmp_path / "site" / name, jpeg(wall(40 + number, 50)))
    return [PhotoPath(str(tmp_path / "site" / name), name) for name in ("a.jpg", "b.jpg")]


@pytest.fixture
def content(site):
    photos = [entry(named.path, support.sha256(named.file)) for named in site]
    model = {"sha256": "a" * 64}
    settings = SETTINGS | {"threads": 2}
    versions = {"numpy": "2.0.0", "crackflow": __version__}
    facts = {"schema_version": 1, "crackflow": __version__, "model": model, "settings": settings}
    return facts | {"versions": versions, "machine": {"cpu": "x"}, "threshold": 0.5, "photos": photos}


@pytest.fixture
def earlier(content, tmp_path):
    return read(tmp_path, content)


def read(tmp_path, content):
    path = tmp_path / "findings.json"
    path.write_text(json.dumps(content))
    return replay.read_findings(str(path))


def test_the_same_content_is_equal(earlier, content):
    assert earlier.verify(content) == "replayed 2 photographs: all findings equal"


def test_what_does_not_depend_on_the_photographs_may_differ(earlier, content):
    now = content | {"versions": {}, "machine": {}, "settings": {"threads": 7}, "reviews": {"files": []}}
    assert earlier.verify(now) == "replayed 2 photographs: all findings equal"


def changed(content, **values):
    now = copy.deepcopy(content)
    now["photos"][1] |= values
    return now


@pytest.mark.parametrize(
    "values, line",
    [
        ({"probability": 0.912346}, r"photos\[1\].probability: 0.912345 then, 0.912346 now"),
        ({"findings": [{}]}, r"photos\[1\].findings: 0 entries then, 1 entries now"),
        ({"width": 3}, r"photos\[1\].width: nothing then, 3 now"),
        ({"sha256": "b" * 64}, r"photos\[1\].sha256: .* then, .* now"),
    ],
)
def test_a_value_that_differs_is_named(earlier, content, values, line, capsys):
    with pytest.raises(VerificationError, match=rf"2 photographs: 1 differ, 1 values in all; the first: {line}"):
        earlier.verify(changed(content, **values))
    assert "photos[1]" in capsys.readouterr().out


def test_digits_and_the_order_of_keys_count(earlier, content):
    with pytest.raises(VerificationError, match=r"threshold: 0.5 then, 0.50001 now"):
        earlier.verify(content | {"threshold": 0.50001})
    now = copy.deepcopy(content)
    now["photos"][0] = dict(reversed(now["photos"][0].items()))
    with pytest.raises(VerificationError, match=r"photos\[0\]: keys in another order"):
        earlier.verify(now)


def test_whole_numbers_and_fractions_are_different_texts(content, tmp_path):
    earlier = read(tmp_path, changed(content, probability=1))
    with pytest.raises(VerificationError, match=r"probability: 1 then, 1.0 now"):
        earlier.verify(changed(content, probability=1.0))


def test_what_was_another_then_is_said(earlier, content):
    now = changed(content, probability=0.5) | {"versions": {"numpy": "2.1.0"}, "settings": content["settings"]}
    with pytest.raises(VerificationError, match=r"; then numpy \"2.0.0\", now \"2.1.0\"$"):
        earlier.verify(now)
    with pytest.raises(VerificationError, match=r"; versions and machine are the same as then$"):
        earlier.verify(now | {"versions": content["versions"]})


def test_only_the_first_differences_are_printed(content, tmp_path, capsys):
    many = content | {"photos": [content["photos"][0] | {"notes": list(range(50))}]}
    with pytest.raises(VerificationError, match="1 photograph: 1 differ, 50 values in all"):
        read(tmp_path, many).verify(many | {"photos": [content["photos"][0] | {"notes": [-1] * 50}]})
    assert len(capsys.readouterr().out.splitlines()) == replay.SHOWN_DIFFERENCES


def test_photographs_are_matched_by_name_in_the_earlier_order(earlier, site):
    assert earlier.match_photos(site[::-1]) == site


def test_a_photograph_that_was_moved_is_matched_by_its_content(earlier, site):
    moved = [PhotoPath(site[0].file, "elsewhere/x.jpg"), site[1]]
    assert earlier.match_photos(moved) == [PhotoPath(site[0].file, "a.jpg"), site[1]]


def test_two_photographs_that_changed_names_keep_their_content(earlier, site):
    swapped = [PhotoPath(site[1].file, "a.jpg"), PhotoPath(site[0].file, "b.jpg")]
    assert earlier.match_photos(swapped) == site


def test_other_photographs_beside_them_are_passed_over(earlier, site, tmp_path):
    support.put(tmp_path / "c.jpg", jpeg(wall(30, 30)))
    assert earlier.match_photos([PhotoPath(str(tmp_path / "c.jpg"), "c.jpg"), *site]) == site


def test_a_missing_or_changed_photograph_is_named(earlier, site, tmp_path):
    with pytest.raises(UserError, match=r"--photos: expected the 2 photographs of .*, received 1 .*'b.jpg' is missing"):
        earlier.match_photos(site[:1])
    support.put(tmp_path / "site/a.jpg", b"\xff\xd8 something else")
    with pytest.raises(UserError, match=r"'a.jpg' has changed; restore it"):
        earlier.match_photos(site)


def test_a_photograph_that_cannot_be_read_has_changed(earlier, site, tmp_path):
    (tmp_path / "site/b.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"'b.jpg' has changed"):
        earlier.match_photos(site)


def test_another_model_is_refused(earlier):
    earlier.require_model("a" * 64)
    with pytest.raises(UserError, match=r"--model: expected the model of .*, SHA-256 aaaaaaaaaaaa, received bbbb"):
        earlier.require_model("b" * 64)


def test_the_flags_of_the_earlier_run_return(earlier):
    config = earlier.restore_settings(PredictConfig(photos="p", replay="f", model="m"))
    assert (config.photos, config.model, config.replay) == ("p", "m", "f")
    assert (config.scale, config.expected_cracked, config.threads) == (0.5, 0.1, 2)
    assert earlier.restore_settings(PredictConfig(photos="p", replay="f", threads=1)).threads == 1


def test_flags_that_the_file_decides_are_refused_beside_it(earlier):
    with pytest.raises(UserError, match=r"--scale: expected no such flag beside --replay, which takes the flags of"):
        earlier.restore_settings(PredictConfig(photos="p", replay="f", scale=2.0))
    with pytest.raises(UserError, match=r"--out: expected no such flag beside --replay"):
        earlier.restore_settings(PredictConfig(photos="p", replay="f", out="o"))


@pytest.mark.parametrize("settings", [{"later": 1}, {"scale": "x"}, {"scale": -1.0}])
def test_settings_that_this_version_does_not_have_are_refused(content, tmp_path, settings):
    earlier = read(tmp_path, content | {"settings": settings})
    with pytest.raises(UserError, match=r"--replay: expected the settings of a crackflow .* received others"):
        earlier.restore_settings(PredictConfig(photos="p", replay="f"))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"crackflow": "0.0.1"},
            r"--replay: expected findings of crackflow .*, received those of 0.0.1 in .*; in",
        ),
        ({"schema_version": 2}, r"expected schema_version 1 of findings.json, received 2"),
        ({"settings": None}, r"expected a findings.json with the settings of its run, received .* predict once more"),
        ({"photos": []}, r"expected a findings.json of crackflow.predict, received .*, which is something else or dam"),
        ({"photos": [{"path": 3}]}, r"something else or damaged"),
        ({"model": "m"}, r"something else or damaged"),
        ({"crackflow": 7}, r"something else or damaged"),
    ],
)
def test_a_file_of_another_kind_or_version_is_refused(content, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content | change)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": "\udcff"}'])
def test_a_file_that_is_no_json_is_damaged(tmp_path, text):
    (tmp_path / "f.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"--replay: '.*f.json' is damaged \(.*\); use the file as it was written"):
        replay.read_findings(str(tmp_path / "f.json"))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--replay: expected a findings.json, received .*x.json' \(No such file"):
        replay.read_findings(str(tmp_path / "x.json"))
