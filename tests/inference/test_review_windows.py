import hashlib

import numpy as np
import pytest
from PIL import Image

from crackflow.core.errors import UserError
from crackflow.data import reviews
from crackflow.data.reviews import CRACK, DRAWN, FINDING, NOT_A_CRACK, UNSURE
from crackflow.inference import review_windows
from tests.helpers import walls

WIDTH, HEIGHT = 640, 320


@pytest.fixture(scope="module")
def model():
    return walls.model()


@pytest.fixture
def site(tmp_path):
    """A wall with a dark line from left to right in its lower half, and a dark patch at its upper right."""
    pixels = walls.wall(HEIGHT, WIDTH, crack=((0, 250), (WIDTH - 1, 250)))
    pixels[20:50, 560:600] = 20
    Image.fromarray(pixels).save(tmp_path / "wall.png")
    return tmp_path


def review(site, *verdicts, looked_through=False, **changes):
    data = (site / "wall.png").read_bytes()
    photo = reviews.PhotoReview(
        **{
            "path": "wall.png",
            "sha256": hashlib.sha256(data).hexdigest(),
            "width": WIDTH,
            "height": HEIGHT,
            "looked_through": looked_through,
            "verdicts": tuple(
                reviews.Verdict(box, verdict, DRAWN if verdict == CRACK else FINDING, None, "", "2026-11-30T15:04:05Z")
                for box, verdict in verdicts
            ),
        }
        | changes
    )
    return reviews.Reviews("0.1.0", "0" * 64, "", (photo,))


def boxes(cut, label):
    """x, y, width, height of the windows of a label."""
    named = [
        path.split("#xywh=")[1].split(",") for path, one in zip(cut.paths, cut.labels, strict=True) if one == label
    ]
    return [tuple(map(int, numbers)) for numbers in named]


LINE, PATCH = (0.0, 240.0, 640.0, 20.0), (550.0, 10.0, 60.0, 50.0)


def test_a_confirmed_crack_gives_cracked_windows_along_it(site, model):
    cut = review_windows.cut(review(site, (LINE, CRACK)), str(site), model, 200)
    assert set(cut.labels) == {1} and len(cut.labels) == review_windows.MOST_PER_BOX
    assert cut.images.shape[1:] == (walls.PX, walls.PX, 3) and cut.images.dtype == np.uint8
    for x, y, width, height in boxes(cut, 1):
        assert (width, height) == (walls.PX, walls.PX) and y <= 250 < y + height and 0 <= x <= WIDTH - width
    assert all(image.min() < 40 for image in cut.images)


def test_a_rejected_finding_gives_clean_windows_that_touch_no_crack(site, model):
    cut = review_windows.cut(review(site, (PATCH, NOT_A_CRACK), (LINE, CRACK)), str(site), model, 200)
    clean = boxes(cut, 0)
    assert clean and all(y + height <= 240 for _, y, _, height in clean)
    assert any(x < 580 < x + width and y < 35 < y + height for x, y, width, height in clean)


@pytest.mark.parametrize("verdict", [CRACK, UNSURE])
def test_a_photograph_looked_through_is_clean_everywhere_else(site, model, verdict):
    cut = review_windows.cut(review(site, (LINE, verdict), looked_through=True), str(site), model, 200)
    clean = boxes(cut, 0)
    assert len(clean) == review_windows.MOST_ELSEWHERE
    assert all(y + height <= 240 or y >= 260 for _, y, _, height in clean)
    assert len(boxes(cut, 1)) == (review_windows.MOST_PER_BOX if verdict == CRACK else 0)
    assert len(set(cut.groups)) == 1 and cut.digests.shape == (1, 32)


def test_windows_of_one_label_share_little(site, model):
    cut = review_windows.cut(review(site, (LINE, CRACK), looked_through=True), str(site), model, 200)
    for windows in (boxes(cut, 0), boxes(cut, 1)):
        for number, window in enumerate(windows):
            for other in windows[number + 1 :]:
                assert review_windows._overlap(window, other) <= review_windows.MAX_OVERLAP * walls.PX**2


def test_a_photograph_without_verdicts_gives_nothing(site, model):
    cut = review_windows.cut(review(site), str(site), model, 200)
    assert len(cut.labels) == 0 and cut.images.shape == (0, walls.PX, walls.PX, 3) and cut.digests.shape == (0, 32)


def test_a_photograph_that_is_another_one_now_is_refused(site, model):
    reviewed = review(site, (LINE, CRACK))
    Image.fromarray(walls.wall(HEIGHT, WIDTH)).save(site / "wall.png")
    with pytest.raises(UserError, match=r"expected 'wall.png' as it was reviewed \(SHA-256 .*received another of that"):
        review_windows.cut(reviewed, str(site), model, 200)


@pytest.mark.parametrize("path", ["other.png", "../../etc/passwd", "/etc/passwd"])
def test_a_photograph_that_is_not_in_the_folder_is_named(site, model, path):
    with pytest.raises(
        UserError, match="expected the reviewed photograph .* found none; name the folder that was given"
    ):
        review_windows.cut(review(site, (LINE, CRACK), path=path, sha256="0" * 64), str(site), model, 200)


def test_a_photograph_is_known_by_its_content_whatever_it_is_called(site, model):
    reviewed = review(site, (LINE, CRACK))
    (site / "moved").mkdir()
    (site / "wall.png").rename(site / "moved/IMG_7.png")
    Image.fromarray(walls.wall(HEIGHT, WIDTH)).save(site / "wall.png")  # another of its name
    expected = review_windows.MOST_PER_BOX
    assert len(review_windows.cut(reviewed, str(site), model, 200).labels) == expected
    assert len(review_windows.cut(reviewed, f"{site}/moved/*.png", model, 200).labels) == expected


def test_a_finding_of_which_nobody_said_anything_is_not_taken_for_clean_wall(site, model):
    """The patch: it looks like a crack to the model, and whoever ticked the photograph may agree."""
    cut = review_windows.cut(review(site, (LINE, CRACK), looked_through=True), str(site), model, 200)
    for x, y, width, height in boxes(cut, 0):
        assert x >= 600 or x + width <= 560 or y >= 50 or y + height <= 20


def test_what_is_no_crack_within_a_larger_crack_is_not_learnt_as_one(site, model):
    whole = (0.0, 0.0, 640.0, 320.0)
    for verdict in (NOT_A_CRACK, UNSURE):
        cut = review_windows.cut(review(site, (whole, CRACK), (PATCH, verdict)), str(site), model, 200)
        assert all(x >= 600 or x + width <= 560 or y >= 50 for x, y, width, _ in boxes(cut, 1)) and len(cut.labels)


def test_a_wide_box_around_a_missed_crack_gives_its_most_suspicious_window_alone(site, model):
    (window,) = boxes(review_windows.cut(review(site, ((0.0, 100.0, 640.0, 220.0), CRACK)), str(site), model, 200), 1)
    assert window[1] <= 250 < window[1] + window[3]


def test_a_window_in_a_box_needs_half_the_evidence_of_the_best_one(site, model):
    pixels = walls.wall(HEIGHT, WIDTH, crack=((200, 250), (260, 250)))  # a short one, in a long box
    Image.fromarray(pixels).save(site / "wall.png")
    cut = review_windows.cut(review(site, (LINE, CRACK)), str(site), model, 200)
    assert 1 <= len(cut.labels) < review_windows.MOST_PER_BOX
    assert all(x < 260 and x + width > 200 for x, _, width, _ in boxes(cut, 1))


def test_a_photograph_that_cannot_be_read_is_a_user_error(site, model):
    (site / "wall.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="--photos: .*wall.png"):
        review_windows.cut(review(site, (LINE, CRACK)), str(site), model, 200)


def test_a_box_smaller_than_a_window_gives_the_window_around_it(site, model):
    cut = review_windows.cut(review(site, ((300.0, 245.0, 10.0, 10.0), CRACK)), str(site), model, 200)
    ((x, y, width, height),) = boxes(cut, 1)
    assert abs(x + width / 2 - 305) <= 1 and abs(y + height / 2 - 250) <= 1
