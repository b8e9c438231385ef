import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.core.backend import tf
from crackflow.data import records

FIELDS = {"image": st.binary(max_size=300), "label": st.sampled_from([0, 1]), "path": st.binary(max_size=60)}
GROUPS = st.integers(0, 2**40)


def by_tensorflow(image, label, path, group):
    def of_bytes(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def of_int(value):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    feature = {"image": of_bytes(image), "label": of_int(label), "path": of_bytes(path), "group": of_int(group)}
    return tf.train.Example(features=tf.train.Features(feature=feature))


@given(**FIELDS, group=GROUPS)
def test_a_record_is_read_alike_by_tensorflow_and_by_us(image, label, path, group):
    expected = by_tensorflow(image, label, path, group)
    payload = records.example(image, label, path, group)
    assert payload == expected.SerializeToString(deterministic=True)
    assert tf.train.Example.FromString(payload) == expected
    fields = {"image": image, "label": label, "path": path, "group": group}
    assert records.parse(expected.SerializeToString()) == fields
    assert records.parse(payload) == fields


def test_a_file_has_the_bytes_that_tensorflow_writes(tmp_path):
    payloads = [b"", b"x", bytes(range(256)) * 40]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for payload in payloads:
            writer.write(payload)
    payload = b"".join(map(records.frame, payloads))
    assert (tmp_path / "theirs").read_bytes() == payload
    (tmp_path / "ours").write_bytes(payload)
    assert list(tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()) == payloads
    read = list(records.read(io.BytesIO(payload)))
    assert [payload for _, payload in read] == payloads
    assert [payload[offset : offset + 8] for offset, _ in read] == [len(p).to_bytes(8, "little") for p in payloads]


def read_all(data):
    return list(records.read(io.BytesIO(data)))


FILE = records.frame(b"first payload") + records.frame(b"second")


@given(st.integers(0, len(FILE) * 8 - 1))
def test_no_flipped_bit_goes_unnoticed(bit):
    data = bytearray(FILE)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(
        records.RecordError, match="^(the checksum of its (length|payload) does not match|truncated in its)"
    ):
        read_all(bytes(data))


@given(st.integers(1, len(FILE) - 1))
def test_a_cut_file_is_damaged_unless_cut_between_two_records(length):
    if length == len(records.frame(b"first payload")):
        assert [payload for _, payload in read_all(FILE[:length])] == [b"first payload"]
    else:
        with pytest.raises(records.RecordError, match="^truncated in its (header|payload)$"):
            read_all(FILE[:length])


def test_a_payload_that_is_no_example_is_damage():
    with pytest.raises(records.RecordError, match="^not a tf.train.Example$"):
        records.parse(b"\xff\xff")


def test_an_example_without_a_label_is_damage():
    record = by_tensorflow(b"i", 1, b"p", 2)
    del record.features.feature["label"]
    with pytest.raises(records.RecordError, match="a field is missing: expected image, label, path, group"):
        records.parse(record.SerializeToString())
