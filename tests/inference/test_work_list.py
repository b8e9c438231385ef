"""The order in which photographs are worked through, and what is said of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.inference import work_list

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(PROBABILITIES)
def test_the_first_ones_hold_most_of_the_cracks_and_one_fewer_would_not(probabilities):
    visit = work_list.rank(probabilities)
    ordered = np.sort(probabilities)[::-1]
    assert sorted(visit.ranks) == list(range(1, len(probabilities) + 1))
    assert ordered[: visit.count].sum() >= 0.95 * ordered.sum() - 1e-9
    assert visit.count == 1 or ordered[: visit.count - 1].sum() < 0.95 * ordered.sum()
    assert visit.expected_cracked == pytest.approx(ordered.sum())


def test_ranks_follow_the_probabilities_and_equal_ones_come_as_they_are():
    assert work_list.rank([0.1, 0.9, 0.5, 0.9]).ranks.tolist() == [4, 1, 3, 2]


def test_the_expected_share_goes_before_the_visits_and_that_before_trainings():
    probabilities = [0.999, 0.999, *[0.001] * 10]
    expected = work_list.choose_prior(probabilities, 0.5, 0.02)
    assert (expected.used, expected.share, expected.expected) == ("expected", 0.02, 0.02)
    assert expected.estimate.images == 12
    estimated = work_list.choose_prior(probabilities, 0.5)
    assert (estimated.used, estimated.expected) == ("estimated", None) and 0.1 < estimated.share < 0.25
    trained = work_list.choose_prior(probabilities[:9], 0.5)
    assert (trained.used, trained.share, trained.estimate) == ("trained", 0.5, None)
    assert trained.correct(probabilities[:9]).tolist() == probabilities[:9]


@pytest.mark.parametrize("probability, share", [(0.0, 0.5 / 20), (1.0, 1 - 0.5 / 20)])
def test_photographs_that_are_all_alike_exclude_nothing(probability, share):
    prior = work_list.choose_prior([probability] * 20, 0.5)
    assert prior.estimate.share == probability and prior.share == share


def test_findings_json_says_all_shares():
    prior = work_list.choose_prior([0.9, *[0.01] * 11], 0.5, 0.02)
    content = prior.as_dict()
    assert content == {
        "trained": 0.5,
        "expected": 0.02,
        "estimated": round(prior.estimate.share, 6),
        "estimated_ci95": [round(bound, 6) for bound in prior.estimate.ci95],
        "photographs": 12,
        "used": "expected",
        "share": 0.02,
    }
    few = work_list.choose_prior([0.9], 0.25).as_dict()
    assert few["estimated"] is None and few["estimated_ci95"] is None and few["used"] == "trained"
    assert few["share"] == few["trained"] == 0.25


def say(probabilities, expected=0.0):
    prior = work_list.choose_prior(probabilities, 0.5, expected)
    return work_list.sentence(work_list.rank(prior.correct(probabilities)), prior)


def test_the_sentence_says_how_many_photographs_hold_how_much_and_by_which_share():
    visit = [*[0.999] * 4, *[0.001] * 296]
    assert say(visit, 0.02).startswith(
        "Look at 4 of 300 photographs, by rank: they hold 95 % of all cracks expected (3.8 cracked photographs), "
        "counted by the expected share of cracked ones, 2 %; the photographs by themselves show 1.2 % (95 % interval 0."
    )
    assert "counted by the share of cracked ones that they show, 1.2 % (95 % interval " in say(visit)
    assert "that they show, 5 % (95 % interval 0 % to " in say([0.3] * 10)  # half of one of ten, not none
    assert say([0.8]).startswith("Look at 1 of 1 photograph, by rank: ")
    assert say([0.8, 0.1]).endswith(
        "counted by nothing but the share in the model's training, 50 %, which is hardly that of a site: give "
        "--expected_cracked, or 10 photographs and more, which show their own"
    )


def test_where_hardly_a_crack_is_expected_no_list_promises_most_of_them():
    text = say([1e-6] * 40, 0.001)
    assert text.startswith("By the model fewer than 0.05 of 40 photographs are expected to be cracked; look at rank 1")
    assert "95 % of all cracks" not in text
