"""Windows from folders and from reviews, and which of them are one piece of evidence."""

import dataclasses
import hashlib

import numpy as np
import pytest

from crackflow.core.config.adapt import AdaptConfig
from crackflow.data import reviews
from crackflow.evaluation import labelled_windows
from crackflow.inference import suggested_windows
from tests.helpers import support, walls

TIME = "2026-11-30T15:04:05Z"


@pytest.fixture(scope="module")
def model():
    return walls.model()


def windows(root, px, count=4):
    for number in range(count):
        path = root / ("clean", "cracked")[number % 2] / f"{number}.png"
        support.put(path, support.encoded(support.picture(number, px, px), "PNG"))
    return AdaptConfig(images=str(root), out="unused", workers=1)


@pytest.mark.parametrize(("px", "scale"), [(200, "0.32"), (40, "1.6")])
def test_windows_of_another_size_than_the_models_are_noted_with_a_scale(tmp_path, model, capsys, px, scale):
    labelled_windows.gather(windows(tmp_path, px), model)
    said = capsys.readouterr().out
    assert f"these windows have {px} pixels a side" in said and f"in windows of {walls.PX}" in said
    assert f"--scale={scale} as well" in said


def test_windows_of_about_the_size_of_the_models_need_no_word(tmp_path, model, capsys):
    labelled = labelled_windows.gather(windows(tmp_path, 80), model)
    assert "note: these windows" not in capsys.readouterr().out and labelled.photographs == [""] * 4


def labelled_as(*labels):
    count = len(labels)
    images = np.arange(count, dtype=np.uint8)[:, None, None, None]
    paths = [str(number) for number in range(count)]
    windows = labelled_windows.Windows(images, np.array(labels), np.arange(count), paths)
    return labelled_windows.LabelledWindows(windows, "0" * 64, None, paths)


@pytest.mark.parametrize(
    ("labels", "left", "message"),
    [
        ((1, 1, 0, 1), [0, 1, 3], "1 clean window left out: 3 are the least to learn from; for more of them tick"),
        (
            (0, 1, 0, 1, 0),
            [0, 2, 4],
            "2 cracked windows left out: 3 are the least to learn from; for more of them conf",
        ),
    ],
)
def test_too_few_of_one_class_in_a_review_do_not_stop_the_other(labels, left, message, capsys):
    rest = labelled_windows.without_scarce_class(labelled_as(*labels), 3)
    assert message in capsys.readouterr().out
    assert rest.windows.images.ravel().tolist() == left == rest.windows.groups.tolist()
    assert rest.photographs == rest.windows.paths == [str(row) for row in left]


@pytest.mark.parametrize("labels", [(0, 0, 0), (0, 0, 1), (0, 1, 0, 1, 0, 1)])
def test_nothing_is_left_out_where_both_or_neither_are_enough(labels, capsys):
    least = 3 if len(labels) != 3 or 1 not in labels else 4
    before = labelled_as(*labels)
    assert labelled_windows.without_scarce_class(before, least) is before and not capsys.readouterr().out


def test_suggested_and_reviewed_windows_of_one_photograph_are_of_one_group(tmp_path, model):
    folder, site = tmp_path / "suggested", tmp_path / "site"
    digests = []
    for number in range(3):
        pixels = walls.wall(320, 640, crack=((0, 200 + 20 * number), (639, 230)))
        support.put(site / f"{number}.png", support.encoded(pixels, "PNG"))
        digests.append(hashlib.sha256((site / f"{number}.png").read_bytes()).hexdigest())
    rows = [suggested_windows.COLUMNS]
    for number in range(3):
        name = f"00000{number + 1}_{number}_x0_y0.png"
        support.put(folder / "clean" / name, support.encoded(support.picture(number), "PNG"))
        rows.append((f"unlabelled/{name}", f"{number}.png", digests[number], 0, 0, 64, 64, 0.5, "unsure"))
    (folder / suggested_windows.TABLE).write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    verdict = reviews.Verdict((0.0, 190.0, 640.0, 60.0), reviews.CRACK, reviews.DRAWN, None, "", TIME)
    photos = [reviews.PhotoReview(f"{n}.png", digests[n], 640, 320, False, (verdict,)) for n in (2, 0)]
    reviews.write(tmp_path / "reviews.json", reviews.Reviews("0.1.0", "0" * 64, "", tuple(photos)))
    config = AdaptConfig(
        images=str(folder), reviews=(str(tmp_path / "reviews.json"),), photos=str(site), out="unused", workers=1
    )
    labelled = labelled_windows.gather(config, model)
    groups = {}
    for photograph, group in zip(labelled.photographs, labelled.windows.groups, strict=True):
        groups.setdefault(photograph, set()).add(group)
    assert set(groups) == set(digests) and all(len(own) == 1 for own in groups.values())
    assert len(set.union(*groups.values())) == 3 and (labelled.windows.labels == 1).sum() > 2
    alone = labelled_windows.gather(dataclasses.replace(config, reviews=(), photos=""), model)
    assert len(set(alone.windows.groups)) == 3


def test_a_table_that_was_edited_says_nothing_about_photographs(tmp_path, model):
    config = windows(tmp_path, 64)
    (tmp_path / suggested_windows.TABLE).write_text("name\n1.png\n")
    assert labelled_windows.gather(config, model).photographs == [""] * 4
