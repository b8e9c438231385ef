"""The most common reason for which files were rejected.

Synopsis::

    rejections.most_common([("a.jpg", "empty file"), ("b.jpg", "empty file"), ("c.jpg", "not an image")])
    # "2 of 3 rejected, such as 'a.jpg': empty file"
"""

import collections
import re
from collections.abc import Sequence


def most_common(rejected: Sequence[tuple[str, str]]) -> str:
    """Describes the most common reason, with its count and its first path; empty when nothing was rejected.

    Reasons that differ only in names and numbers count as the same.

    Args:
        rejected: (path, reason) of each file.
    """
    if not rejected:
        return ""
    counts = collections.Counter(_normalize_reason(reason) for _, reason in rejected)
    common, count = counts.most_common(1)[0]
    path, reason = next(row for row in sorted(rejected) if _normalize_reason(row[1]) == common)
    if len(rejected) == 1:
        return f"1 was rejected, {path!r}: {reason}"
    return f"{count:,} of {len(rejected):,} rejected, such as {path!r}: {reason}"


def _normalize_reason(reason: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*", "_", reason)
