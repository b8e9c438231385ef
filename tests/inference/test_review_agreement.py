"""Findings against what people said of them."""

import numpy as np
import pytest

from crackflow.inference import review_agreement
from crackflow.inference.predictor import Finding
from tests.helpers.review_files import photo_review, verdict


def finding(box, probability=0.9, outline=None):
    """With its box as the outline, or another."""
    x, y, width, height = box
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return Finding(box, [outline or corners], probability, "cracked", None, None)


DIAGONAL = finding((0, 0, 100, 64), outline=[(0, 0), (4, 0), (100, 62), (100, 64), (96, 64), (0, 2)])


def judged(findings, *verdicts):
    return review_agreement.judge_findings(findings, verdicts)


def test_a_finding_has_the_verdict_whose_box_overlaps_most():
    findings = [finding((0, 0, 20, 20)), finding((50, 0, 20, 20)), finding((0, 40, 20, 20))]
    said = [
        verdict((1, 0, 20, 20), "unsure"),
        verdict((2, 0, 20, 20), "crack"),
        verdict((50, 2, 20, 20), "not_a_crack"),
    ]
    assert judged(findings, *said) == ("unsure", "not_a_crack", None)


def test_a_wider_outline_of_the_same_crack_has_its_verdict():
    assert judged([finding((40, 20, 20, 20))], verdict((30, 10, 42, 42))) == ("crack",)


def test_a_verdict_within_the_box_of_a_long_crack_is_not_about_that():
    assert judged([DIAGONAL], verdict((80, 5, 10, 10), "not_a_crack")) == (None,)


def test_a_verdict_about_one_finding_is_about_no_other():
    findings = [finding((40, 20, 20, 20)), finding((45, 25, 10, 10))]
    assert judged(findings, verdict((40, 20, 20, 20))) == ("crack", None)


def test_of_two_verdicts_around_a_finding_the_closer_one_counts():
    said = [verdict((10, 0, 80, 60), "not_a_crack"), verdict((35, 15, 32, 32), "crack")]
    assert judged([finding((40, 20, 20, 20))], *said) == ("crack",)


def compare(findings, *verdicts, looked_through=True, threshold=0.5):
    return review_agreement.compare(findings, photo_review(*verdicts, looked_through=looked_through), threshold)


def test_a_drawn_crack_that_no_finding_meets_is_missed():
    drawn = verdict((80, 50, 10, 10), source="drawn")
    agreement = compare([finding((10, 10, 20, 20))], verdict((10, 10, 20, 20)), drawn)
    assert agreement.missed == (drawn,) and len(agreement.cracks) == 2 and agreement.verdicts == ("crack",)


def test_a_confirmed_crack_that_a_later_model_loses_is_missed():
    assert len(compare([], verdict()).missed) == 1


def test_without_having_been_looked_through_nothing_is_said_of_missed_cracks():
    agreement = compare([], verdict(), looked_through=False)
    assert agreement.missed == agreement.cracks == ()


def test_a_finding_below_the_threshold_misses_its_crack():
    findings = [finding((10, 20, 60, 30), 0.49)]
    assert len(compare(findings, verdict()).missed) == 1 and not compare(findings, verdict(), threshold=0.49).missed


def test_what_is_no_crack_or_unsure_is_not_missed():
    assert compare([], verdict(kind="not_a_crack"), verdict(kind="unsure")).cracks == ()


def test_a_finding_that_was_called_no_crack_meets_none():
    said = verdict((10, 10, 20, 20), "not_a_crack"), verdict((15, 15, 40, 4), source="drawn")
    assert compare([finding((10, 10, 20, 20))], *said).missed == (said[1],)


@pytest.mark.parametrize(
    "box, meets",
    [
        ((48, 30, 4, 4), True),  # on the diagonal
        ((80, 5, 15, 15), False),  # in its box, far from its outline
        ((0, 0, 100, 64), True),  # around it
        ((50.0, 31.9, 0.1, 0.1), True),  # within the outline, without an edge
        ((5, 50, 30, 14), False),
    ],
)
def test_the_outline_meets_a_marked_crack_and_not_its_box(box, meets):
    assert bool(compare([DIAGONAL], verdict(box, source="drawn")).missed) != meets


def test_an_outline_meets_a_box_as_its_pixels_do():
    """Against a raster of a hundred times as many points, for boxes at random."""
    outline = [(10.0, 5.0), (60.0, 10.0), (55.0, 50.0), (35.0, 20.0), (12.0, 40.0)]
    x, y = np.meshgrid(np.arange(0, 80, 0.1) + 0.05, np.arange(0, 60, 0.1) + 0.05)
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True):
        inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    generator, differing = np.random.default_rng(0), 0
    for _ in range(300):
        left, top = generator.uniform(0, 70), generator.uniform(0, 50)
        width, height = generator.uniform(0.5, 10, 2)
        covered = (x >= left) & (x <= left + width) & (y >= top) & (y <= top + height)
        agreement = compare([finding((10, 5, 50, 45), outline=outline)], verdict((left, top, width, height)))
        differing += bool((inside & covered).any()) == bool(agreement.missed)
    assert differing <= 3  # they touch by less than the raster
