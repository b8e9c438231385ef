import os
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crackflow.core import escaping

LETTERS = "=+-@;'\"\\x1bu202e \t\r\n\x1b\x9b\u202e\u2066\u200f\ufeff\udc9b\u2028\U000e0041,ä裂9.e"
HOSTILE = st.text(st.sampled_from(LETTERS))
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("\x1b]0;owned\x07a.jpg", "\\x1b]0;owned\\x07a.jpg"),
        ("\x9b2Ja", "\\x9b2Ja"),  # an 8-bit terminal reads it as ESC [
        ("wall\u202egpj.exe", "wall\\u202egpj.exe"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("a\u2028b\u2029c\x85d\x0be\x0cf", "a\\u2028b\\u2029c\\x85d\\x0be\\x0cf"),
        ("zero\u200bwidth\ufeff\u00ad\u2060", "zero\\u200bwidth\\ufeff\\xad\\u2060"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("\udcff", "\\udcff"),
        ("Wände 裂 عربى \u00a0 [red]x[/red] 🧱", "Wände 裂 عربى \u00a0 [red]x[/red] 🧱"),
    ],
)
def test_what_acts_or_is_not_seen_becomes_its_code_and_all_else_stays(text, expected):
    assert escaping.one_line(text) == expected


def test_lines_that_are_meant_stay():
    assert escaping.visible("a\nb\x1b\r", keep="\n") == "a\nb\\x1b\\r"


@given(st.text() | HOSTILE | st.binary().map(os.fsdecode))
def test_whatever_comes_is_one_line_that_any_stream_can_hold(text):
    line = escaping.one_line(text)
    assert len(line.splitlines()) <= 1 and not re.search(
        "[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", line
    )
    line.encode("utf-8")


@given(st.text() | HOSTILE)
@example("'=1").via("an apostrophe of its own")
@example("''\t@x").via("two")
@example("\\x1b").via("what looks escaped")
@example("\\\\x5cx1b").via("what looks escaped twice")
@example("\\\x1b").via("a backslash before what is escaped")
@example("a;=1").via("a cell within a cell")
def test_a_cell_comes_back_as_it_went_out_and_is_no_formula_on_the_way(text):
    cell = escaping.to_cell(text)
    assert escaping.from_cell(cell) == text
    assert escaping.one_line(cell) == cell
    for part in cell.split(";"):
        assert part[:1] not in ("=", "@", "+", "-") or escaping.NUMBER.fullmatch(cell)


@pytest.mark.parametrize("number", ["-0.25", "+1e-05", "-7", "-122.4194", "-1.5E+3", "-.5", "-5."])
def test_a_number_stays_a_number(number):
    assert escaping.to_cell(number) == escaping.from_cell(number) == number


@pytest.mark.parametrize("text", ["-1+1", "+1-1", "-2+cmd|' /C calc'!A0", "=1", "@SUM(1)", "-", "＝1+1", " =1", "-1 "])
def test_what_only_begins_like_a_number_is_none(text):
    assert escaping.to_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["site/wall 1.jpg", "it's", "'a", "C:\\walls\\x.jpg", "a=b", "a-b", "a;b", "", "裂"])
def test_a_plain_name_stays_as_it_is(text):
    assert escaping.to_cell(text) == escaping.from_cell(text) == text
