import json

import pytest

from crackflow.core.errors import UserError
from crackflow.data import dataset
from tests.helpers import schemas, support
from tests.helpers.dataset_files import data, whole  # noqa: F401 - fixtures


def edit(data, **changes):
    facts = json.loads((data / "dataset.json").read_text())
    facts |= changes | {"crc32": ...}
    (data / "dataset.json").write_text(json.dumps({key: value for key, value in facts.items() if value is not ...}))


def refused(data, match):
    with pytest.raises(UserError, match=match):
        dataset.load(str(data))


def test_a_data_set_tells_its_classes_counts_and_files(whole):
    loaded = dataset.load(str(whole))
    assert loaded.classes == ("Negative", "Positive")
    assert loaded.image_px == 64
    assert sum(loaded.count(split) for split in ("train", "val", "test")) == 12
    files = [file for split in ("train", "val", "test") for file in loaded.files(split)]
    assert sorted(files) == sorted(str(path) for path in whole.glob("*.tfrecord"))


def test_every_promised_key_is_there_and_every_checksum_fits(whole):
    facts = json.loads((whole / "dataset.json").read_text())
    promised = "version classes positive_class image_px channels encoding splits seed group_by fingerprint source"
    assert set(promised.split()) <= set(facts)
    schemas.require_valid("dataset.json", facts)
    for name, sha256 in facts["tables"].items():
        assert support.sha256(whole / name) == sha256
    for split in facts["splits"].values():
        assert set(split) == {"count", "class_counts", "shards"}
        for shard in split["shards"]:
            assert set(shard) == {"file", "count", "bytes", "sha256"}
            assert support.sha256(whole / shard["file"]) == shard["sha256"]
            assert (whole / shard["file"]).stat().st_size == shard["bytes"]


def test_a_folder_that_is_no_data_set_says_how_to_make_one(tmp_path):
    refused(tmp_path, r"found no dataset.json in .*\(No such file or directory\); make one with: python -m crackflow.c")


@pytest.mark.parametrize("text", ["", "{", "\0", "[1, 2"])
def test_a_dataset_json_that_is_no_json_is_damaged(data, text):
    (data / "dataset.json").write_text(text)
    refused(data, "dataset.json' is damaged .*; convert the images again")


def test_a_dataset_json_in_no_encoding_is_damaged(data):
    (data / "dataset.json").write_bytes(b'{"version": "\xff"}')
    refused(data, "dataset.json' is damaged .*; convert the images again")


@pytest.mark.parametrize("text", ["[]", "7", "null", '"text"'])
def test_json_of_another_kind_lacks_everything(data, text):
    (data / "dataset.json").write_text(text)
    refused(data, "dataset.json' lacks version, classes, ")


def test_missing_keys_are_named(data):
    edit(data, classes=..., fingerprint=...)
    refused(data, "lacks classes, fingerprint; convert the images again")


def test_another_version_is_refused(data):
    edit(data, version=2)
    refused(data, "is of version 2, expected 1; convert the images again")


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": 5},
        {"splits": {}},
        {"splits": {"train": {}, "val": {}, "test": {}}},
        {"classes": ["one"]},
        {"classes": 3},
        {"image_px": "64"},
        {"encoding": None},
    ],
)
def test_values_of_another_kind_are_damage_not_a_traceback(data, changes):
    edit(data, **changes)
    refused(data, "is damaged .*; convert the images again")


def test_a_missing_shard_is_named(data):
    missing = next(data.glob("*.tfrecord"))
    missing.unlink()
    refused(data, f"{missing.name}' is missing; restore it or convert the images again")


def test_the_fingerprint_tells_content_and_nothing_else(whole):
    facts = json.loads((whole / "dataset.json").read_text())
    same = facts | {"source": "/elsewhere", "created": "later", "notes": [], "seed": 99}
    assert dataset.fingerprint(same) == facts["fingerprint"]
    for key, value in (("classes", ["a", "b"]), ("encoding", "png"), ("channels", 1), ("image_px", 1)):
        assert dataset.fingerprint(facts | {key: value}) != facts["fingerprint"]
    changed = json.loads(json.dumps(facts))
    changed["splits"]["test"]["shards"][0]["sha256"] = "0" * 64
    assert dataset.fingerprint(changed) != facts["fingerprint"]


@pytest.mark.parametrize("change", [{"source_px": 4000}, {"seed": 9}, {"source": "elsewhere"}])
def test_a_value_that_is_not_what_was_written_is_damage_and_not_used(data, change):
    facts = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(facts | change))
    refused(data, r"dataset.json' is damaged \(its content is not what was written\); convert the images again")


def test_a_data_set_without_a_schema_version_is_read_and_a_later_one_is_not(data):
    edit(data, schema_version=...)
    before = dataset.load(str(data)).metadata
    assert "schema_version" not in before
    edit(data, schema_version=1)
    after = dataset.load(str(data)).metadata
    assert dataset.fingerprint(after) == dataset.fingerprint(before) == after["fingerprint"]
    edit(data, schema_version=2)
    refused(
        data, r"dataset.json': expected schema_version 1 of dataset.json, received 2; use a crackflow that is as new"
    )


def test_every_damage_of_a_data_set_is_seen_by_its_schema(whole):
    facts = json.loads((whole / "dataset.json").read_text())
    optional = {"schema_version", "source_px", "seed", "group_by", "source", "layout", "leaks", "rejected", "notes"}
    optional |= {"tables", "created", "crackflow", "crc32"}
    validator = schemas.validator("dataset.json")
    counts = set(facts["leaks"]) | set(facts["tables"]) | set(facts["classes"])
    for name, damage in schemas.damaged(facts):
        key = name.split("/")[-1].removeprefix("no ")
        may_lack = name.startswith("no ") and (key in counts or key in optional)
        assert validator.is_valid(damage) == may_lack, name
