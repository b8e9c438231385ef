import re
import sys

import pytest

import crackflow
from crackflow import card
from crackflow.core.config.card import CardConfig, Paper
from crackflow.core.errors import ConfigError, UserError
from tests.helpers import support


@pytest.mark.parametrize("name, start", [("card.pdf", b"%PDF"), ("b/card.PNG", b"\x89PNG"), ("card.svg", b"<?xml")])
def test_the_ending_says_what_is_made(tmp_path, name, start, capsys):
    path = tmp_path / name
    assert crackflow.card(out=path, marker_mm=40) == str(path)
    assert path.read_bytes().startswith(start) and "--marker_mm=40" in capsys.readouterr().out


def test_a_file_is_replaced_with_overwrite_alone(tmp_path):
    path = tmp_path / "card.pdf"
    path.write_text("mine")
    with pytest.raises(UserError, match="--out: expected a new file, .* which exists; replace it with --overwrite"):
        card.run(CardConfig(out=str(path)))
    card.run(CardConfig(out=str(path), overwrite=True))
    assert path.read_bytes().startswith(b"%PDF")
    (tmp_path / "folder.pdf").mkdir()
    with pytest.raises(UserError, match="expected a new file"):
        card.run(CardConfig(out=str(tmp_path / "folder.pdf"), overwrite=True))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"out": ""}, "--out: expected a path"),
        ({"out": "card.jpg"}, "--out: expected a name that ends in .pdf or .svg or .png, received 'card.jpg'"),
        ({"marker_mm": 9.0}, "--marker_mm: expected 10 to 90 mm on a5 paper, received 9.0"),
        ({"marker_mm": 91.0}, "--marker_mm: expected 10 to 90 mm on a5 paper, received 91.0"),
        ({"marker_mm": float("nan")}, "--marker_mm: expected 10 to 90 mm"),
        ({"marker_mm": 161.0, "paper": Paper.A4}, "--marker_mm: expected 10 to 160 mm on a4 paper"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        CardConfig(**settings)


def test_without_opencv_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"the marker needs OpenCV, .* pip install 'crackflow\[scale\]'"):
        card.run(CardConfig(out=str(tmp_path / "card.pdf")))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_makes_a_card_and_a_mistake_is_one_line(tmp_path):
    done = support.called("card", f"--out={tmp_path / 'card.pdf'}", "--paper=a4")
    assert done.returncode == 0 and (tmp_path / "card.pdf").exists(), done.stderr
    support.expect_one_line(support.called("card", "--out=card.txt"), 2)
