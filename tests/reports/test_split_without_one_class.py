"""Few cracked photographs all went to train; different photographs of a white wall were taken for copies of one."""

import importlib.util

import numpy as np
import pytest

from crackflow import convert
from crackflow.core.config.data import ConvertConfig
from tests.helpers import support

NAME = "08-split-without-one-class"
ASKED = (0.8, 0.1, 0.1)


@pytest.fixture
def picture_generator(report, monkeypatch):
    """(folder of the report, the module that generates its pictures, which it writes to few/ and flat/)."""
    folder = report(NAME)
    monkeypatch.chdir(folder)
    spec = importlib.util.spec_from_file_location("make", folder / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return folder, module


def counts(facts):
    return {name: tuple(split["class_counts"].values()) for name, split in facts["splits"].items()}


def copied(module, directory, clean, cracked):
    for number in range(clean):
        module.save(module.picture(number, False, False), f"{directory}/Negative/{number}.jpg")
    for number in range(cracked):
        module.save(module.picture(900 + number, True, False), f"{directory}/Positive/{number}.jpg")
    return directory


def test_few_cracked_photographs_are_in_each_split_and_a_line_says_that_they_are_few(
    picture_generator, tmp_path, capsys
):
    folder, module = picture_generator
    for seed in range(3):
        facts = support.converted(folder / "few", tmp_path / f"few{seed}", seed=seed, split=ASKED)
        assert counts(facts) == {"train": (24, 1), "val": (3, 1), "test": (3, 1)}
    said = capsys.readouterr()
    assert "classes: train 24 Negative, 1 Positive; val 3 Negative, 1 Positive; test 3 Negative, 1 Positive" in said.out
    assert said.err.count("\n") == 3
    assert said.err.startswith(
        "warning: train has 1 of 'Positive', val has 3 of 'Negative' and 1 of 'Positive', test has"
    )
    assert "expected 10 or more of each class" in said.err
    assert counts(support.converted(copied(module, folder / "six", 6, 6), tmp_path / "six", split=ASKED)) == {
        "train": (4, 4),
        "val": (1, 1),
        "test": (1, 1),
    }
    assert counts(support.converted(copied(module, folder / "five", 100, 5), tmp_path / "five", split=ASKED))[
        "test"
    ] == (
        10,
        1,
    )


def test_different_photographs_of_a_white_wall_are_split_as_asked(picture_generator, tmp_path, capsys):
    facts = support.converted(picture_generator[0] / "flat", tmp_path / "flat", split=ASKED)
    assert counts(facts) == {"train": (48, 48), "val": (6, 6), "test": (6, 6)}
    assert facts["leaks"]["groups"] == 120 and facts["leaks"]["random_split_twins"] == 0


def test_copies_of_a_white_wall_still_stay_together(picture_generator, tmp_path):
    folder, _ = picture_generator
    for number in range(0, 60, 5):
        for kind in support.CLASSES:
            data = (folder / f"flat/{kind}/{number:03d}.jpg").read_bytes()
            values = np.ascontiguousarray(np.rot90(support.pixels(data)[:, ::-1]))
            support.put(folder / f"flat/{kind}/turned{number:03d}.jpg", support.encoded(values, quality=85))
            support.put(folder / f"flat/{kind}/again{number:03d}.jpg", data)
    leaks = support.converted(folder / "flat", tmp_path / "flat", split=ASKED)["leaks"]
    assert (leaks["byte_copies"], leaks["near_copies"], leaks["groups"]) == (24, 24, 120)


def test_white_walls_with_the_light_of_one_lamp_are_different_photographs(tmp_path):
    rng = np.random.default_rng(0)
    lamp = 40 * np.exp(-((np.mgrid[:200, :200] - 70) ** 2).sum(0) / 9000)
    for number in range(40):
        grey = np.clip(180 + lamp + rng.uniform(-5, 5) + rng.normal(0, 5, (200, 200)), 0, 255).astype(np.uint8)
        data = support.encoded(np.dstack([grey] * 3), quality=90)
        support.put(tmp_path / "photos" / support.CLASSES[number % 2] / f"{number}.jpg", data)
    facts = support.converted(tmp_path / "photos", tmp_path / "out")
    assert facts["leaks"]["groups"] == 40 and facts["leaks"]["conflicts"] == 0


def test_cracked_windows_of_few_photographs_are_in_each_split(tmp_path, capsys):
    """Four photographs with masks, of which three have cracks."""
    for number in range(4):
        mask = np.zeros((128, 384, 3), np.uint8)
        mask[60:66, : 120 * number] = 255
        support.put(tmp_path / f"photos/images/{number}.jpg", support.encoded(support.picture(number, 384, 128)))
        support.put(tmp_path / f"photos/masks/{number}.png", support.encoded(mask, "PNG"))
    facts = support.converted(tmp_path / "photos", tmp_path / "out")
    assert all(cracked for _, cracked in counts(facts).values())
    assert "warning: " in capsys.readouterr().err


def test_merging_reports_class_counts_and_does_not_warn_of_a_split_of_zero(tmp_path, capsys):
    for name, seed in (("walls", 0), ("roads", 500)):
        support.photos(tmp_path / f"{name}_photos", 48, first_seed=seed)
        support.converted(tmp_path / f"{name}_photos", tmp_path / name, split=(0.5, 0.5, 0.0))
    assert capsys.readouterr().err == ""
    parts = tuple(str(tmp_path / name) for name in ("walls", "roads"))
    convert.run(ConvertConfig(join=parts, out=str(tmp_path / "both"), workers=1))
    said = capsys.readouterr()
    assert "classes: train 24 Negative, 24 Positive; val 24 Negative, 24 Positive; test 0 Negative" in said.out
    assert said.err == ""
