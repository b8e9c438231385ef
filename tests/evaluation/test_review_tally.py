"""Reviews counted over the photographs of a run."""

import pytest

from crackflow.core.errors import UserError
from crackflow.data import reviews
from crackflow.evaluation import metrics, review_tally
from tests.helpers.predictions import FAINT, FOUND
from tests.helpers.review_files import EVENING, photo_review, reviews_of, verdict

FIRST, SECOND = "1" * 64, "2" * 64
DRAWN = verdict((5.0, 55.0, 8.0, 8.0), source="drawn")


def tally_of(tmp_path, *files):
    paths = [str(tmp_path / f"{index}.json") for index in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        reviews.write(path, file)
    return review_tally.ReviewTally(paths)


def test_precision_missed_cracks_and_recall_with_their_intervals(tmp_path):
    file = reviews_of(
        photo_review(verdict(FOUND.box), verdict(FAINT.box, "not_a_crack"), DRAWN, looked_through=True),
        photo_review(verdict(FOUND.box, "not_a_crack"), sha256=SECOND, path="b.jpg"),
    )
    tally = tally_of(tmp_path, file)
    tally.add(FIRST, [FOUND, FAINT], 0.4)
    tally.add(SECOND, [FOUND, FAINT], 0.4)
    summary = tally.summary()
    assert summary["findings"] == {"crack": 1, "not_a_crack": 2, "unsure": 0, "not_judged": 1}
    assert summary["precision"] == pytest.approx(1 / 3) and summary["precision_ci95"] == list(metrics.wilson(1, 3))
    assert (summary["cracks_looked_through"], summary["missed_cracks"], summary["recall"]) == (2, 1, 0.5)
    assert summary["recall_ci95"] == list(metrics.wilson(1, 2))
    assert (summary["photographs"], summary["photographs_looked_through"], summary["photographs_absent"]) == (2, 1, 0)
    assert summary["reviewers"] == ["Ann"] and summary["files"] == [str(tmp_path / "0.json")]
    assert tally.describe() == (
        "reviews: 3 of 4 findings judged in 2 photographs; precision 33.3 % [6.1, 79.2]; "
        "1 of 2 cracks missed in the 1 photograph looked through"
    )


def test_findings_below_the_threshold_are_counted_apart(tmp_path):
    tally = tally_of(tmp_path, reviews_of(photo_review(verdict(FOUND.box), verdict(FAINT.box, "unsure"))))
    tally.add(FIRST, [FOUND, FAINT], 0.6)
    assert tally.summary()["findings"] == {"crack": 1, "not_a_crack": 0, "unsure": 0, "not_judged": 0}
    assert tally.summary()["findings_below_threshold"]["unsure"] == 1


def test_nothing_is_said_of_what_nobody_knows(tmp_path):
    tally = tally_of(tmp_path, reviews_of(photo_review(verdict(FOUND.box, "unsure"))))
    tally.add(FIRST, [FOUND], 0.4)
    summary = tally.summary()
    assert summary["precision"] is summary["precision_ci95"] is summary["recall"] is summary["recall_ci95"] is None
    assert tally.describe() == "reviews: 1 of 1 findings judged in 1 photograph"


def test_conflicts_of_reviewers_are_counted_and_the_newest_verdict_holds(tmp_path):
    late = verdict(FOUND.box, "not_a_crack", reviewer="Bo", time=EVENING)
    tally = tally_of(tmp_path, reviews_of(photo_review(late)), reviews_of(photo_review(verdict(FOUND.box))))
    tally.add(FIRST, [FOUND], 0.4)
    assert tally.conflicts == tally.summary()["conflicts"] == 1 and tally.summary()["precision"] == 0
    assert tally.describe().endswith("; two files disagree about 1, and the newest verdict counts")


def test_photographs_that_are_not_there_and_copies(tmp_path):
    tally = tally_of(tmp_path, reviews_of(photo_review(verdict(FOUND.box)), photo_review(sha256=SECOND, path="b.jpg")))
    for sha256 in (FIRST, FIRST, "3" * 64):
        tally.add(sha256, [FOUND], 0.4)
    assert tally.absent() == ["b.jpg"] and tally.summary()["findings"]["crack"] == 1


def test_another_photograph_of_the_same_name_is_refused(tmp_path):
    tally = tally_of(tmp_path, reviews_of(photo_review()), reviews_of(photo_review(sha256=SECOND)))
    for sha256 in (FIRST, SECOND):
        tally.require_same_photo("wall.jpg", sha256)
    tally.require_same_photo("other.jpg", "3" * 64)
    assert tally.names("wall.jpg") and not tally.names("other.jpg")
    message = (
        r"--reviews: expected the photograph 'wall.jpg' that was reviewed \(SHA-256 111111111111 or 222222222222...\), "
        r"received another one of that name \(333333333333...\); rename it, or leave the review out"
    )
    with pytest.raises(UserError, match=message):
        tally.require_same_photo("wall.jpg", "3" * 64)


def test_equal_reviews_have_equal_digests_in_whatever_file(tmp_path):
    file = reviews_of(photo_review(verdict()))
    assert tally_of(tmp_path, file).sha256 == tally_of(tmp_path, file, file).sha256
    assert tally_of(tmp_path, file).sha256 != tally_of(tmp_path, reviews_of(photo_review())).sha256
