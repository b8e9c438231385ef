import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.report import inspection
from tests.helpers import inspections

LENGTHS = st.lists(st.none() | st.floats(0.1, 1e5), max_size=8)


def finding(length_px=None, length_mm=None, decision="cracked", **keys):
    lengths = {"length_px_estimate": length_px, "length_mm_estimate": length_mm, "length_note": None}
    return {"box": [10, 20, 60, 30], "polygons": [], "probability": 0.9, "decision": decision} | lengths | keys


def photo(*findings, decision="cracked", path="wall.jpg", **keys):
    figures = {"path": path, "decision": decision, "probability": 0.9, "warnings": []}
    return figures | {"findings": list(findings)} | keys


def summarise(*photos):
    return inspection.summarise({"photos": list(photos)})


def widths(value, at=(1, 2)):
    return {"median": inspections.estimate(value / 2), "p95": None, "max": inspections.estimate(value, at=list(at))}


def test_the_headline_counts_photographs_by_decision():
    photos = [photo(decision=name) for name in ("cracked", "clean", "review", "clean")]
    assert summarise(*photos).headline == "1 of 4 photographs cracked, 1 for human review, 2 clean"
    assert summarise(photos[0]).headline == "1 of 1 photograph cracked, 0 for human review, 0 clean"


@given(LENGTHS, LENGTHS)
def test_lengths_add_up_to_those_of_the_photographs(cracked, review):
    cracks = [finding(1.0, length) for length in cracked]
    doubtful = [finding(1.0, length, "review") for length in review]
    content = [photo(*cracks[::2], *doubtful[::2]), photo(*cracks[1::2], *doubtful[1::2])]
    summary = summarise(*content)
    totals = [total for total in (summary.cracked_length, summary.review_length) if total]
    rows = [inspection.photo_row(entry).length for entry in content]
    by_photo = sum(total.value for total in rows if total and total.unit == "mm")
    assert sum(total.value for total in totals) == pytest.approx(by_photo)
    known = [length for length in cracked if length is not None]
    assert (summary.cracked_length is None) == (not known)
    if known:
        assert summary.cracked_length == (pytest.approx(sum(known)), "mm", len(known), len(cracked))
        assert summary.longest.length.value == max(known)


def test_millimetres_and_pixels_are_never_added():
    row = inspection.photo_row(photo(finding(400.0, 20.0), finding(900.0)))
    assert row.length == (20.0, "mm", 1, 2) and row.longest.value == 20.0
    assert inspection.photo_row(photo(finding(400.0), finding(900.0), finding())).length == (1300.0, "px", 2, 3)


def test_pixels_of_several_photographs_are_not_summed_up():
    summary = summarise(photo(finding(400.0)), photo(finding(900.0, width_px=widths(5.0))))
    assert summary.cracked_length is summary.longest is summary.widest is None
    assert summary.without_scale == 2 and summary.findings == {"cracked": 2, "review": 0}


def test_the_widest_crack_is_that_with_the_largest_width_in_mm():
    thin, wide = finding(width_mm=widths(0.2)), finding(width_mm=widths(0.4, (7, 8)))
    doubtful = finding(decision="review", width_mm=widths(0.9))
    summary = summarise(photo(thin, wide, path="a.jpg"), photo(doubtful, finding(width_px=widths(50.0))))
    assert (summary.widest.path, summary.widest.number) == ("a.jpg", 2)
    assert summary.widest.width_max == (0.4, "mm", 0.32, 0.48, (7, 8)) and summary.measured_widths == 2
    assert summary.widest.position == (7, 8) and summary.widest.width_p95 is None


def test_the_position_of_a_finding_without_a_width_is_the_centre_of_its_box():
    (row,) = inspection.photo_row(photo(finding())).findings
    assert row.position == (40, 35) and row.width_max is row.length is None


def test_a_width_in_mm_comes_before_one_in_pixels():
    row = inspection.photo_row(
        photo(finding(width_mm=widths(0.2), width_px=widths(9.0)), finding(width_px=widths(9.0)))
    )
    assert row.widest == row.findings[0].width_max and row.widest.unit == "mm"
    assert row.findings[1].width_max.unit == "px"


def test_what_is_not_known_is_none():
    summary = summarise()
    assert summary.total == 0 and summary.widest is summary.measurable_mm is summary.cracked_length is None


def test_limits_of_measuring_are_those_of_the_finest_and_the_coarsest_photograph():
    limits = [{"width_limits": {"measurable_mm": value}} for value in (0.3, 0.12, None)]
    summary = summarise(*(photo(**keys) for keys in limits), photo(width_limits=None, warnings=["dark"]))
    assert summary.measurable_mm == (0.12, 0.3) and summary.warned == 1


@pytest.mark.parametrize(
    "place, text",
    [
        (None, ""),
        ({"latitude": 52.1001, "longitude": -13.4}, "52.10010, -13.40000"),
        ({"latitude": 0.0, "longitude": 0.0, "uncertainty_m": 5}, "0.00000, 0.00000 (± 5 m)"),
        ({"altitude_m": 41.4, "heading_deg": 20.0}, "altitude 41 m, camera towards 20° (NNE)"),
        ({"latitude": None, "heading_deg": 355}, "camera towards 355° (N)"),
        ({"crs": "EPSG:25833", "transform": [1, 0, 0, 0, 1, 0]}, ""),
    ],
)
def test_a_place_is_described_as_far_as_it_is_known(place, text):
    assert inspection.place_in_words(place) == text


@pytest.mark.parametrize(
    "photo_keys, content, size",
    [
        ({"scale": {"mm_per_px": 0.05}}, {"mm_per_px": 0.4}, 0.05),
        ({"scale": None}, {"mm_per_px": 0.4}, 0.4),
        ({}, {"mm_per_px": None}, None),
    ],
)
def test_the_scale_of_a_photograph_comes_before_that_of_all(photo_keys, content, size):
    assert inspection.mm_per_px(photo_keys, content) == size


def test_figures_are_written_with_their_unit():
    measure, total = inspection.Measure, inspection.Total
    assert inspection.length_text(measure(1250.4, "px")) == "1,250\u00a0px"
    assert inspection.length_text(measure(4.21, "mm")) == "4.2\u00a0mm" and inspection.length_text(None) == ""
    assert inspection.total_text(total(2310.0, "mm", 1, 1)) == "2.31\u00a0m"
    assert inspection.total_text(total(2310.0, "px", 1, 1)) == "2,310\u00a0px"
    assert inspection.total_text(total(612.0, "mm", 1, 1)) == "612\u00a0mm"
    assert inspection.width_text(measure(0.238, "mm")) == "0.24\u00a0mm" and inspection.width_text(None) == ""
    assert inspection.interval_text(measure(4.0, "px", 3.21, 5.0)) == "3.2\u00a0to\u00a05.0"
    assert inspection.interval_text(measure(4.0, "px")) == inspection.interval_text(None) == ""


def test_a_column_is_sorted_by_figures_of_its_unit_alone():
    assert inspection.sort_value(inspection.Measure(40.0, "mm"), "mm") == "40"
    assert inspection.sort_value(inspection.Measure(40.0, "px"), "mm") == inspection.sort_value(None, "mm") == ""
