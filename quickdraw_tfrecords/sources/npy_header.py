"""The header of a `.npy` file, read without trusting it.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
import warnings
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from quickdraw_tfrecords.base.errors import DataError

_VERSIONS = {(1, 0), (2, 0), (3, 0)}
MAX_HEADER_BYTES = 4096  # NumPy writes 128; a header is evaluated, which takes time and memory


class NpyHeader(NamedTuple):
    """What a `.npy` file says of its array.

    Attributes:
      shape: Whole numbers, 0 or more, each of 63 bits.
      fortran_order: Whether the first axis varies fastest.
      dtype: May have objects.
      size_bytes: Of the header; the array follows.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size_bytes: int


def read_header(name: str, file: BinaryIO) -> NpyHeader:
    """Reads the header of a `.npy` file, and some of what follows it.

    Args:
      name: What to call the file in an error.
      file: At its beginning.

    Raises:
      DataError: It is not such a file.
    """
    # NumPy would read as much as the header says it has, which may be 4 GB.
    head = io.BytesIO(file.read(MAX_HEADER_BYTES))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Python 2 wrote it, which is no harm
            shape, fortran_order, dtype = _parse(head)
    except Exception as error:  # NumPy evaluates the header, and does not wrap what that raises
        raise DataError(f"{name}: not a .npy file: {error!s:.200}") from None
    # True is an int in Python, and NumPy lets it and negative numbers pass.
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise DataError(f"{name}: not a .npy file: its shape is {shape!s:.200}")
    return NpyHeader(shape, bool(fortran_order), dtype, head.tell())


def _parse(head: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(head)
    if version not in _VERSIONS:
        raise ValueError(f"version {version} is unknown")
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(head)
    return np.lib.format.read_array_header_2_0(head)
