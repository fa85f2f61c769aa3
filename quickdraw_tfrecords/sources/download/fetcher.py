"""Fetches class files over a few connections; runs in each process of a download.

Threads make the requests. Since only one of them runs Python at a time, more than a handful get
in each other's way; that is why a download also has several processes.
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
from quickdraw_tfrecords.sources.download.partial_file import PartialFile
from quickdraw_tfrecords.sources.download.provenance import ROW_BYTES, Piece, Provenance, Runs

_TASK_PIECES = 16  # 6 MB, so that several connections can work on one whole file
_REPORT_SECS = 0.1


@dataclasses.dataclass(frozen=True)
class DownloadRequest:
    """What to fetch, and from where.

    Attributes:
      base_url: The folder of `<class>.npy` on a server that speaks byte ranges.
      per_class: How many drawings of each class; the whole files if None.
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
        """The rows wanted of a class whose file has that many drawings."""
        return bucket.choose_rows(
            name,
            drawings,
            per_class=self.per_class,
            selection=self.selection,
            seed=self.seed,
        )


class Progress(NamedTuple):
    """How much of its files a process has fetched.

    Attributes:
      total_bytes: What is wanted.
      done_bytes: What is there already.
      retries: How many requests failed and were made again.
    """

    total_bytes: int
    done_bytes: int
    retries: int


def fetch(request: DownloadRequest, paths: Sequence[Path], connections: int) -> Iterator[Progress]:
    """Fetches what is missing of class files.

    Args:
      request: What to fetch.
      paths: `<class>.npy` of each class.
      connections: How many requests to make at a time.

    Yields:
      The progress: first when all files have been found on the server, and nothing has been
      fetched, nor anything been written to disk; then several times a second.

    Raises:
      UsageError, DataError, OSError: See `download`.
    """
    # One thread per connection: a thread waits while its server answers.
    pool = futures.ThreadPoolExecutor(connections)
    client = RangeClient(
        request.base_url, stall_secs=request.stall_secs, backoff_secs=request.backoff_secs
    )
    try:
        files = list(pool.map(functools.partial(_find, request, client), paths))
        # A server can claim any size, so whether there is room comes first.
        total = sum(file.provenance.count for file in files) * ROW_BYTES
        yield Progress(total, sum(file.present_bytes for file in files), client.retries)
        missing = list(pool.map(PartialFile.resume, files))
        tally = _Tally(files, missing)
        yield Progress(tally.total_bytes, tally.done_bytes, client.retries)
        fetches = (_FileFetch(request, *pair) for pair in zip(files, missing, strict=True))
        pending = {
            pool.submit(fetch.run, client, tally, task) for fetch in fetches for task in fetch.tasks
        }
        while pending:
            done, pending = futures.wait(pending, _REPORT_SECS, futures.FIRST_EXCEPTION)
            for task in done:
                task.result()
            yield Progress(tally.total_bytes, tally.done_bytes, client.retries)
        pool.shutdown()
        client.close()
    finally:
        # After an error, threads may be in the middle of a request. The process is about to be
        # killed, so they are not waited for.
        pool.shutdown(wait=False, cancel_futures=True)


def _find(request: DownloadRequest, client: RangeClient, path: Path) -> PartialFile:
    remote, header, drawings = bucket.find_bitmaps(client, request.base_url, path.stem)
    provenance = Provenance(remote, drawings, request.choose(path.stem, drawings))
    return PartialFile(path, provenance, header)


class _Tally:
    """Counts the bytes wanted and the bytes there. Threads may add to it."""

    def __init__(self, files: Sequence[PartialFile], missing: Sequence[Sequence[Piece]]) -> None:
        self.total_bytes = sum(file.provenance.count for file in files) * ROW_BYTES
        rows_missing = sum(piece.count for pieces in missing for piece in pieces)
        self.done_bytes = self.total_bytes - rows_missing * ROW_BYTES
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Counts bytes that have been written."""
        with self._lock:
            self.done_bytes += count


class _FileFetch:
    """What is missing of a class file, cut into tasks; whoever ends the last publishes the file.

    Attributes:
      tasks: The pieces of each task.
    """

    def __init__(
        self, request: DownloadRequest, file: PartialFile, missing: Sequence[Piece]
    ) -> None:
        # A file that lacks only its final name still needs a task: one of no pieces.
        starts = range(0, max(len(missing), 1), _TASK_PIECES)
        self.tasks = [missing[start : start + _TASK_PIECES] for start in starts]
        self._file = file
        self._sha256 = request.sha256
        self._left = len(self.tasks)
        self._lock = threading.Lock()

    def run(self, client: RangeClient, tally: _Tally, task: Sequence[Piece]) -> None:
        """Fetches the pieces of one task, with a request for each run of rows."""
        source, header_bytes = self._file.provenance.source, len(self._file.source_header)
        with self._file.writer() as write:
            for pieces in _consecutive(task):
                start = header_bytes + pieces[0].source_row * ROW_BYTES
                sizes = [piece.count * ROW_BYTES for piece in pieces]
                with contextlib.closing(client.read(source, start, sizes)) as bodies:
                    for piece, body in zip(pieces, bodies, strict=True):
                        write(piece, body)
                        tally.add(len(body))
        # Tasks end in any order, so it is the count that tells which is the last.
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
