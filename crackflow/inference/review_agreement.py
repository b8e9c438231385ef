"""The findings in a photograph against its review: which were judged, and which cracks are missed.

Synopsis::

    agreement = review_agreement.compare(prediction.findings, review, threshold=0.4)
    agreement.verdicts                     # ("crack", None, "not_a_crack"): of each finding, None: not judged
    agreement.missed                       # the reviews.Verdict of each crack that no finding meets

The verdicts may have been given about the findings of an earlier model, or at another threshold.
"""

import dataclasses
from collections.abc import Sequence

from crackflow.data import reviews
from crackflow.data.reviews import Box, PhotoReview, Verdict
from crackflow.inference.predictor import Finding

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class ReviewAgreement:
    """The findings in one photograph against its review.

    Attributes:
        verdicts: crack, not_a_crack, unsure or None (not judged) for each finding, those below the threshold too.
        cracks: what a person called a crack, if the photograph was looked through, else nothing.
        missed: those of `cracks` that no finding at or above the threshold meets.
    """

    verdicts: tuple[str | None, ...]
    cracks: tuple[Verdict, ...]
    missed: tuple[Verdict, ...]


def compare(findings: Sequence[Finding], review: PhotoReview, threshold: float) -> ReviewAgreement:
    """Compares the findings in a photograph with its review.

    A crack that a person marked is met by a finding whose outline reaches into its box: a model may trace a part of it,
    or it and more. A finding that was called no crack meets none.

    Args:
        findings: of the photograph.
        review: of the same photograph.
        threshold: findings of a lower probability miss their crack, 0..1.
    """
    verdicts = judge_findings(findings, review.verdicts)
    cracks = tuple(verdict for verdict in review.verdicts if verdict.verdict == reviews.CRACK)
    counted = [
        finding
        for finding, verdict in zip(findings, verdicts, strict=True)
        if finding.probability >= threshold and verdict != reviews.NOT_A_CRACK
    ]
    if not review.looked_through:  # what was not marked may not have been looked at
        return ReviewAgreement(verdicts, (), ())
    missed = tuple(crack for crack in cracks if not any(_meets(finding, crack.box) for finding in counted))
    return ReviewAgreement(verdicts, cracks, missed)


def judge_findings(findings: Sequence[Finding], verdicts: Sequence[Verdict]) -> tuple[str | None, ...]:
    """Returns the verdict about each finding, None for those that no verdict is about.

    A verdict is about the finding with which its box overlaps best, by MIN_IOU or more. A verdict that is about none is
    about a finding without one if each box contains the centre of the other: two models outline one crack more or
    less widely. One centre alone would not do. The box of a crack from corner to corner contains all else.
    """
    judged: dict[int, str] = {}
    pairs = reviews.match([finding.box for finding in findings], [verdict.box for verdict in verdicts])
    for index, verdict_index in pairs:
        judged[index] = verdicts[verdict_index].verdict
    used = {verdict_index for _, verdict_index in pairs}
    others = [verdict for index, verdict in enumerate(verdicts) if index not in used]
    for index, finding in enumerate(findings):
        if index not in judged:
            about = [verdict for verdict in others if _share_centres(finding.box, verdict.box)]
            if about:
                judged[index] = max(about, key=lambda verdict: reviews.iou(finding.box, verdict.box)).verdict
    return tuple(judged.get(index) for index in range(len(findings)))


def _share_centres(box: Box, other: Box) -> bool:
    return _contains(box, _centre(other)) and _contains(other, _centre(box))


def _centre(box: Box) -> Point:
    x, y, width, height = box
    return x + width / 2, y + height / 2


def _contains(box: Box, point: Point) -> bool:
    x, y, width, height = box
    return x <= point[0] <= x + width and y <= point[1] <= y + height


def _meets(finding: Finding, box: Box) -> bool:
    """Whether an outline of the finding and the box share a point. Its box alone would meet too much."""
    return any(_outline_meets(outline, box) for outline in finding.outlines)


def _outline_meets(outline: Sequence[Point], box: Box) -> bool:
    edges = list(zip(outline, [*outline[1:], *outline[:1]], strict=True))
    return any(_crosses(start, end, box) for start, end in edges) or _is_inside(edges, _centre(box))


def _crosses(start: Point, end: Point, box: Box) -> bool:
    """Whether the line from `start` to `end` has a point in the box (Liang and Barsky, 1984)."""
    low, high = 0.0, 1.0
    for at, to, near, size in zip(start, end, box[:2], box[2:], strict=True):
        if at == to:
            if not near <= at <= near + size:
                return False
            continue
        first, last = sorted(((near - at) / (to - at), (near + size - at) / (to - at)))
        low, high = max(low, first), min(high, last)
    return low <= high


def _is_inside(edges: Sequence[tuple[Point, Point]], point: Point) -> bool:
    """Whether `point` lies inside the closed outline, by the parity of the edges to its right."""
    x, y = point
    count = sum(
        (start[1] > y) != (end[1] > y) and x < start[0] + (y - start[1]) / (end[1] - start[1]) * (end[0] - start[0])
        for start, end in edges
    )
    return count % 2 == 1
