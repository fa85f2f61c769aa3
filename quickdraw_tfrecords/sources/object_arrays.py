"""Arrays of arrays from `.npz` files, without trusting them.

NumPy stores an array of arrays as a pickle, and a pickle may run any program when it is loaded.
So `pickled_arrays` only looks at what the pickle says, and the arrays are built here from that.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources import pickled_arrays
from quickdraw_tfrecords.sources.npy_header import read_header
from quickdraw_tfrecords.sources.pickled_arrays import Call, Name

# As many drawings as Google's largest class has, of 45 points each, are 370 MB as float64.
_MAX_ARRAY_BYTES = 1 << 29
_MAX_NUMBERS = 100_000_000  # in all arrays: twice as many as those drawings have
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of NumPy

_NUMERIC = re.compile("[iuf][0-9]{1,2}")
_OBJECTS = re.compile("O[48]")


def read_arrays(
    file: BinaryIO, keys: Sequence[str]
) -> Iterator[tuple[str, NDArray[Any] | list[NDArray[Any] | None]]]:
    """Reads the arrays that a `.npz` file has of those asked for, in the order of the keys.

    Args:
      file: The file.
      keys: Names of arrays.

    Yields:
      The name, and an array of any numeric dtype; or the list of the arrays in an array of
      arrays of one dimension, with None for whatever is not an array of numbers.

    Raises:
      DataError: It is not such a file, is damaged, or its pickles hold other things.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            for key in keys:
                if info := members.get(f"{key}.npy"):
                    yield key, _read(f"{file.name}: {key}", _extract(archive, info))
    except DataError:
        raise
    except Exception as error:  # zipfile does not wrap what its parsers raise
        reason = str(error) or type(error).__name__
        raise DataError(f"{file.name}: not a .npz file, or damaged: {reason}") from None


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type not in _METHODS:
        raise zipfile.BadZipFile(f"{info.filename} is compressed in a way that NumPy does not use")
    with archive.open(info) as member:
        content = member.read(_MAX_ARRAY_BYTES + 1)
    if len(content) > _MAX_ARRAY_BYTES:
        raise zipfile.BadZipFile(
            f"{info.filename} has more than {_MAX_ARRAY_BYTES:,} bytes; split the file"
        )
    return content


def _read(name: str, content: bytes) -> NDArray[Any] | list[NDArray[Any] | None]:
    header = read_header(name, io.BytesIO(content))
    try:
        if header.dtype == object:
            if len(header.shape) != 1:
                raise DataError(f"must be an array of drawings, not of shape {header.shape}")
            tree = pickled_arrays.parse(content, header.size_bytes)
            return _build_list(tree, length=header.shape[0])
        if header.dtype.kind not in "iuf":
            raise DataError(f"must be an array of numbers, not of {header.dtype}")
        _require_size(math.prod(header.shape))
        data = memoryview(content)[header.size_bytes :]
        return _build_array(header.shape, header.dtype, data, fortran_order=header.fortran_order)
    # The others: text that is not Latin-1, no such dtype, too many axes, deeper than any array.
    except (DataError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{name}: {error}") from None


def _build_list(tree: Any, *, length: int) -> list[NDArray[Any] | None]:
    """The arrays in an array of arrays."""
    match tree:
        case Call("reconstruct", (Name("ndarray"), *_), (1, shape, dtype, bool(), list() as items)):
            is_objects = _OBJECTS.fullmatch(_code(dtype))
            if is_objects and shape == (length,) and len(items) == length:
                arrays = [_build(item) for item in items]
                # A pickle may hold a large array once and refer to it a million times.
                _require_size(sum(array.size for array in arrays if array is not None))
                return arrays
    raise DataError(f"must be an array of {length:,} drawings, as its header says")


def _require_size(numbers: int) -> None:
    if numbers > _MAX_NUMBERS:
        raise DataError(f"has {numbers:,} numbers, must have {_MAX_NUMBERS:,} at most; split it")


def _build(tree: Any) -> NDArray[Any] | None:
    """The array that NumPy would build, or None if it is not one of numbers."""
    match tree:
        case Call("reconstruct", (Name("ndarray"), *_), (1, shape, dtype, bool(order), data)):
            fortran_order = order
        case Call("frombuffer", (data, dtype, shape, ("C" | "F") as letter), None):
            fortran_order = letter == "F"
        case _:
            return None
    code = _code(dtype)
    if not _NUMERIC.fullmatch(code):
        return None
    form = np.dtype(_byte_order(dtype) + code)
    return _build_array(shape, form, _bytes(data), fortran_order=fortran_order)


def _code(dtype: Any) -> str:
    """What kind of number it is, and of how many bytes, such as i2."""
    match dtype:
        case Call("dtype", (str() | bytes() as code, *_)):
            return _text(code)
    raise DataError("is damaged: an array has no dtype")


def _byte_order(dtype: Call) -> str:
    # The rest is what NumPy states of all dtypes of numbers: they have no fields, no flags ...
    match dtype.state:
        case (3, str() | bytes() as order, None, None, None, -1, -1, 0):
            return _text(order)
    raise DataError("is damaged: an array's dtype is not one that NumPy states")


def _bytes(data: Any) -> bytes | memoryview:
    """An array's content, which Python 3 writes as text in the older protocols."""
    match data:
        case Call("encode", (str() as text, "latin1"), None):
            return text.encode("latin1")
        case bytes() | memoryview():
            return data
    raise DataError("is damaged: an array has no content")


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _build_array(
    shape: Any, dtype: np.dtype[Any], data: bytes | memoryview, *, fortran_order: bool
) -> NDArray[Any]:
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise DataError(f"is damaged: an array has the shape {shape!s:.60}")
    promised = math.prod(shape) * dtype.itemsize
    if len(data) != promised:
        raise DataError(
            f"is damaged or cut short: an array of shape {shape} has {len(data):,} bytes, "
            f"must have {promised:,}"
        )
    return np.ndarray(shape, dtype, data, order="F" if fortran_order else "C")
