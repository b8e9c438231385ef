"""The schemas of the JSON files, and the versions of these."""

import jsonschema
import pytest

from crackflow.core import json_schema
from crackflow.core.errors import UserError
from crackflow.data import reviews
from tests.helpers import review_files, schemas, support
from tests.helpers.findings_files import FINDINGS, OPTIONAL, PHOTO, PLACED, SHA, WITH_NEW_KEYS

NAMES = sorted(json_schema.VERSIONS)


@pytest.mark.parametrize("name", NAMES)
def test_each_schema_is_a_schema_and_names_its_version(name):
    schema = json_schema.load_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["schema_version"]["const"] == json_schema.VERSIONS[name]
    assert schema["$id"].endswith(f":{json_schema.VERSIONS[name]}")


def test_each_schema_belongs_to_a_file_that_is_written():
    files = {path.name for path in (support.ROOT / "crackflow/schemas").iterdir()}
    assert files == {name.replace(".json", ".schema.json") for name in NAMES}


def properties(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"].items()
        for part in schema.values():
            yield from properties(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from properties(part)


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_described(name):
    whole = json_schema.load_schema(name)
    silent = [
        key
        for key, part in properties(whole)
        if "description" not in part
        and "description" not in whole["$defs"].get(part.get("$ref", "").split("/")[-1], {})
    ]
    assert sorted(set(silent) - {"tn", "fp", "fn", "tp", "train", "val", "test", "recall_ci95"}) == []


def test_versions_are_the_first_key_and_replace_earlier_ones():
    content = json_schema.with_version("parity.json", {"images": 3, "schema_version": 0})
    assert list(content.items()) == [("schema_version", 1), ("images", 3)]


@pytest.mark.parametrize("version", [2, 0, 1.0, "1", None, True])
def test_a_version_that_is_not_known_is_refused(version):
    message = r"'a/findings.json': expected schema_version 1 of findings.json, received .*; use a crackflow that is as"
    with pytest.raises(UserError, match=message):
        json_schema.require_known("findings.json", {"schema_version": version}, "a/findings.json")


def test_files_without_a_version_are_accepted():
    for content in ({}, {"schema_version": 1}):
        assert json_schema.require_known("dataset.json", content, "dataset.json") is None  # and raises nothing


@pytest.mark.parametrize("content", [FINDINGS, WITH_NEW_KEYS], ids=["as it was", "with the optional keys"])
def test_findings_are_valid_and_every_damage_is_not(content):
    schemas.require_valid("findings.json", content)
    validator = schemas.validator("findings.json")
    allowed = [
        f"no {prefix}{key}" for key in OPTIONAL for prefix in ("photos/0/", "photos/0/findings/0/", "photos/0/place/")
    ]
    allowed += ["no photos/0/width_limits/" + key for key in PLACED["width_limits"]]
    allowed += ["no photos/0/scale/relative_error", "no photos/0/scale/marker", "photos/0/scale/marker"]
    allowed += [f"no machine/{key}" for key in FINDINGS["machine"]] + ["no versions/crackflow"]
    damages = list(schemas.damaged(content, keep={"photo_threshold"}))
    assert len(damages) > 100
    for name, damage in damages:
        assert validator.is_valid(damage) == (name in allowed), name


def test_findings_may_have_keys_that_nobody_knows_yet():
    later = FINDINGS | {"later": 1, "photos": [PHOTO | {"later": [1]}]}
    assert schemas.validator("findings.json").is_valid(later)


@pytest.mark.parametrize(
    "key, value",
    [
        ("probability", 1.5),
        ("decision", "crack"),
        ("sha256", "A" * 64),
        ("width", 0),
        ("rank", 0),
        ("place", {"latitude": 91.0, "longitude": 0.0}),
        ("scale", {"mm_per_px": 0.0, "source": "marker"}),
        ("scale", {"mm_per_px": 1.0, "source": "guess"}),
    ],
)
def test_a_value_out_of_range_is_damage(key, value):
    assert not schemas.validator("findings.json").is_valid(FINDINGS | {"photos": [PHOTO | {key: value}]})


def accepts(path, content):
    """Whether crackflow reads `content` as reviews."""
    try:
        reviews.read(review_files.put(path, content))
    except UserError:
        return False
    return True


def test_the_schema_of_reviews_says_what_their_reader_accepts(tmp_path):
    content, validator = review_files.content(), schemas.validator("reviews.json")
    schemas.require_valid("reviews.json", content)
    damages = list(schemas.damaged(content))
    assert len(damages) > 40
    for name, damage in damages:
        assert not validator.is_valid(damage) and not accepts(tmp_path / "reviews.json", damage), name


VALUES = [
    None,
    True,
    -1,
    0,
    0.5,
    1,
    5,
    10**6,
    10**6 + 1,
    1e9,
    2e9,
    "",
    "crack",
    "unsure",
    "drawn",
    SHA,
    [],
    [1] * 4,
    {},
]


def test_the_schema_and_the_reader_of_reviews_agree_on_any_value(tmp_path):
    content, validator = review_files.content(), schemas.validator("reviews.json")
    verdict = content["photographs"][0]["verdicts"][0] | {"box": [0, 0, 1, 1]}
    content["photographs"][0]["verdicts"] = [verdict]
    disagreeing = []
    for path in ((), ("photographs", 0), ("photographs", 0, "verdicts", 0)):
        for key in [*schemas.part_at(content, path), "another"]:
            for value in VALUES:
                changed = schemas.changed(content, (*path, key), value)
                if validator.is_valid(changed) != accepts(tmp_path / "reviews.json", changed):
                    disagreeing.append((key, value))
    assert not disagreeing


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_file_is_damage(name):
    assert not schemas.validator(name).is_valid({}) and not schemas.validator(name).is_valid([])
