"""The figures of an inspection: verdicts, lengths and widths of findings.json, summed up for the page of findings.

Synopsis::

    summary = inspection.summarise(content)                # of findings.json
    summary.headline                                       # '3 of 12 photographs cracked, 2 for human review, 7 clean'
    summary.cracked_length                                 # Total(value=2310.0, unit='mm', known=14, count=16), or None
    row = inspection.photo_row(content["photos"][0])
    row.longest, row.findings[0].width_max                 # Measure(value=612.0, unit='mm', ...), or None

Sums are never of millimetres and pixels together. What findings.json does not say is None here.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MM, PX = "mm", "px"
COMPASS = ("N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW")


class Measure(NamedTuple):
    """A length or a width.

    Attributes:
        value: in `unit`.
        unit: mm or px.
        low: lower bound of the 95 % interval, or None.
        high: upper bound of the 95 % interval, or None.
        at: x and y in pixels of the photograph, or None.
    """

    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    at: tuple[float, float] | None = None


class Total(NamedTuple):
    """A sum of lengths.

    Attributes:
        value: in `unit`.
        unit: mm or px.
        known: the number of findings in the sum.
        count: the number of findings, also of those without a length in this unit.
    """

    value: float
    unit: str
    known: int
    count: int


class FindingRow(NamedTuple):
    """A finding in the table.

    Attributes:
        path: of its photograph.
        number: its number in the photograph, from 1.
        decision: cracked or review.
        probability: 0..1.
        box: x, y, width and height in pixels of the photograph.
        length: along the middle of the crack, or None.
        length_note: why there is no length, or "".
        width_median: the median width, or None.
        width_p95: the width that 95 % of the crack does not exceed, or None.
        width_max: the largest width, and the position that it has, or None.
        width_note: what to know of the width, or "".
    """

    path: str
    number: int
    decision: str
    probability: float
    box: tuple[float, float, float, float]
    length: Measure | None
    length_note: str
    width_median: Measure | None
    width_p95: Measure | None
    width_max: Measure | None
    width_note: str

    @property
    def position(self) -> tuple[float, float]:
        """x and y in pixels: where the crack is widest, or the centre of its box."""
        if self.width_max and self.width_max.at:
            return self.width_max.at
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


class PhotoRow(NamedTuple):
    """A photograph in the table.

    Attributes:
        path: of the photograph.
        decision: cracked, review or clean.
        probability: 0..1.
        findings: its findings.
        length: the sum of their lengths, or None if none is known.
        longest: the longest of them, or None.
        widest: the widest of them, or None.
    """

    path: str
    decision: str
    probability: float
    findings: list[FindingRow]
    length: Total | None
    longest: Measure | None
    widest: Measure | None


class InspectionSummary(NamedTuple):
    """What an inspection says as a whole. Lengths and widths are in mm: pixels of two photographs are not comparable.

    Attributes:
        photographs: the number of photographs by decision: cracked, review and clean.
        findings: the number of findings by decision: cracked and review.
        cracked_length: of findings that are decided to be cracks; None if no length is known in mm.
        review_length: of findings for human review; None if no length is known in mm.
        longest: the longest crack, None if no length is known in mm.
        widest: the widest crack, None if no width is known in mm.
        measured_widths: the number of cracks whose width is known in mm.
        without_scale: the number of photographs with findings and without a length or width in mm.
        measurable_mm: the least and the largest width in mm from which on widths are measured, over all photographs
            of which that is known, or None.
        warned: the number of photographs with warnings.
    """

    photographs: dict[str, int]
    findings: dict[str, int]
    cracked_length: Total | None
    review_length: Total | None
    longest: FindingRow | None
    widest: FindingRow | None
    measured_widths: int
    without_scale: int
    measurable_mm: tuple[float, float] | None
    warned: int

    @property
    def total(self) -> int:
        return sum(self.photographs.values())

    @property
    def headline(self) -> str:
        total, counts = self.total, self.photographs
        return (
            f"{counts['cracked']:,} of {total:,} photograph{'' if total == 1 else 's'} cracked, "
            f"{counts['review']:,} for human review, {counts['clean']:,} clean"
        )


def summarise(content: dict) -> InspectionSummary:
    """Sums up the content of findings.json."""
    photos = content.get("photos", ())
    rows = [photo_row(photo) for photo in photos]
    findings = [finding for row in rows for finding in row.findings]
    cracks = [finding for finding in findings if finding.decision == "cracked"]
    doubtful = [finding for finding in findings if finding.decision != "cracked"]
    in_mm = [finding for finding in cracks if _in_mm(finding.width_max)]
    limits = [photo["width_limits"].get("measurable_mm") for photo in photos if photo.get("width_limits")]
    limits = [limit for limit in limits if limit is not None]
    return InspectionSummary(
        photographs={name: sum(row.decision == name for row in rows) for name in ("cracked", "review", "clean")},
        findings={"cracked": len(cracks), "review": len(doubtful)},
        cracked_length=_total(cracks, (MM,)),
        review_length=_total(doubtful, (MM,)),
        longest=max((finding for finding in cracks if _in_mm(finding.length)), key=_length, default=None),
        widest=max(in_mm, key=_width, default=None),
        measured_widths=len(in_mm),
        without_scale=sum(bool(row.findings) and not _has_mm(row) for row in rows),
        measurable_mm=(min(limits), max(limits)) if limits else None,
        warned=sum(bool(photo.get("warnings")) for photo in photos),
    )


def photo_row(photo: dict) -> PhotoRow:
    """The row of an entry of `photos` in findings.json."""
    findings = [_finding_row(photo["path"], number, entry) for number, entry in enumerate(photo["findings"], 1)]
    return PhotoRow(
        path=photo["path"],
        decision=photo["decision"],
        probability=photo["probability"],
        findings=findings,
        length=_total(findings, (MM, PX)),
        longest=_largest(finding.length for finding in findings),
        widest=_largest(finding.width_max for finding in findings),
    )


def mm_per_px(photo: dict, content: dict) -> float | None:
    """The size of a pixel of a photograph: of its own scale, or of all photographs; None if it is unknown."""
    own = (photo.get("scale") or {}).get("mm_per_px")
    return own or content.get("mm_per_px") or None


def place_in_words(place: dict | None) -> str:
    """'52.10010, 13.40000 (± 5 m), altitude 41 m, camera towards 20° (NNE)', or "" if nothing is known."""
    if not place:
        return ""
    parts = []
    if place.get("latitude") is not None and place.get("longitude") is not None:
        uncertainty = place.get("uncertainty_m")
        within = "" if uncertainty is None else f" (± {uncertainty:.3g} m)"
        parts.append(f"{place['latitude']:.5f}, {place['longitude']:.5f}{within}")
    if place.get("altitude_m") is not None:
        parts.append(f"altitude {place['altitude_m']:,.0f} m")
    if place.get("heading_deg") is not None:
        heading = place["heading_deg"] % 360
        parts.append(f"camera towards {heading:.0f}° ({COMPASS[round(heading / 22.5) % 16]})")
    return ", ".join(parts)


def length_text(measure: Measure | Total | None) -> str:
    """'612 mm', '1,250 px', '4.2 mm'; "" for None."""
    if measure is None:
        return ""
    digits = 0 if measure.value >= 10 else 1
    return f"{measure.value:,.{digits}f}\u00a0{measure.unit}"


def total_text(total: Total) -> str:
    """'2.31 m', from a metre on, or '612 mm'."""
    if total.unit == MM and total.value >= 1000:
        return f"{total.value / 1000:,.2f}\u00a0m"
    return length_text(total)


def width_text(measure: Measure | None) -> str:
    """'0.24 mm', '4.1 px'; "" for None."""
    return "" if measure is None else f"{_width_number(measure.value, measure.unit)}\u00a0{measure.unit}"


def interval_text(measure: Measure | None) -> str:
    """'0.19 to 0.31'; "" without an interval."""
    if measure is None or measure.low is None or measure.high is None:
        return ""
    low, high = (_width_number(bound, measure.unit) for bound in (measure.low, measure.high))
    return f"{low}\u00a0to\u00a0{high}"


def sort_value(measure: Measure | Total | None, unit: str) -> str:
    """The number by which a column in `unit` is sorted; "", which comes last, if it is not known in that unit."""
    return "" if measure is None or measure.unit != unit else f"{measure.value:.6g}"


def _width_number(value: float, unit: str) -> str:
    return f"{value:,.2f}" if unit == MM else f"{value:,.1f}"


def _finding_row(path: str, number: int, finding: dict) -> FindingRow:
    widths, unit = finding.get("width_mm"), MM
    if not widths:
        widths, unit = finding.get("width_px") or {}, PX
    median, p95, largest = (_width_measure(widths.get(name), unit) for name in ("median", "p95", "max"))
    return FindingRow(
        path=path,
        number=number,
        decision=finding["decision"],
        probability=finding["probability"],
        box=tuple(finding["box"]),
        length=_length_measure(finding),
        length_note=finding.get("length_note") or "",
        width_median=median,
        width_p95=p95,
        width_max=largest,
        width_note=finding.get("width_note") or "",
    )


def _length_measure(finding: dict) -> Measure | None:
    for unit in (MM, PX):
        value = finding.get(f"length_{unit}_estimate")
        if value is not None:
            return Measure(value, unit)
    return None


def _width_measure(figures: dict | None, unit: str) -> Measure | None:
    if not figures or figures.get("value") is None:
        return None
    at = figures.get("at")
    return Measure(figures["value"], unit, figures.get("low"), figures.get("high"), tuple(at) if at else None)


def _total(findings: Sequence[FindingRow], units: Iterable[str]) -> Total | None:
    """The sum in the first of `units` in which a length is known."""
    for unit in units:
        values = [finding.length.value for finding in findings if finding.length and finding.length.unit == unit]
        if values:
            return Total(math.fsum(values), unit, len(values), len(findings))
    return None


def _largest(measures: Iterable[Measure | None]) -> Measure | None:
    """The largest in mm, or the largest in pixels if none is known in mm."""
    known = [measure for measure in measures if measure is not None]
    return max(known, key=lambda measure: (measure.unit == MM, measure.value), default=None)


def _in_mm(measure: Measure | None) -> bool:
    return measure is not None and measure.unit == MM


def _has_mm(row: PhotoRow) -> bool:
    return any(_in_mm(finding.length) or _in_mm(finding.width_max) for finding in row.findings)


def _length(finding: FindingRow) -> float:
    return finding.length.value if finding.length else 0.0


def _width(finding: FindingRow) -> float:
    return finding.width_max.value if finding.width_max else 0.0
