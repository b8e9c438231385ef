"""Records: a `tf.train.Example` in TFRecord framing, written and read without importing TensorFlow.

Synopsis::

    frame = records.frame(records.example(image=jpeg, label=1, path=b"Positive/00001.jpg", group=7))
    for offset, payload in records.read(file):        # raises RecordError with the reason
        fields = records.parse(payload)               # image, label, path, group

Importing TensorFlow takes 7 s on 2 cores, as long as converting 10,000 images, and 400 MB per process. The bytes are
the same: tests compare them with tf.train.Example and tf.data.TFRecordDataset.
TFRecord: uint64 length, masked CRC-32C of it, payload, masked CRC-32C of it (tensorflow/core/lib/io/record_writer.h).
"""

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

FEATURES = {"image": "bytes_list", "label": "int64_list", "path": "bytes_list", "group": "int64_list"}
HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
CRC_MASK = 0xA282EAD8


class RecordError(Exception):
    """This record cannot be read; the message says why."""


def _example_class() -> type[message.Message]:
    """Builds `tensorflow.Example` (tensorflow/core/example/{example,feature}.proto) in its own descriptor pool."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="crackflow_example.proto", package="crackflow", syntax="proto3")

    def declare(name: str, *fields: tuple) -> descriptor_pb2.DescriptorProto:
        message_type = file.message_type.add(name=name)
        for number, (field, type_, label, type_name) in enumerate(fields, start=1):
            message_type.field.add(name=field, number=number, type=type_, label=label, type_name=type_name)
        return message_type

    optional, repeated = kind.LABEL_OPTIONAL, kind.LABEL_REPEATED
    declare("BytesList", ("value", kind.TYPE_BYTES, repeated, None))
    declare("FloatList", ("value", kind.TYPE_FLOAT, repeated, None))
    declare("Int64List", ("value", kind.TYPE_INT64, repeated, None))
    feature = declare(
        "Feature",
        ("bytes_list", kind.TYPE_MESSAGE, optional, ".crackflow.BytesList"),
        ("float_list", kind.TYPE_MESSAGE, optional, ".crackflow.FloatList"),
        ("int64_list", kind.TYPE_MESSAGE, optional, ".crackflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = declare("Features", ("feature", kind.TYPE_MESSAGE, repeated, ".crackflow.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kind.TYPE_STRING, label=optional)
    entry.field.add(name="value", number=2, type=kind.TYPE_MESSAGE, label=optional, type_name=".crackflow.Feature")
    declare("Example", ("features", kind.TYPE_MESSAGE, optional, ".crackflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("crackflow.Example"))


Example = _example_class()


def example(image: bytes, label: int, path: bytes, group: int) -> bytes:
    """Serializes an Example.

    Args:
        image: the encoded pixels.
        label: 0 clean, 1 cracked.
        path: of the source file.
        group: number of the group that stays in one split.
    """
    record = Example()
    feature = record.features.feature
    feature["image"].bytes_list.value.append(image)
    feature["label"].int64_list.value.append(label)
    feature["path"].bytes_list.value.append(path)
    feature["group"].int64_list.value.append(group)
    return record.SerializeToString(deterministic=True)


def parse(payload: bytes, fields: Iterable[str] = tuple(FEATURES)) -> dict[str, bytes | int]:
    """Returns those `fields` of an `example`. Raises: RecordError when the payload is no such record."""
    try:
        feature = Example.FromString(payload).features.feature
    except message.DecodeError as error:
        raise RecordError("not a tf.train.Example") from error
    try:
        return {name: getattr(feature[name], FEATURES[name]).value[0] for name in fields}
    except IndexError as error:
        raise RecordError(f"a field is missing: expected {', '.join(FEATURES)}") from error


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + CRC_MASK) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """Wraps `payload` in the header and footer of TFRecord."""
    length = struct.pack("<Q", len(payload))
    return b"".join((HEADER.pack(len(payload), _masked_crc(length)), payload, FOOTER.pack(_masked_crc(payload))))


def unframe(data: bytes) -> bytes:
    """Returns the payload of a whole frame. Raises: RecordError when it is truncated or fails a checksum."""
    length = _length(data)
    if len(data) != HEADER.size + length + FOOTER.size:
        raise RecordError("truncated in its payload")
    return _payload(data[HEADER.size :], length)


def read(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields (offset, payload) of each record.

    Raises:
        RecordError: at the first record that is truncated or fails a checksum.
    """
    offset = 0
    while header := file.read(HEADER.size):
        length = _length(header)
        yield offset, _payload(file.read(length + FOOTER.size), length)
        offset += HEADER.size + length + FOOTER.size


def _length(header: bytes) -> int:
    """Returns the length of the payload, from bytes that begin with the header."""
    if len(header) < HEADER.size:
        raise RecordError("truncated in its header")
    length, crc = HEADER.unpack_from(header)
    if _masked_crc(header[:8]) != crc:
        raise RecordError("the checksum of its length does not match")
    return length


def _payload(body: bytes, length: int) -> bytes:
    """Returns `body` without its footer, after checking both."""
    if len(body) < length + FOOTER.size:
        raise RecordError("truncated in its payload")
    payload = body[:length]
    if _masked_crc(payload) != FOOTER.unpack_from(body, length)[0]:
        raise RecordError("the checksum of its payload does not match")
    return payload
