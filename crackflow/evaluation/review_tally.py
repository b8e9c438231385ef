"""What reviews (reviews.json) say of the findings in a run of crackflow.predict, over all its photographs.

Synopsis::

    tally = review_tally.ReviewTally(["reviews.json", "ann.json"])
    tally.require_same_photo("wall.jpg", sha256)           # UserError: another photograph was reviewed by that name
    tally.add(sha256, prediction.findings, threshold)
    tally.summary(), tally.describe()                      # for findings.json, and one line
"""

import hashlib
import json
from collections.abc import Sequence

from crackflow.core.errors import UserError
from crackflow.data import reviews
from crackflow.evaluation import metrics
from crackflow.inference import review_agreement
from crackflow.inference.predictor import Finding
from crackflow.inference.review_agreement import ReviewAgreement

NOT_JUDGED = "not_judged"


class ReviewTally:
    """The findings that were added, counted by their verdicts.

    Args:
        files: paths of reviews.json, one or more.

    Raises:
        UserError: a file can't be used.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files = tuple(files)
        self._merged = reviews.merge([reviews.read(path) for path in files])
        self._photos = {photo.sha256: photo for photo in self._merged.reviews.photographs}
        self._digests: dict[str, set[str]] = {}
        for photo in self._merged.reviews.photographs:
            self._digests.setdefault(photo.path, set()).add(photo.sha256)
        self._agreements: dict[str, ReviewAgreement] = {}
        self._counts = {True: dict.fromkeys((*reviews.VERDICTS, NOT_JUDGED), 0)}  # by: at or above the threshold
        self._counts[False] = dict(self._counts[True])

    @property
    def content(self) -> dict:
        """The merged reviews as the content of a reviews.json."""
        return reviews.as_dict(self._merged.reviews)

    @property
    def sha256(self) -> str:
        """Of the merged reviews: equal reviews give equal results."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    @property
    def conflicts(self) -> int:
        """How often two files disagree about a box."""
        return self._merged.conflicts

    def names(self, path: str) -> bool:
        """Whether a photograph named `path` was reviewed."""
        return path in self._digests

    def require_same_photo(self, path: str, sha256: str) -> None:
        """Raises: UserError if photographs of the name `path` were reviewed, and `sha256` is that of none of them."""
        if sha256 not in self._digests.get(path, {sha256}):
            reviewed = " or ".join(digest[:12] for digest in sorted(self._digests[path]))
            raise UserError(
                f"--reviews: expected the photograph {path!r} that was reviewed (SHA-256 {reviewed}...), received "
                f"another one of that name ({sha256[:12]}...); rename it, or leave the review out"
            )

    def add(self, sha256: str, findings: Sequence[Finding], threshold: float) -> None:
        """Counts the findings in a photograph. A copy of a photograph that was added before counts once.

        Args:
            sha256: of the photograph.
            findings: in the photograph.
            threshold: cracked from this probability on, 0..1.
        """
        if sha256 in self._agreements or sha256 not in self._photos:
            return
        agreement = review_agreement.compare(findings, self._photos[sha256], threshold)
        self._agreements[sha256] = agreement
        for finding, verdict in zip(findings, agreement.verdicts, strict=True):
            self._counts[finding.probability >= threshold][verdict or NOT_JUDGED] += 1

    def absent(self) -> list[str]:
        """The names of the reviewed photographs that were not added."""
        return [photo.path for sha256, photo in self._photos.items() if sha256 not in self._agreements]

    def summary(self) -> dict:
        """The entry `reviews` of findings.json.

        Precision is that of the findings at or above the threshold that were called crack or not a crack. Recall is
        that of the cracks with a verdict in photographs that were looked through. Both are None where nothing is known.
        """
        counts = self._counts[True]
        right, judged = counts[reviews.CRACK], counts[reviews.CRACK] + counts[reviews.NOT_A_CRACK]
        cracks = sum(len(agreement.cracks) for agreement in self._agreements.values())
        missed = sum(len(agreement.missed) for agreement in self._agreements.values())
        photos = [self._photos[sha256] for sha256 in self._agreements]
        return {
            "files": list(self._files),
            "reviewers": sorted({verdict.reviewer for photo in photos for verdict in photo.verdicts} - {""}),
            "conflicts": self.conflicts,
            "photographs": len(photos),
            "photographs_looked_through": sum(photo.looked_through for photo in photos),
            "photographs_absent": len(self.absent()),
            "findings": dict(counts),
            "findings_below_threshold": dict(self._counts[False]),
            "precision": right / judged if judged else None,
            "precision_ci95": list(metrics.wilson(right, judged)) if judged else None,
            "cracks_looked_through": cracks,
            "missed_cracks": missed,
            "recall": (cracks - missed) / cracks if cracks else None,
            "recall_ci95": list(metrics.wilson(cracks - missed, cracks)) if cracks else None,
        }

    def describe(self) -> str:
        """`summary` in one line."""
        summary = self.summary()
        counts = summary["findings"]
        parts = [
            f"{sum(counts.values()) - counts[NOT_JUDGED]:,} of {sum(counts.values()):,} findings judged in "
            f"{_photographs(summary['photographs'])}"
        ]
        if summary["precision"] is not None:
            low, high = summary["precision_ci95"]
            parts.append(f"precision {100 * summary['precision']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
        if summary["recall"] is not None:
            parts.append(
                f"{summary['missed_cracks']:,} of {summary['cracks_looked_through']:,} cracks missed in the "
                f"{_photographs(summary['photographs_looked_through'])} looked through"
            )
        if self.conflicts:
            parts.append(f"two files disagree about {self.conflicts:,}, and the newest verdict counts")
        return "reviews: " + "; ".join(parts)


def _photographs(count: int) -> str:
    return f"{count:,} photograph{'s' * (count != 1)}"
