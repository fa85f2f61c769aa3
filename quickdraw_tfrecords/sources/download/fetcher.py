"""Fetches class files over a few connections; one of the processes of a download runs it.

Threads make the requests. Beyond a handful they get into each other's way, as only one at
a time runs Python: hence the processes.
"""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

from quickdraw_tfrecords.sources.download import bucket
from quickdraw_tfrecords.sources.download.http_ranges import RangeClient
from quickdraw_tfrecords.sources.download.partial_file import (
    ROW_BYTES,
    FetchedFile,
    Piece,
    Provenance,
    Runs,
)

_SHARE_PIECES = 16  # 6 MB: so that several connections share one whole file.
_REPORT_SECS = 0.1


@dataclasses.dataclass(frozen=True)
class Order:
    """What to fetch, and from where.

    Attributes:
      base_url: The folder of `<class>.npy` on a server that speaks byte ranges.
      per_class: How many drawings of each class; None: the whole files.
      selection: Which drawings, see `bucket.choose_rows`.
      seed: Likewise.
      sha256: What a file must have, by class; others are not checked.
      stall_secs: See `RangeClient`.
      backoff_secs: Likewise.
    """

    base_url: str
    per_class: int | None
    selection: bucket.Selection
    seed: int
    sha256: Mapping[str, str]
    stall_secs: float
    backoff_secs: float

    def choose(self, name: str, drawings: int) -> Runs:
        """The rows wanted of the file of a class that has so many."""
        return bucket.choose_rows(
            name,
            drawings,
            per_class=self.per_class,
            selection=self.selection,
            seed=self.seed,
        )


class Progress(NamedTuple):
    """How far the files of a process are.

    Attributes:
      total_bytes: What is wanted.
      done_bytes: What is there of it.
      retries: How many requests have failed and been made again.
    """

    total_bytes: int
    done_bytes: int
    retries: int


def fetch(order: Order, paths: Sequence[Path], connections: int) -> Iterator[Progress]:
    """Fetches what is missing of class files.

    Args:
      order: What to fetch.
      paths: `<class>.npy` of each class.
      connections: How many requests to make at a time.

    Yields:
      The progress: once all files have been looked up on the server and before anything
      of them is fetched, then several times a second.

    Raises:
      UsageError, DataError, OSError: See `download`.
    """
    pool = futures.ThreadPoolExecutor(connections)
    client = RangeClient(
        order.base_url, stall_secs=order.stall_secs, backoff_secs=order.backoff_secs
    )
    try:
        files = list(pool.map(functools.partial(_find, order, client), paths))
        missing = list(pool.map(FetchedFile.resume, files))
        tally = _Tally(files, missing)
        yield Progress(tally.total_bytes, tally.done_bytes, client.retries)
        jobs = (_Job(order, *job) for job in zip(files, missing, strict=True))
        shares = {
            pool.submit(job.fetch, client, tally, share) for job in jobs for share in job.shares
        }
        while shares:
            done, shares = futures.wait(shares, _REPORT_SECS, futures.FIRST_EXCEPTION)
            for share in done:
                share.result()
            yield Progress(tally.total_bytes, tally.done_bytes, client.retries)
        pool.shutdown()
        client.close()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _find(order: Order, client: RangeClient, path: Path) -> FetchedFile:
    remote, header, drawings = bucket.find_bitmaps(client, order.base_url, path.stem)
    provenance = Provenance(remote, drawings, order.choose(path.stem, drawings))
    return FetchedFile(path, provenance, header)


class _Tally:
    """The bytes wanted and those there. Threads may add to it."""

    def __init__(self, files: Sequence[FetchedFile], missing: Sequence[Sequence[Piece]]) -> None:
        self.total_bytes = sum(file.provenance.count for file in files) * ROW_BYTES
        rows_missing = sum(piece.count for pieces in missing for piece in pieces)
        self.done_bytes = self.total_bytes - rows_missing * ROW_BYTES
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Counts bytes that have been written."""
        with self._lock:
            self.done_bytes += count


class _Job:
    """What is missing of a class file, in shares; the thread of the last one publishes it."""

    def __init__(self, order: Order, file: FetchedFile, missing: Sequence[Piece]) -> None:
        # If nothing is missing but the file's name, that is one share of no pieces.
        starts = range(0, max(len(missing), 1), _SHARE_PIECES)
        self.shares = [missing[start : start + _SHARE_PIECES] for start in starts]
        self._file = file
        self._sha256 = order.sha256
        self._left = len(self.shares)
        self._lock = threading.Lock()

    def fetch(self, client: RangeClient, tally: _Tally, share: Sequence[Piece]) -> None:
        """Fetches one of the shares, with a request for each run of rows."""
        source, header_bytes = self._file.provenance.source, len(self._file.source_header)
        with self._file.writer() as write:
            for pieces in _consecutive(share):
                start = header_bytes + pieces[0].source_row * ROW_BYTES
                sizes = [piece.count * ROW_BYTES for piece in pieces]
                with contextlib.closing(client.read(source, start, sizes)) as bodies:
                    for piece, body in zip(pieces, bodies, strict=True):
                        write(piece, body)
                        tally.add(len(body))
        with self._lock:
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._publish()

    def _publish(self) -> None:
        self._file.publish(self._sha256.get(self._file.path.stem))


def _consecutive(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Groups pieces that follow each other in the source file."""
    group: list[Piece] = []
    for piece in pieces:
        if group and piece.source_row != group[-1].source_row + group[-1].count:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group
