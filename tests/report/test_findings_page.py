import base64
import dataclasses
import hashlib
import io
import json
import re

import numpy as np
from PIL import Image

from crackflow.report import findings_page
from tests.helpers import inspections, predictions, review_files, support
from tests.helpers.predictions import CONTENT, FOUND, photo


def render_page(*photos, most=10, content=CONTENT):
    page = findings_page.FindingsPage(most)
    for prediction in photos:
        page.add(prediction, support.picture(0, 100, 64))
    return page.render(content, len(photos), "--photos=a\n")


def test_photographs_come_with_the_most_probable_first():
    text = render_page(photo("low.jpg", 0.1, (), "clean"), photo("high.jpg", 0.99), photo("middle.jpg", 0.5))
    assert text.index("high.jpg") < text.index("middle.jpg") < text.index("low.jpg")


def test_of_equal_ones_the_first_comes_first():
    text = render_page(photo("b.jpg"), photo("a.jpg"))
    assert text.index("b.jpg") < text.index("a.jpg")


def test_only_the_most_probable_are_kept_and_the_page_says_so():
    text = render_page(*(photo(f"{number}.jpg", number / 10) for number in range(9)), most=2)
    assert text.count("<svg") == 2 and "8.jpg" in text and "7.jpg" in text and "6.jpg" not in text
    assert "The 2 most probable are shown" in text


def test_outlines_and_figures_are_there():
    text = render_page(photo())
    assert text.count("<polygon") == 2 and 'points="10.0,20.0 70.0,20.0 70.0,50.0 "' in text
    assert "<td>no line</td>" in text and "61" in text and "length in mm" not in text


def test_what_is_too_small_to_be_called_clean_is_left_to_a_person_at_any_threshold():
    text = render_page(
        photo("small.jpg", 0.1, (), "review"), photo("band.jpg", 0.5, (), "review"), photo("c.jpg", 0.2, (), "clean")
    )
    below = dict(zip(("band.jpg", "c.jpg", "small.jpg"), re.findall('data-below="(.*?)"', text), strict=True))
    assert below == {"band.jpg": "clean", "c.jpg": "clean", "small.jpg": "review"}
    assert 'threshold ? "cracked" : photo.dataset.below' in text


def test_millimetres_are_shown_where_they_are_known():
    finding = FOUND._replace(length_mm=30.6)
    assert "length in mm, estimated" in render_page(photo(findings=(finding,)), content=CONTENT | {"mm_per_px": 0.5})


def test_warnings_are_shown():
    assert "looks unlike" in render_page(photo(warnings=["it looks unlike the training images"]))


def test_names_cannot_put_anything_into_the_page():
    text = render_page(photo('"><script>alert(1)</script>\n\udcff.jpg'))
    assert "<script>alert" not in text and "&lt;script&gt;" in text
    text.encode("utf-8")


def test_the_page_needs_nothing_from_elsewhere():
    text = render_page(photo())
    assert "default-src 'none'" in text and "http://" not in text and "https://" not in text


def test_none_is_kept_when_none_is_wanted():
    assert render_page(photo(), most=0).count("<svg") == 0


def test_a_photograph_without_findings_is_shown_as_it_is():
    text = render_page(dataclasses.replace(photo(findings=(), decision="clean"), probability=0.01))
    assert "<polygon" not in text and "clean" in text


DIGEST = "1" * 64
WITH_DIGESTS = CONTENT | {"photos": [predictions.entry(photo(), DIGEST)]}


def storage_key(text):
    return re.search('data-key="(crackflow-review-[0-9a-f]{64})"', text)[1]


def test_what_a_review_needs_is_in_the_page():
    text = render_page(photo(), content=WITH_DIGESTS)
    assert f'data-sha256="{DIGEST}"' in text and "data-path='\"wall.jpg\"'" in text
    assert f'data-crackflow="0.1.0" data-model="{"a" * 64}"' in text
    assert 'data-box="10.0 20.0 60.0 30.0"' in text and 'data-box="80.0 5.0 10.0 10.0"' in text


def test_tools_of_the_review_are_hidden_until_a_script_shows_them():
    text = render_page(photo(), content=WITH_DIGESTS)
    assert re.search('<div class="panel" id="review" hidden', text)
    assert re.search('<div class="toolbar" id="current"[^>]* hidden>', text)


def test_the_policy_allows_the_one_script_of_the_page_and_no_other():
    text = render_page(photo(), content=WITH_DIGESTS)
    (script,) = re.findall("<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'\"" in text
    assert "function zoom" in script and "function absorb" in script


def test_the_path_of_a_photograph_reaches_the_review_exactly():
    name = "it's \"<b>\x1b\u202e.jpg"
    text = render_page(photo(name), content=WITH_DIGESTS)
    (path,) = re.findall("data-path='(.*?)'", text)
    assert path.isascii() and not set(path) & set("<>&'") and json.loads(path) == name


def test_earlier_reviews_are_in_the_page_as_data_and_nothing_else():
    earlier = review_files.content() | {"reviewer": "</script><script>alert(1)</script>\u2028'\x1b"}
    page = findings_page.FindingsPage(10)
    page.add(photo(), support.picture(0, 100, 64))
    text = page.render(WITH_DIGESTS, 1, "", earlier)
    (embedded,) = re.findall('<script type="application/json" id="earlier">(.*?)</script>', text)
    assert embedded.isascii() and not set(embedded) & set("<>&'") and json.loads(embedded) == earlier
    assert 'id="earlier"' not in page.render(WITH_DIGESTS, 1, "")


def test_the_browser_stores_a_review_by_model_photographs_and_earlier_reviews():
    page = findings_page.FindingsPage(10)
    other_model = WITH_DIGESTS | {"model": CONTENT["model"] | {"sha256": "b" * 64}}
    other_photo = CONTENT | {"photos": [predictions.entry(photo(), "2" * 64)]}
    moved = CONTENT | {"photos": [predictions.entry(photo("moved/wall.jpg"), DIGEST)]}
    contents = ((WITH_DIGESTS, None), (other_model, None), (other_photo, None), (WITH_DIGESTS, review_files.content()))
    keys = [storage_key(page.render(content, 1, "", earlier)) for content, earlier in contents]
    assert len(set(keys)) == 4 and storage_key(page.render(moved, 1, "")) == keys[0]


def render_inspection(photos=7, cracks=3, most=10, **changes):
    items, content = inspections.inspection(photos, cracks)
    page = findings_page.FindingsPage(most)
    for prediction, picture, _ in items:
        page.add(prediction, picture)
    return page.render(content | changes, photos, "--photos=a\n"), content


def table(text, name):
    """The rows of a table of the page, each a list of the words in its cells."""
    body = re.search(f'id="{name}">.*?<tbody>(.*?)</tbody>', text, re.S)[1]
    cells = (re.findall("<td.*?>(.*?)</td>", row, re.S) for row in re.findall("<tr.*?</tr>", body, re.S))
    return [[re.sub("<.*?>", " ", cell).strip().replace("\u00a0", " ") for cell in row] for row in cells]


def test_the_summary_says_verdicts_lengths_and_widths():
    text = render_inspection()[0].replace("\u00a0", " ")
    summary = re.search('id="summary".*?</section>', text, re.S)[0]
    assert "5 of 7 photographs cracked, 0 for human review, 2 clean; total length" in summary
    assert re.search(r"widest crack 0\.\d\d mm", summary) and re.search(r"95 %: 0\.\d\d to 0\.\d\d", summary)
    assert re.search("<dt>Date of this page</dt><dd>20\\d\\d-\\d\\d-\\d\\d</dd>", summary)
    assert "crackflow_s, file aaaaaaaaaaaa" in summary and "crackflow 0.1.0" in summary
    assert re.findall("<div>(Name|Date|Signature)</div>", summary) == ["Name", "Date", "Signature"]


def test_without_a_scale_the_summary_has_no_length():
    text = render_page(photo(), content=WITH_DIGESTS)
    assert text.count("not known in mm") == 3 and "total length 61" not in text
    assert "1 photograph with findings and no scale" in text


def test_the_table_of_photographs_has_a_row_for_each_on_the_page():
    text, content = render_inspection(most=5)
    rows = table(text, "photographs")
    probabilities = [float(row[3]) for row in rows]
    assert len(rows) == 5 and probabilities == sorted(probabilities, reverse=True)
    entries = {photo["path"]: photo for photo in content["photos"]}
    row = next(row for row in rows if row[1].startswith("bridge 7"))
    findings = entries[inspections.HARD_NAMES[0]]["findings"]
    total = sum(finding["length_mm_estimate"] for finding in findings)
    assert row[2] == "cracked" and row[4] == str(len(findings)) and row[5].startswith(f"{total:.0f} mm")
    assert re.match(r"0\.\d\d mm +0\.\d\d to 0\.\d\d$", row[7])


def test_the_table_of_findings_has_all_of_them():
    text, content = render_inspection()
    rows = table(text, "findings")
    assert len(rows) == sum(len(photo["findings"]) for photo in content["photos"])
    assert {len(row) for row in rows} == {9} and any("thinner than can be resolved here" in row[5] for row in rows)


def test_a_table_has_no_widths_where_none_is_known():
    text = render_page(photo(), content=WITH_DIGESTS)
    assert [len(row) for row in table(text, "findings")] == [6, 6] and "median width" not in text
    assert "largest width" not in text and 'id="widths"' not in text


def test_rows_after_the_first_ones_wait_until_they_are_asked_for(monkeypatch):
    monkeypatch.setattr(findings_page, "DISPLAYED_ROWS", 4)
    text, _ = render_inspection()
    assert text.count('class="later"') == len(table(text, "findings")) - 4


def test_few_photographs_are_open_and_many_are_closed():
    assert render_inspection(photos=3)[0].count('<details class="sheet" open>') == 3
    assert render_inspection(photos=4)[0].count('<details class="sheet">') == 4


def test_a_thumbnail_is_a_small_jpeg():
    text, _ = render_inspection(photos=1)
    data = re.search('class="thumb" src="data:image/jpeg;base64,(.*?)"', text)[1]
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == "JPEG" and max(image.size) == findings_page.THUMBNAIL_PX


def test_a_grey_photograph_has_a_thumbnail():
    page = findings_page.FindingsPage(1)
    page.add(photo(), np.full((40, 60, 1), 90, np.uint8))
    assert page.render(WITH_DIGESTS, 1, "").count('class="thumb"') == 2


def test_widths_are_drawn_with_a_legend_where_they_are_measured():
    text, content = render_inspection()
    measured = sum("centerline" in finding for photo in content["photos"] for finding in photo["findings"])
    assert text.count('<g class="widths"') == measured > 0 and 'id="widths"' in text
    legends = re.findall('<ul class="legend".*?</ul>', text, re.S)
    with_widths = [
        photo for photo in content["photos"] if any("centerline" in finding for finding in photo["findings"])
    ]
    assert len(legends) == len(with_widths)
    assert any("0.2 to 0.3 mm" in legend for legend in legends) and any("2 to 4 px" in legend for legend in legends)


def test_place_heading_and_scale_are_there_only_where_they_are_known():
    text, content = render_inspection()
    with_place = sum(photo["place"] is not None for photo in content["photos"])
    assert text.count("Taken at 52.1") == text.count('class="north"') == with_place == 3
    assert "rotate(20deg)" in text and "0.05 mm per pixel, from a marker, ± 2 %" in text
    plain = render_page(photo(), content=WITH_DIGESTS)
    assert "Taken at" not in plain and 'class="north"' not in plain and "mm per pixel" not in plain


def test_hard_names_are_text_in_tables_too():
    text, _ = render_inspection()
    assert "<img src=x" not in text and "\u202e" not in text
    assert text.count("<bdi>&lt;img src=x onerror=alert(1)&gt;&amp;amp;.jpg</bdi>") >= 2


def test_a_photograph_that_findings_json_does_not_have_is_in_no_table():
    text = render_page(photo(), photo("other.jpg"), content=WITH_DIGESTS)
    assert text.count("<svg") == 2 and [row[1] for row in table(text, "photographs")] == ["wall.jpg"]
