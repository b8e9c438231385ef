import base64
import dataclasses
import hashlib
import json
import re

from crackflow.report import findings_page
from tests.helpers import review_files, support
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
WITH_DIGESTS = CONTENT | {"photos": [{"path": "wall.jpg", "sha256": DIGEST}]}


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
    other_photo = CONTENT | {"photos": [{"path": "wall.jpg", "sha256": "2" * 64}]}
    moved = CONTENT | {"photos": [{"path": "moved/wall.jpg", "sha256": DIGEST}]}
    contents = ((WITH_DIGESTS, None), (other_model, None), (other_photo, None), (WITH_DIGESTS, review_files.content()))
    keys = [storage_key(page.render(content, 1, "", earlier)) for content, earlier in contents]
    assert len(set(keys)) == 4 and storage_key(page.render(moved, 1, "")) == keys[0]
