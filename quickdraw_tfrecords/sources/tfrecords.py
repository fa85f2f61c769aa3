"""TFRecord files with records of any length, read one by one.

https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import struct
from typing import BinaryIO

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.format.records import mask_crc32c

FRAMING_BYTES = 16  # of a record: what it has besides its data
REMEDY = "prepare the data set again with TFDS"

_HEADER = struct.Struct("<QI")  # length of the data, masked CRC32C of these 8 bytes
_CRC_BYTES = 4
_MAX_BYTES = 1 << 26  # of a record; a wrong length may have a right CRC


def read_record(file: BinaryIO) -> bytes | None:
    """The data of the record at the file's position; None at the end of the file.

    Raises:
      DataError: A CRC does not hold, as in a file that was cut; names file and offset.
    """
    offset = file.tell()
    header = file.read(_HEADER.size)
    if not header:
        return None
    length, crc = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
    if crc != mask_crc32c(crc32c(header[:-_CRC_BYTES])):
        raise damaged(file, offset, "the CRC of its length does not hold")
    if length > _MAX_BYTES:
        raise damaged(file, offset, f"it claims {length:,} bytes, more than any drawing has")
    data = file.read(length)
    if int.from_bytes(file.read(_CRC_BYTES), "little") != mask_crc32c(crc32c(data)):
        raise damaged(file, offset, "the CRC of its data does not hold")
    return data


def damaged(file: BinaryIO, offset: int, reason: str) -> DataError:
    """The error for the record that begins at an offset in bytes."""
    return DataError(
        f"{file.name}: the record at byte {offset} is damaged or cut short: {reason}; {REMEDY}"
    )
