import json
import os
import re

import pytest

from crackflow import convert
from crackflow.core.config.data import ConvertConfig, Encoding
from crackflow.core.errors import UserError, VerificationError
from crackflow.data import dataset, records
from tests.helpers import support
from tests.helpers.dataset_files import data, whole  # noqa: F401 - fixtures


def check(folder):
    convert.run(ConvertConfig(verify=str(folder), workers=1))


def damage(folder, capsys):
    """The damages that verify prints for `folder`; the exception must repeat the first."""
    capsys.readouterr()
    with pytest.raises(VerificationError, match=r"is damaged in \d+ places; the first: ") as failed:
        check(folder)
    sentences = capsys.readouterr().out.splitlines()
    assert str(failed.value).endswith(sentences[0])
    return sentences


def manifest(folder, record):
    """(manifest row, offset, payload length) of `record` in the first training shard."""
    rows = [row for row in support.rows(folder, "manifest.csv") if row["shard"] == "train-00000-of-00002.tfrecord"]
    offset = int(rows[record]["offset"])
    with open(folder / rows[record]["shard"], "rb") as file:
        file.seek(offset)
        return rows[record], offset, int.from_bytes(file.read(8), "little")


def change(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 0x20
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("length", "the checksum of its length does not match"),
        ("length checksum", "the checksum of its length does not match"),
        ("first payload byte", "the checksum of its payload does not match"),
        ("middle of the payload", "the checksum of its payload does not match"),
        ("last payload byte", "the checksum of its payload does not match"),
        ("payload checksum", "the checksum of its payload does not match"),
    ],
)
@pytest.mark.parametrize("record", [0, 2])
def test_one_changed_byte_names_shard_record_and_source(data, capsys, part, reason, record):
    row, offset, length = manifest(data, record)
    start = offset + records.HEADER.size
    position = {
        "length": offset,
        "length checksum": offset + 8,
        "first payload byte": start,
        "middle of the payload": start + length // 2,
        "last payload byte": start + length - 1,
        "payload checksum": start + length,
    }[part]
    change(data / row["shard"], position)
    expected = f"{row['shard']}: record {record} ('{row['path']}'): {reason}; the records after it can't be read"
    assert damage(data, capsys) == [expected]


def test_a_truncated_shard_names_the_record_it_breaks_in(data, capsys):
    row, offset, _ = manifest(data, 3)
    os.truncate(data / row["shard"], offset + 40)
    assert damage(data, capsys) == [
        f"{row['shard']}: record 3 ('{row['path']}'): truncated in its payload; the records after it can't be read"
    ]


def test_a_shard_cut_between_two_records_names_the_first_that_is_gone(data, capsys):
    row, offset, _ = manifest(data, 3)
    count = len([entry for entry in support.rows(data, "manifest.csv") if entry["shard"] == row["shard"]])
    os.truncate(data / row["shard"], offset)
    assert damage(data, capsys) == [
        f"{row['shard']}: record 3 ('{row['path']}'): missing: the shard holds 3 records, expected {count}"
    ]


def test_a_deleted_shard_is_named_with_its_first_source(data, capsys):
    row, _, _ = manifest(data, 0)
    (data / row["shard"]).unlink()
    [sentence] = damage(data, capsys)
    assert sentence.startswith(
        f"{row['shard']}: record 0 ('{row['path']}'): unreadable: No such file or directory; so are"
    )


def test_a_record_appended_to_a_shard_is_noticed(data, capsys):
    with open(next(data.glob("test-*")), "ab") as file:
        file.write(records.frame(records.example(support.encoded(support.picture(99)), 1, b"new.jpg", 3)))
    [sentence] = damage(data, capsys)
    assert re.search(r"test-.*: record \d+ \(None\): missing: the shard holds (\d+) records, expected", sentence)


def reframed(data, record, **fields):
    """Writes `fields` into `record` of the first training shard, with matching checksums, as no accident would."""
    row, _, _ = manifest(data, record)
    path = data / row["shard"]
    with open(path, "rb") as file:
        payloads = [payload for _, payload in records.read(file)]
    payloads[record] = records.example(**(records.parse(payloads[record]) | fields))
    path.write_bytes(b"".join(map(records.frame, payloads)))
    return row


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": b"no picture"}, "not an image"),
        ({"image": support.encoded(support.picture(0))[:400]}, "damaged: |truncated: "),
        (
            {"image": support.encoded(support.picture(0))[:-2] + b"\x00\x11\x22\x33" * 9 + b"\xff\xd9"},
            "its JPEG data is damaged, where most decoders look past it; convert the images again",
        ),
        ({"label": 7}, "its label is 7, expected 0 or 1"),
        ({"path": b"other.jpg"}, "is of 'other.jpg'"),
    ],
)
def test_a_record_whose_checksum_fits_is_still_looked_into(data, capsys, fields, reason):
    row = reframed(data, 1, **fields)
    sentences = damage(data, capsys)
    assert re.search(re.escape(f"{row['shard']}: record 1 ('{row['path']}'): ") + f"({reason})", sentences[0])


def test_sound_records_that_are_not_those_recorded_are_noticed(data, capsys):
    row = reframed(data, 1, image=support.encoded(support.picture(77)))
    assert damage(data, capsys) == [
        f"{row['shard']}: every record can be read, but its SHA-256 is not the one recorded"
    ]


@pytest.mark.parametrize("table", ["groups.csv", "rejected.csv", "manifest.csv"])
@pytest.mark.parametrize("edit", ["append", "delete", "quote", "header", "binary"])
def test_an_edited_table_is_named(data, capsys, table, edit):
    text = (data / table).read_bytes()
    if edit == "delete":
        (data / table).unlink()
    else:
        edited = {
            "append": text + b"x,1,2,train\n",
            "quote": text.replace(b"\n", b'\n"' + b"x" * 200_000, 1),
            "header": text.replace(b"path", b"puth"),
            "binary": b"\x00\xff" * 50 + text,
        }[edit]
        (data / table).write_bytes(edited)
    sentences = damage(data, capsys)
    assert sentences[0] == f"{table}: does not have the SHA-256 that dataset.json gives"


def test_every_damage_is_listed(data, capsys):
    for name in ("groups.csv", "manifest.csv"):
        (data / name).write_text("path\n")
    for shard in data.glob("*.tfrecord"):
        change(shard, 30)
    sentences = damage(data, capsys)
    assert len(sentences) == 2 + len(list(data.glob("*.tfrecord")))
    assert all("record 0 (None)" in line for line in sentences[2:])


def test_dataset_json_that_contradicts_itself_is_noticed(data, capsys):
    path = data / "dataset.json"
    facts = json.loads(path.read_text())
    facts["splits"]["train"]["class_counts"]["Positive"] += 1
    facts["channels"] = 1
    del facts["crc32"]  # as earlier versions wrote it; with the checksum it would be damaged
    path.write_text(json.dumps(facts))
    assert damage(data, capsys) == [
        "dataset.json: the fingerprint does not fit the shards it lists",
        "dataset.json: the counts of split train contradict each other",
    ]


def test_a_changed_byte_in_dataset_json_is_a_clear_message_or_changes_nothing(data, capsys):
    path, caught = data / "dataset.json", 0
    original = path.read_bytes()
    for position in range(0, len(original), 23):
        path.write_bytes(original)
        change(path, position)
        try:
            check(data)
        except VerificationError as failed:
            caught += 1
            assert "\n" not in str(failed) or "damaged" in str(failed)
        except UserError as failed:
            assert "is of version" in str(failed)  # another version of crackflow may have written it
    assert caught > len(original) // 23 // 4


@pytest.mark.parametrize(
    "change_facts",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: json.dumps(json.loads(text) | {"tables": []}),
        lambda text: json.dumps(json.loads(text) | {"positive_class": "Negative"}),
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "classes"}),
    ],
)
def test_a_dataset_json_that_is_not_as_it_was_written_is_damage(data, change_facts):
    path = data / "dataset.json"
    path.write_text(change_facts(path.read_text()))
    with pytest.raises(VerificationError, match=r"dataset.json' (is damaged|lacks)"):
        check(data)


def test_an_intact_data_set_is_said_to_be_intact(whole, capsys):
    check(whole)
    assert capsys.readouterr().out == f"{whole}: 12 images intact\n"


@pytest.mark.parametrize("encoding", [Encoding.PNG, Encoding.RAW])
def test_png_and_raw_data_sets_are_verified_too(tmp_path, capsys, encoding):
    support.converted(support.photos(tmp_path / "photos", 6), tmp_path / "data", shards=2, encoding=encoding)
    check(tmp_path / "data")
    row = reframed(tmp_path / "data", 0, image=b"short")
    reason = "not an image: a text file" if encoding is Encoding.PNG else "5 bytes of pixels, expected 12288"
    assert damage(tmp_path / "data", capsys)[0].endswith(f"record 0 ('{row['path']}'): {reason}")


def test_a_folder_without_dataset_json_is_no_whole_data_set(data):
    (data / "dataset.json").unlink()
    with pytest.raises(VerificationError, match="is no whole dataset: it has no dataset.json"):
        check(data)


def test_the_real_command_exits_1_with_one_line_for_damage_and_0_for_none(data):
    done = support.command("convert", f"--verify={data}")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{data}: 12 images intact\n")
    row, offset, _ = manifest(data, 1)
    change(data / row["shard"], offset + 50)
    done = support.command("convert", f"--verify={data}")
    support.expect_one_line(done, 1, "crackflow.convert: ", row["shard"], "record 1", repr(row["path"]))


def test_verify_changes_nothing(data):
    before = support.tree(data)
    check(data)
    assert support.tree(data) == before
    assert dataset.load(str(data)).count("train") > 0
