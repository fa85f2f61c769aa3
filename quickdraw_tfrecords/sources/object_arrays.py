"""Arrays of arrays from `.npz` files, without trusting them.

numpy stores an array of objects as a pickle, and a pickle may run any program when it is read.
Here it may build arrays of numbers, and nothing else.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import pickle
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources.numpy_bitmap import read_header


def read_arrays(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Those arrays of a `.npz` file that it has, in the order of the keys.

    Args:
      path: The file.
      keys: Names of arrays.

    Yields:
      The name and the array, of any dtype; the arrays in one of objects are of numbers.

    Raises:
      DataError: It is no such file, is damaged, or its pickles hold other things than arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            for key in keys:
                if f"{key}.npy" in members:
                    with archive.open(f"{key}.npy") as file:
                        yield key, _read(f"{path}: {key}", file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a .npz file, or damaged: {error}") from None


def _read(name: str, file: BinaryIO) -> np.ndarray:
    shape, fortran_order, dtype = read_header(name, file)
    if dtype.hasobject:
        array = _unpickle(name, file)
        if array.shape != shape:
            raise DataError(f"{name}: its shape is {array.shape}, its header promises {shape}")
        return array
    try:
        flat = np.frombuffer(file.read(), dtype)
        return flat.reshape(shape, order="F" if fortran_order else "C")
    except ValueError as error:
        raise DataError(f"{name}: damaged or cut short: {error}") from None


def _unpickle(name: str, file: BinaryIO) -> np.ndarray:
    try:
        # Google's files were written by Python 2, whose strings are bytes.
        array = _ArrayUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever its instructions lead to
        if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError):
            raise
        raise DataError(f"{name}: {error}") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name}: holds a {type(array).__name__}, must be an array")
    return array


class _ArrayUnpickler(pickle.Unpickler):
    """Finds only what numpy's own pickles of arrays refer to."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core.", "numpy.core.")  # its name since numpy 2
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(
            f"refers to {module}.{name}: only arrays of numbers are read, nothing is run"
        )


_NDARRAY = object()  # stands for the type, which could be called with any shape


def _reconstruct(kind: object, shape: tuple[int, ...], typecode: Any) -> np.ndarray:
    """An empty array, which the pickle then fills."""
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError("an array does not begin as numpy's do")
    return np.empty(0, np.uint8)


def _frombuffer(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """A whole array, of the newest protocol."""
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the older protocols."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"refers to the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}
