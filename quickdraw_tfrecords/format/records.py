"""The fixed-stride record format: rows of a matrix <-> images, labels, source rows.

A TFRecord frames its data as

    uint64 length | uint32 masked CRC32C of length | data | uint32 masked CRC32C of data

(little endian; https://www.tensorflow.org/tutorials/load_data/tfrecord). Here the data is
one `tf.train.Example` whose serialised length is the same for every drawing, because the
image is raw bytes and the integers are varints padded to a fixed width (`85 00` for 5;
every protobuf parser reads such overlong varints). So a shard of n records is a
`uint8[n, stride]` matrix: any TFRecord tool reads it, and this project slices it.

    layout = RecordLayout.create(side=28, max_label=344, max_source_row=6449)
    matrix = layout.encode(images, labels, source_rows)     # the bytes of a shard
    layout.images(matrix)                                   # uint8[n, 784], a view
"""

import dataclasses
import struct
from typing import Any, TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt

CrcT = TypeVar("CrcT", int, np.ndarray)

MAX_SIDE = 4096  # of an image in pixels, which then has 16 MB

_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_FEATURES = ("image", "label", "source_row")  # also the order in which protobuf sorts them


@dataclasses.dataclass(frozen=True)
class Slot:
    """The columns of one feature's value within a record."""

    offset: int
    width: int

    @property
    def columns(self) -> slice:
        """The columns as a slice."""
        return slice(self.offset, self.offset + self.width)


@dataclasses.dataclass(frozen=True)
class RecordLayout:
    """Where everything stands in a record.

    Attributes:
      side: Height and width of an image in pixels.
      template: One whole framed record; its values and the CRC of its data are zero.
      image: Slot of the raw pixels, side * side bytes, row-major.
      label: Slot of the padded varint of the class index.
      source_row: Slot of the padded varint of the row in the source.
    """

    side: int
    template: bytes
    image: Slot
    label: Slot
    source_row: Slot

    @classmethod
    def create(cls, *, side: int, max_label: int, max_source_row: int) -> "RecordLayout":
        """Finds the slots by serializing Examples that differ only in their values."""
        widths = (side * side, varint_width(max_label), varint_width(max_source_row))
        ones, twos = (np.frombuffer(_serialize(group, *widths), np.uint8) for group in (1, 2))
        # Protobuf sorts a map by its keys, so the values stand in the order of `_FEATURES`, and a
        # new slot begins where the widths of those before it are used up.
        differing = np.flatnonzero(ones != twos)
        starts = _HEADER_BYTES + differing[np.cumsum((0, *widths[:-1]))]
        slots = [Slot(int(start), width) for start, width in zip(starts, widths, strict=True)]
        template = _frame(ones)
        for slot in slots:
            template[slot.columns] = 0
        return cls(side, template.tobytes(), *slots)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RecordLayout":
        """The inverse of `to_json`."""
        image, label, source_row = (Slot(**fields[name]) for name in _FEATURES)
        constant = bytes.fromhex(fields["constant_bytes"])
        template = constant[: image.offset] + bytes(image.width) + constant[image.offset :]
        return cls(fields["side"], template, image, label, source_row)

    def to_json(self) -> dict[str, Any]:
        """The layout as plain JSON values; `constant_bytes` is all but the image, in hex."""
        constant = self.template[: self.image.offset]
        constant += self.template[self.image.offset + self.image.width :]
        slots = {name: dataclasses.asdict(getattr(self, name)) for name in _FEATURES}
        return {"stride": self.stride, "side": self.side, **slots, "constant_bytes": constant.hex()}

    @property
    def stride(self) -> int:
        """Bytes of one framed record."""
        return len(self.template)

    @property
    def example_bytes(self) -> int:
        """Bytes of one serialised Example, without the framing."""
        return self.stride - _HEADER_BYTES - _FOOTER_BYTES

    def images(self, matrix: np.ndarray) -> np.ndarray:
        """The pixels of uint8[n, stride] as a view, uint8[n, side * side]."""
        return matrix[:, self.image.columns]

    def labels(self, matrix: np.ndarray) -> np.ndarray:
        """The class indices of uint8[n, stride], int32[n]."""
        return from_varints(matrix[:, self.label.columns], np.int32)

    def source_rows(self, matrix: np.ndarray) -> np.ndarray:
        """The rows in the source of uint8[n, stride], int64[n]."""
        return from_varints(matrix[:, self.source_row.columns], np.int64)

    def masked_crcs(self, matrix: np.ndarray) -> np.ndarray:
        """The masked CRC32C that each record of uint8[n, stride] states, uint32[n]."""
        crcs: np.ndarray = matrix[:, -_FOOTER_BYTES:].copy().view("<u4")[:, 0]
        return crcs

    def encode(self, images: np.ndarray, labels: np.ndarray, source_rows: np.ndarray) -> np.ndarray:
        """Encodes n drawings.

        Args:
          images: uint8[n, side * side].
          labels: integer[n].
          source_rows: integer[n].

        Returns:
          uint8[n, stride], the bytes of a TFRecord file.
        """
        matrix = self.blank(len(images))
        self.images(matrix)[:] = images
        self.seal(matrix, labels, source_rows)
        return matrix

    def blank(self, n: int) -> np.ndarray:
        """uint8[n, stride] with everything but the values and the data's CRC in place."""
        return np.tile(np.frombuffer(self.template, np.uint8), (n, 1))

    def seal(self, matrix: np.ndarray, labels: np.ndarray, source_rows: np.ndarray) -> None:
        """Completes a blank matrix whose images are filled in: integers, then CRCs."""
        _to_varints(labels, out=matrix[:, self.label.columns])
        _to_varints(source_rows, out=matrix[:, self.source_row.columns])
        matrix[:, -_FOOTER_BYTES:] = self._data_crcs(matrix)

    def is_sound(self, matrix: np.ndarray) -> np.ndarray:
        """Checks records as a TFRecord reader would, and their constant bytes as well.

        Args:
          matrix: uint8[n, stride].

        Returns:
          bool[n]: both CRCs hold and all bytes outside the three values are as encoded.
        """
        expected = np.frombuffer(self.template, np.uint8)
        # Framing, tags and lengths: a byte changed there may parse as another valid record.
        constant = np.ones(self.stride, bool)
        for slot in (self.image, self.label, self.source_row):
            constant[slot.columns] = False
        constant[-_FOOTER_BYTES:] = False
        same = (matrix[:, constant] == expected[constant]).all(axis=1)
        return same & (matrix[:, -_FOOTER_BYTES:] == self._data_crcs(matrix)).all(axis=1)

    def _data_crcs(self, matrix: np.ndarray) -> np.ndarray:
        """The masked CRC32C of each record's data, uint8[n, 4]."""
        data = matrix[:, _HEADER_BYTES:-_FOOTER_BYTES]
        crcs = np.fromiter(map(google_crc32c.value, data), np.uint64, len(data))
        return mask_crc32c(crcs).astype("<u4").view(np.uint8).reshape(-1, 4)


def varint_width(value: int) -> int:
    """Bytes of the shortest varint of a non-negative value."""
    return max(1, -(-value.bit_length() // 7))


def _to_varints(values: np.ndarray, *, out: np.ndarray) -> None:
    """Writes integer[n] as varints padded to the width of `out`, uint8[n, width]."""
    last = out.shape[1] - 1
    for index in range(last + 1):
        more = 0x80 if index < last else 0  # the bit that says that another byte follows
        out[:, index] = (np.asarray(values) >> (7 * index)) & 0x7F | more


def from_varints(columns: np.ndarray, dtype: npt.DTypeLike) -> np.ndarray:
    """Reads padded varints, uint8[n, width] -> dtype[n]."""
    values: np.ndarray = np.zeros(len(columns), dtype)
    for index in reversed(range(columns.shape[1])):
        values <<= 7
        values |= columns[:, index] & 0x7F
    return values


def _serialize(group: int, pixels: int, label_width: int, source_row_width: int) -> bytes:
    """An Example with every pixel and every 7-bit group of the integers set to `group`."""
    # TFDS has a copy of tf.train.Example's protobuf class, without TensorFlow's import.
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(bytes([group]) * pixels)
    for name, width in (("label", label_width), ("source_row", source_row_width)):
        value = sum(group << (7 * index) for index in range(width))
        feature[name].int64_list.value.append(value)
    return bytes(example.SerializeToString(deterministic=True))


def _frame(data: np.ndarray) -> np.ndarray:
    """TFRecord framing around uint8[n], with the CRC of the data left zero."""
    length = struct.pack("<Q", len(data))
    crc = struct.pack("<I", mask_crc32c(google_crc32c.value(length)))
    header = np.frombuffer(length + crc, np.uint8)
    return np.concatenate([header, data, np.zeros(_FOOTER_BYTES, np.uint8)])


def mask_crc32c(crc: CrcT) -> CrcT:
    """TFRecord's mask of a CRC32C: rotate right by 15 bits, add a constant, modulo 2**32.

    Args:
      crc: One, or uint64[n], in which nothing is lost before the end.
    """
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
