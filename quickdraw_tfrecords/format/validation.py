"""Whether a manifest can be believed: everything in it that follows from something else must.

Its checksum tells of damage, not of an edit by hand, nor of a data set from a stranger. What has
passed here can be used without a further thought: names stay within the folder, offsets within
the records, and records within the files.
"""

import dataclasses
import re
import struct
from typing import Any

import numpy as np

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.base.json_values import MAX_WHOLE, JsonValue
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.records import (
    MAX_SIDE,
    RecordLayout,
    Slot,
    mask_crc32c,
    varint_width,
)
from quickdraw_tfrecords.format.shards import ShardInfo

_MAX_CLASSES = 1 << 20
_MAX_BLOCKS = 1 << 10  # of a shard
_MAX_VARINT_BYTES = 9  # of a non-negative int64

_SPLIT = re.compile(r"[a-z][a-z0-9_]{0,40}")


def read_request(request: JsonValue) -> dict[str, Any]:
    """The request of a manifest, which must have what is used of it.

    Raises:
      DataError: It has not; says what is wrong, and where.
    """
    labels = [name.text() for name in request["class_names"].elements()]
    if not 0 < len(labels) <= _MAX_CLASSES or len(set(labels)) < len(labels):
        raise request["class_names"].error("must be at least one name, and each once")
    try:
        names.check(labels)
    except UsageError as error:
        raise DataError(f"{request.file}: {error}") from None
    request["drawings"].wholes(len(labels))
    request["source"]["kind"].text()
    request["seed"].whole()
    for name in ("test_fraction", "validation_fraction"):
        request[name].number(0, 1)
    for count in request["shards"].fields().values():
        count.whole()
    for kind in request.fields()["drop"].fields().values() if "drop" in request.fields() else ():
        kind.wholes(len(labels))
    for name in request.fields().keys() & {"license", "citation"}:
        request[name].text()
    return dict(request.value)


def read_layout(layout: JsonValue, *, num_classes: int) -> RecordLayout:
    """The layout of a manifest, which must be the one that the converter makes.

    Raises:
      DataError: It is not; says what is wrong, and where.
    """
    found = make_layout(
        layout["side"].whole(1, MAX_SIDE),
        varint_width(num_classes - 1),
        layout["source_row"]["width"].whole(1, _MAX_VARINT_BYTES),
    )
    layout.require(found.to_json())
    return found


def read_splits(
    splits: JsonValue, request: JsonValue, layout: RecordLayout
) -> dict[str, tuple[ShardInfo, ...]]:
    """The shards of a manifest by split; none of a conversion that is not finished.

    Raises:
      DataError: They cannot be what the request and the layout say; says what is wrong, and where.
    """
    num_classes = len(request["class_names"].value)
    found: dict[str, tuple[ShardInfo, ...]] = {}
    for split, members in splits.fields().items():
        if not _SPLIT.fullmatch(split):
            raise members.error("must be named as a split, in lower case")
        listed = members.elements()
        request["shards"][split].require(len(listed))
        found[split] = tuple(
            _read_shard(
                shard, shards.shard_name(split, index, len(listed)), num_classes, layout.stride
            )
            for index, shard in enumerate(listed)
        )
    if found:
        counts = np.zeros(num_classes, np.int64)
        for infos in found.values():
            for info in infos:
                counts += info.class_counts
        _require_drawings(request["drawings"], counts.tolist())
    return found


def _require_drawings(drawings: JsonValue, counts: list[int]) -> None:
    for index, (element, count) in enumerate(zip(drawings.value, counts, strict=True)):
        if element != count:
            raise DataError(
                f"{drawings.file}: drawings of each class[{index}]: {element}, must be {count} as "
                f"in its shards; {drawings.remedy}"
            )


def _read_shard(shard: JsonValue, name: str, num_classes: int, stride: int) -> ShardInfo:
    records = shard["records"].whole(0, MAX_WHOLE // stride)
    counts = shard["class_counts"].wholes(num_classes, 0, records)
    blocks = len(shard["prefix_crc32c"].elements())
    crcs = shard["prefix_crc32c"].wholes(min(max(1, blocks), _MAX_BLOCKS), 0, 2**32 - 1)
    info = ShardInfo(name, records, records * stride, tuple(crcs), tuple(counts))
    if sum(counts) != records:
        raise shard["class_counts"].error(f"must be {records:,}", found=f"add to {sum(counts):,},")
    shard["name"].require(info.name)
    shard["bytes"].require(info.bytes)
    if unknown := shard.value.keys() - {field.name for field in dataclasses.fields(info)}:
        raise shard.error(f"must not have the key {min(unknown)!s:.40}", found="")
    return info


def make_layout(side: int, label_width: int, source_row_width: int) -> RecordLayout:
    """What `RecordLayout.create` makes, without protobuf, whose import takes a second.

    Args:
      side: Height and width of an image in pixels.
      label_width: Bytes of the varint of a label.
      source_row_width: Bytes of the varint of a row in the source.
    """
    # One element of a list of its own: `bytes_list` is field 1 of a Feature, `int64_list` field 3.
    features = {
        "image": (b"\x0a", side * side),
        "label": (b"\x1a", label_width),
        "source_row": (b"\x1a", source_row_width),
    }
    body, slots = b"", []
    for name, (kind, width) in features.items():
        value = _field(b"\x12", _field(kind, _field(b"\x0a", bytes(width))))
        body += _field(b"\x0a", _field(b"\x0a", name.encode()) + value)
        slots.append([len(body) - width, width])
    data = _field(b"\x0a", body)
    length = struct.pack("<Q", len(data))
    crc = struct.pack("<I", mask_crc32c(crc32c(length)))
    template = length + crc + data + bytes(len(crc))
    start = len(length + crc) + len(data) - len(body)
    return RecordLayout(side, template, *(Slot(start + offset, width) for offset, width in slots))


def _field(tag: bytes, content: bytes) -> bytes:
    """A protobuf field of bytes: its tag, its length as a varint, its content."""
    groups = [len(content) >> 7 * index & 0x7F for index in range(varint_width(len(content)))]
    return tag + bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]]) + content


def require_equal(what: str, found: Any, wanted: Any) -> None:
    """Compares what was found with what the manifest says; of long lists it shows where.

    Raises:
      DataError: They differ.
    """
    if isinstance(found, list) and isinstance(wanted, list):
        require_equal(f"number of {what}", len(found), len(wanted))
        for index, pair in enumerate(zip(found, wanted, strict=True)):
            require_equal(f"{what}[{index}]", *pair)
    elif found != wanted:
        raise DataError(f"{what}: {found!r}, must be {wanted!r} by the manifest; {shards.RESTORE}")
