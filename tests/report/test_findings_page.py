import dataclasses
import re

from crackflow.report import findings_page
from tests.helpers import support
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
