"""reviews.json: what is refused, what is read, and how several are merged."""

import json
import os
import re
import time

import pytest

from crackflow.core.errors import UserError
from crackflow.data import reviews
from tests.helpers.review_files import EVENING, NOON, content, photo_review, put, reviews_of, verdict


def test_a_file_comes_back_as_it_was_written(tmp_path):
    written = reviews_of(
        photo_review(verdict(), verdict((80.5, 5.0, 19.5, 10.0), source="drawn"), looked_through=True),
        photo_review(path="other \udcff\u202e.jpg", sha256="2" * 64),
    )
    reviews.write(tmp_path / "reviews.json", written)
    assert reviews.read(tmp_path / "reviews.json") == written
    (tmp_path / "reviews.json").read_bytes().decode("ascii")


def test_the_contract_is_read(tmp_path):
    review = reviews.read(put(tmp_path / "reviews.json", content()))
    (photo,) = review.photographs
    assert (review.model_sha256, review.reviewer, photo.path, photo.width, photo.looked_through) == (
        "a" * 64, "Ann", "wall.jpg", 100, True,
    )  # fmt: skip
    assert [said.box for said in photo.verdicts] == [(10.0, 20.0, 60.0, 30.0), (80.5, 5.0, 19.5, 10.0)]
    assert [said.probability for said in photo.verdicts] == [0.93, None]
    assert reviews.as_dict(review) == content()


def test_the_mark_that_windows_editors_put_first_is_passed_over(tmp_path):
    (tmp_path / "reviews.json").write_text(json.dumps(content()), encoding="utf-8-sig")
    assert reviews.read(tmp_path / "reviews.json").reviewer == "Ann"


PHOTO, VERDICT = ("photographs", 0), ("photographs", 0, "verdicts", 1)
BOX = "[x, y, width, height], finite numbers, with width and height above 0, received"
SIDE = "a whole number from 1 to 1,000,000"
TIME = "a time such as 2026-11-30T15:04:05Z, received"
DAMAGE = [
    (("schema_version",), 2, "schema_version to be 1, received 2"),
    (("schema_version",), True, "schema_version to be 1, received true"),
    (("crackflow",), None, "crackflow to be text, received null"),
    (("model_sha256",), "A" * 64, "model_sha256 to be 64 hexadecimal digits in lower case, received"),
    (("reviewer",), 7, "reviewer to be text, received 7"),
    (("photographs",), {}, "photographs to be a list, received {}"),
    (PHOTO, "wall.jpg", "photographs[0] to be an object with the keys path, sha256, width, height, looked_through, ve"),
    ((*PHOTO, "path"), [], "photographs[0].path to be text, received []"),
    ((*PHOTO, "sha256"), "1" * 63, "photographs[0].sha256 to be 64 hexadecimal digits in lower case, received"),
    ((*PHOTO, "sha256"), "1" * 64 + "\n", "photographs[0].sha256 to be 64 hexadecimal digits"),
    ((*PHOTO, "width"), 0, f"photographs[0].width to be {SIDE}, received 0"),
    ((*PHOTO, "height"), 64.0, f"photographs[0].height to be {SIDE}, received 64.0"),
    ((*PHOTO, "width"), True, f"photographs[0].width to be {SIDE}, received true"),
    ((*PHOTO, "looked_through"), 1, "photographs[0].looked_through to be true or false, received 1"),
    ((*PHOTO, "verdicts"), None, "photographs[0].verdicts to be a list of at most 5,000 verdicts, received null"),
    ((*PHOTO, "verdicts"), [0] * 5_001, "photographs[0].verdicts to be a list of at most 5,000 verdicts, received [0,"),
    ((*PHOTO, "more"), 1, "photographs[0] to be an object with the keys path, sha256, width, height, looked_through"),
    (VERDICT, [], "photographs[0].verdicts[1] to be an object with the keys box, verdict, source, probability, rev"),
    ((*VERDICT, "box"), [1, 2, 3], f"photographs[0].verdicts[1].box to be {BOX} [1, 2, 3]"),
    ((*VERDICT, "box"), [1, 2, 3, "4"], f"photographs[0].verdicts[1].box to be {BOX}"),
    ((*VERDICT, "box"), [1, 2, 3, True], f"photographs[0].verdicts[1].box to be {BOX}"),
    ((*VERDICT, "box"), [1, 2, 0, 4], f"photographs[0].verdicts[1].box to be {BOX}"),
    ((*VERDICT, "box"), [1, 2, 3, -4], f"photographs[0].verdicts[1].box to be {BOX}"),
    ((*VERDICT, "box"), [1, 2, 10**400, 4], f"photographs[0].verdicts[1].box to be {BOX}"),
    ((*VERDICT, "box"), [-1, 2, 3, 4], "photographs[0].verdicts[1].box to be inside the photograph of 100 x 64 pixels"),
    ((*VERDICT, "box"), [90, 2, 11, 4], "photographs[0].verdicts[1].box to be inside the photograph of 100 x 64 pix"),
    ((*VERDICT, "box"), [1, 60, 3, 5], "photographs[0].verdicts[1].box to be inside the photograph of 100 x 64 pixels"),
    (
        (*VERDICT, "verdict"),
        "maybe",
        'photographs[0].verdicts[1].verdict to be crack or not_a_crack or unsure, received "',
    ),
    (
        (*VERDICT, "verdict"),
        ["crack"],
        "photographs[0].verdicts[1].verdict to be crack or not_a_crack or unsure, recei",
    ),
    ((*VERDICT, "source"), "guess", 'photographs[0].verdicts[1].source to be finding or drawn, received "guess"'),
    ((*VERDICT, "probability"), 1.01, "photographs[0].verdicts[1].probability to be 0 to 1, or null, received 1.01"),
    ((*VERDICT, "probability"), "1", "photographs[0].verdicts[1].probability to be 0 to 1, or null, received"),
    ((*VERDICT, "reviewer"), None, "photographs[0].verdicts[1].reviewer to be text, received null"),
    ((*VERDICT, "time"), "2026-11-30 15:04:05", f"photographs[0].verdicts[1].time to be {TIME}"),
    ((*VERDICT, "time"), "2026-13-30T15:04:05Z", f"photographs[0].verdicts[1].time to be {TIME}"),
    ((*VERDICT, "time"), 1796051045, f"photographs[0].verdicts[1].time to be {TIME} 1796051045"),
]


@pytest.mark.parametrize("keys, value, message", DAMAGE)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_key(tmp_path, keys, value, message):
    damaged = content()
    parent = damaged
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    path = put(tmp_path / "reviews.json", damaged)
    with pytest.raises(UserError, match=re.escape(f"{path!r}: expected {message}")) as refused:
        reviews.read(path)
    assert str(refused.value).endswith("; use the file as the page of crackflow.predict offered it")
    assert len(str(refused.value)) < 400 + len(path)


@pytest.mark.parametrize("keys", [("reviewer",), (*PHOTO, "sha256"), (*VERDICT, "time")])
def test_a_key_that_is_absent_is_refused(tmp_path, keys):
    damaged = content()
    parent = damaged
    for key in keys[:-1]:
        parent = parent[key]
    del parent[keys[-1]]
    with pytest.raises(UserError, match="to be an object with the keys .*, received"):
        reviews.read(put(tmp_path / "reviews.json", damaged))


@pytest.mark.parametrize("value", [[], None, "text", 3])
def test_what_is_no_object_is_refused(tmp_path, value):
    with pytest.raises(UserError, match="expected the content to be an object with the keys schema_version, crackflow"):
        reviews.read(put(tmp_path / "reviews.json", value))


def test_a_file_of_another_version_is_named_as_such(tmp_path):
    with pytest.raises(UserError, match="expected schema_version to be 1, received 2"):
        reviews.read(put(tmp_path / "reviews.json", {"schema_version": 2, "verdicts": []}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"\xff\xfe{",
        json.dumps(content()).encode()[:-1],
        json.dumps(content()).replace("0.93", "NaN").encode(),
        json.dumps(content()).replace("80.5", "-Infinity").encode(),
        b"[" * 200_000,
        b'{"schema_version": ' + b"1" * 10_000 + b"}",
    ],
)
def test_what_is_no_json_is_refused(tmp_path, data):
    (tmp_path / "reviews.json").write_bytes(data)
    with pytest.raises(UserError, match="reviews.json': expected (JSON, received something else|schema_version)"):
        reviews.read(tmp_path / "reviews.json")


def test_a_number_that_is_infinite_for_python_is_refused(tmp_path):
    (tmp_path / "reviews.json").write_text(json.dumps(content()).replace("80.5", "1e999"))
    with pytest.raises(UserError, match=re.escape("verdicts[1].box to be [x, y, width, height], finite")):
        reviews.read(tmp_path / "reviews.json")


def test_a_photograph_that_comes_twice_is_refused(tmp_path):
    twice = content()
    twice["photographs"].append(twice["photographs"][0] | {"path": "copy.jpg"})
    expected = "expected photographs[1].sha256 to be another than that of photographs[0], received"
    with pytest.raises(UserError, match=re.escape(expected)):
        reviews.read(put(tmp_path / "reviews.json", twice))


def test_a_box_may_lie_outside_by_what_rounding_moves_it(tmp_path):
    rounded = content()
    rounded["photographs"][0]["verdicts"][1]["box"] = [80.1, -0.1, 20.0, 64.2]
    assert reviews.read(put(tmp_path / "reviews.json", rounded)).photographs[0].verdicts[1].box[3] == 64.2


def test_a_file_that_is_larger_than_any_review_is_not_read(tmp_path):
    with open(tmp_path / "reviews.json", "wb") as file:
        file.truncate(64 << 30)
    start = time.monotonic()
    with pytest.raises(UserError, match="expected a reviews.json of at most 64 MiB, received a larger file"):
        reviews.read(tmp_path / "reviews.json")
    assert time.monotonic() - start < 5


def test_no_file_a_folder_a_pipe_and_a_device_are_refused(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(
            UserError, match=r"expected a reviews.json, received no readable file \(.+\); check the pat"
        ):
            reviews.read(path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match="expected a reviews.json, received a device or a pipe; name a file"):
            reviews.read(path)


def test_the_overlap_of_boxes():
    assert reviews.iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert reviews.iou((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert reviews.iou((0, 0, 10, 10), (2, 2, 5, 5)) == pytest.approx(0.25)
    assert reviews.iou((0, 0, 10, 10), (10, 0, 10, 10)) == reviews.iou((0, 0, 10, 10), (0, 30, 10, 10)) == 0


def test_boxes_are_paired_with_the_best_first_and_each_once():
    boxes = [(0, 0, 10, 10), (1, 0, 10, 10), (50, 50, 5, 5)]
    assert reviews.match(boxes, [(1, 0, 10, 10), (2, 0, 10, 10)]) == [(1, 0), (0, 1)]
    assert reviews.match(boxes, [(1, 0, 10, 10)]) == [(1, 0)]
    assert reviews.match(boxes, []) == reviews.match([], boxes) == []


def test_of_two_verdicts_about_one_box_the_newest_counts():
    early = reviews_of(photo_review(verdict(), verdict((0.0, 0.0, 5.0, 5.0))))
    late = reviews_of(photo_review(verdict((12.0, 20.0, 60.0, 30.0), "not_a_crack", reviewer="Bo", time=EVENING)))
    for files in ([early, late], [late, early]):
        merged, conflicts = reviews.merge(files)
        (photo,) = merged.photographs
        assert conflicts == 1
        assert {(said.box[0], said.verdict, said.reviewer) for said in photo.verdicts} == {
            (12.0, "not_a_crack", "Bo"), (0.0, "crack", "Ann"),
        }  # fmt: skip


def test_two_who_agree_are_no_conflict():
    merged, conflicts = reviews.merge([reviews_of(photo_review(verdict())), reviews_of(photo_review(verdict()))])
    assert conflicts == 0 and len(merged.photographs[0].verdicts) == 1


def test_two_boxes_of_one_file_stay_two_however_much_they_overlap():
    """Two parallel cracks from corner to corner have nearly the same box."""
    parallel = (verdict(), verdict((11.0, 20.0, 60.0, 30.0), "not_a_crack"))
    merged, conflicts = reviews.merge([reviews_of(photo_review(*parallel)), reviews_of(photo_review(*parallel))])
    assert conflicts == 0 and merged.photographs[0].verdicts == parallel


def test_photographs_of_all_files_are_joined():
    first = reviews_of(photo_review(looked_through=True), reviewer="Ann")
    second = reviews_of(photo_review(path="moved/wall.jpg"), photo_review(sha256="2" * 64), reviewer="Bo")
    merged = reviews.merge([first, second]).reviews
    assert [photo.sha256[0] for photo in merged.photographs] == ["1", "2"]
    assert [photo.looked_through for photo in merged.photographs] == [True, False]
    assert merged.photographs[0].path == "moved/wall.jpg"
    assert merged.reviewer == "" and reviews.merge([first]).reviews == first


def test_a_photograph_of_two_sizes_is_refused():
    files = [reviews_of(photo_review()), reviews_of(photo_review(width=200))]
    with pytest.raises(
        UserError, match="'wall.jpg': expected one size in all reviews, received 100 x 64 and 200 x 64 "
    ):
        reviews.merge(files)


def test_many_verdicts_are_merged_in_reasonable_time():
    boxes = [(7.0 * (index % 70), 7.0 * (index // 70), 5.0, 5.0) for index in range(2_000)]
    said = [verdict(box, time=NOON) for box in boxes]
    start = time.monotonic()
    merged, conflicts = reviews.merge([reviews_of(photo_review(*said, width=500, height=500))] * 2)
    assert len(merged.photographs[0].verdicts) == 2_000 and conflicts == 0
    assert time.monotonic() - start < 20
