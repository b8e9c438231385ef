import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.core import checked_json

CONTENT = {"a": 1, "10": [1.5, None, "é"], "9": {"b": True}}


def test_what_was_sealed_comes_back():
    assert checked_json.strip_checksum(json.loads(json.dumps(checked_json.add_checksum(CONTENT)))) == CONTENT
    assert checked_json.strip_checksum(checked_json.add_checksum({2: (1, 2)})) == {"2": [1, 2]}


def test_content_without_a_checksum_is_accepted_as_it_is():
    assert checked_json.strip_checksum(CONTENT) == CONTENT


@given(st.data())
def test_no_bit_that_turns_gives_other_content(data):
    text = bytearray(json.dumps(checked_json.add_checksum(CONTENT)).encode())
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        content = checked_json.strip_checksum(json.loads(text.decode()))
    except ValueError:  # from JSON, from UTF-8 or from the checksum
        return
    # A bit in the key of the checksum itself: the rest is as it was.
    assert {name: content[name] for name in CONTENT} == CONTENT


@pytest.mark.parametrize("content", [[], None, 3])
def test_what_is_no_object_is_refused(content):
    with pytest.raises(ValueError, match="expected an object"):
        checked_json.strip_checksum(content)


@pytest.mark.parametrize("text, reason", [("[" * 100_000, "its brackets are nested without end"), ("{", "Expecting")])
def test_a_file_that_is_not_what_was_written_is_refused(text, reason, tmp_path):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(checked_json.add_checksum(CONTENT)))
    assert checked_json.read(str(path)) == CONTENT
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        checked_json.read(str(path))
