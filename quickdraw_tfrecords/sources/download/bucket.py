"""Google's class files on a server, and which of their rows are wanted."""

import dataclasses
import functools
import io
import random
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.sources.download.http_ranges import RangeClient, RemoteFile
from quickdraw_tfrecords.sources.download.provenance import MAX_DRAWINGS, ROW_BYTES, Runs
from quickdraw_tfrecords.sources.npy_header import read_header

BASE_URL = "https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap"
SELECTIONS = ("spread", "first")
Selection = Literal["spread", "first"]

HEADER_BYTES = 80  # of each of Google's class files; NumPy writes 128 today

_SPREAD_RUNS = 8  # more would spread better, but each costs a round trip
_HEAD_BYTES = 256  # enough for the header of any writer


@dataclasses.dataclass(frozen=True)
class GoogleFile:
    """What TFDS knows of a class file in Google's bucket."""

    size_bytes: int
    sha256: str


@functools.cache
def google_files() -> Mapping[str, GoogleFile]:
    """The 345 class files by class name, from the checksums of TFDS' `quickdraw_bitmap`."""
    import tensorflow_datasets as tfds

    path = tfds.core.tfds_path("datasets/quickdraw_bitmap/checksums.tsv")
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return {Path(url).stem: GoogleFile(int(size), sha256) for url, size, sha256, _ in rows}


def choose_rows(
    name: str, drawings: int, *, per_class: int | None, selection: Selection, seed: int
) -> Runs:
    """Decides which rows of a class file to take.

    The choice depends on the arguments alone: it is the same on any machine and with any
    version of Python and NumPy.

    Args:
      name: The class, so that each class has its own choice.
      drawings: How many rows its file has.
      per_class: How many to take; all if None.
      selection: "first" takes the first rows; "spread" takes up to 8 runs of equal length,
        with random gaps, each run in its own part of the file.
      seed: Decides the gaps.

    Returns:
      [start, stop) of each run: ascending, without overlap, `per_class` rows in all.

    Raises:
      UsageError: The class has fewer drawings.
    """
    take = drawings if per_class is None else per_class
    if not 0 < take <= drawings:
        raise UsageError(f"--per_class={take}: {name!r} has {drawings:,} drawings on the server")
    if take == drawings or selection == "first":
        return ((0, take),)
    runs = min(_SPREAD_RUNS, take)
    # The one generator for which Python promises the same numbers in all versions.
    uniform = random.Random(f"{seed}/{name}/{drawings}/{take}").random
    skipped = [int((drawings - take) * (i + uniform()) / runs) for i in range(runs)]
    # Run i begins after i / runs of what is taken and a random place in its part of the rest.
    bounds = [take * i // runs for i in range(runs + 1)]
    return tuple(
        (start + skip, stop + skip)
        for start, stop, skip in zip(bounds, bounds[1:], skipped, strict=False)
    )


def find_bitmaps(client: RangeClient, base_url: str, name: str) -> tuple[RemoteFile, bytes, int]:
    """Looks at the header of a class file; unpickles nothing.

    Args:
      client: Makes the one request.
      base_url: The folder of `<class>.npy` on the server.
      name: The class.

    Returns:
      The file, the bytes of its `.npy` header, and how many drawings follow it.

    Raises:
      DataError: There is no such file, or it does not hold uint8[drawings, 784].
    """
    url = f"{base_url.rstrip('/')}/{urllib.parse.quote(name)}.npy"
    remote, head = client.probe(url, _HEAD_BYTES)
    try:
        shape, fortran_order, dtype, header_bytes = read_header(url, io.BytesIO(head))
    except DataError as error:
        raise DataError(f"{error}; check --base_url") from None
    if dtype != np.uint8 or shape[1:] != (ROW_BYTES,) or fortran_order:
        order = "Fortran" if fortran_order else "C"
        raise DataError(
            f"{url}: holds {dtype}{list(shape)} in {order} order, must hold "
            f"uint8[drawings, {ROW_BYTES}] in C order; check --base_url"
        )
    if shape[0] > MAX_DRAWINGS:
        raise DataError(
            f"{url}: claims {shape[0]:,} drawings, of which no class has more than "
            f"{MAX_DRAWINGS:,}; check --base_url"
        )
    promised = header_bytes + shape[0] * ROW_BYTES
    if remote.size_bytes != promised:
        raise DataError(
            f"{url}: {remote.size_bytes:,} bytes, its header promises {promised:,}; the "
            "server's copy is damaged: name another with --base_url"
        )
    return remote, head[:header_bytes], shape[0]
