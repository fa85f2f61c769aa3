"""Google's bitmaps from Google's bucket: only the rows that are wanted.

    download(Path("cache"), ["airplane", "zigzag"], per_class=6450)
    source = DownloadSource.open(Path("cache"), ["airplane", "zigzag"])

A class file holds 113,613 to 340,029 drawings, 39.5 GB in all. For 6450 of each, ranges
of whole rows are asked for: 1.75 GB.

https://github.com/googlecreativelab/quickdraw-dataset#numpy-bitmaps-npy
"""

import contextlib
import functools
import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from quickdraw_tfrecords.errors import DataError, UsageError
from quickdraw_tfrecords.locks import locked
from quickdraw_tfrecords.sources import bucket
from quickdraw_tfrecords.sources.fetched import (
    ROW_BYTES,
    FetchedFile,
    Piece,
    Provenance,
    Runs,
    read_provenance,
)
from quickdraw_tfrecords.sources.http_ranges import RangeClient
from quickdraw_tfrecords.sources.numpy_bitmap import BitmapFile, NumpyBitmapSource

_SHARE_PIECES = 16  # 6 MB: so that several connections share one whole file.

_Choose = Callable[[str, int], Runs]


def download(
    out_dir: Path,
    class_names: Sequence[str],
    *,
    per_class: int | None = 6450,
    selection: bucket.Selection = "spread",
    seed: int = 0,
    connections: int = 8,
    base_url: str = bucket.BASE_URL,
    sha256: Mapping[str, str] | None = None,
    client: RangeClient | None = None,
) -> None:
    """Fetches rows of class files into a folder that `NumpyBitmapSource` reads.

    Each class becomes `<class>.npy`, uint8[per_class, 784], the rows in their order in
    Google's file, with a journal beside it that says which these are. What is there
    already, be it whole or in part, is not fetched again; if all is there, no request
    is made.

    Args:
      out_dir: The folder; made if it is not there.
      class_names: The classes.
      per_class: How many drawings of each; None: the whole files.
      selection: Which drawings, see `bucket.choose_rows`.
      seed: Likewise.
      connections: How many requests to make at a time.
      base_url: The folder of `<class>.npy` on a server that speaks byte ranges.
      sha256: What a file fetched whole must have, by class. Default: what TFDS knows.
      client: Makes the requests. Default: one for `base_url`.

    Raises:
      UsageError: The request cannot be met, or the folder holds other rows.
      DataError: The server or the network fails, a file is not of the promised form, or
        there is too little room. What has been fetched stays, and is not fetched again.
      OSError: The disk is full or cannot be written to.
    """
    client = client or RangeClient(base_url)
    choose = functools.partial(
        bucket.choose_rows, per_class=per_class, selection=selection, seed=seed
    )
    if per_class is not None:
        sha256 = None  # It says nothing of a part of a file.
    elif sha256 is None:
        sha256 = {name: file.sha256 for name, file in bucket.google_files().items()}
    out_dir.mkdir(parents=True, exist_ok=True)
    with locked(out_dir, work="download"), _threads(client, connections) as pool:
        paths = [out_dir / f"{name}.npy" for name in class_names]
        absent = [path for path in paths if not _is_fetched(path, choose)]
        files = list(pool.map(functools.partial(_find, client, base_url, choose), absent))
        missing = list(pool.map(FetchedFile.resume, files))
        _require_space(out_dir, missing)
        with _progress(files, missing) as bar:
            shares = [
                pool.submit(job.fetch, client, bar, share)
                for job in map(functools.partial(_Job, sha256), files, missing)
                for share in job.shares
            ]
            for share in as_completed(shares):
                share.result()


@contextlib.contextmanager
def _threads(client: RangeClient, count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that stop, with the requests they make, at an error or an interruption."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        client.cancel()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        client.close()


def _is_fetched(path: Path, choose: _Choose) -> bool:
    if not path.exists():
        return False
    provenance = read_provenance(path)
    if provenance is None:
        raise UsageError(
            f"{path}: is there, but was not fetched by this command; choose another folder, "
            "or use what is there with --source=numpy_bitmap"
        )
    if provenance.runs != choose(path.stem, provenance.drawings):
        raise UsageError(
            f"{path}: holds other drawings than --per_class, --selection and --seed ask for; "
            "choose another folder, or delete this one"
        )
    try:
        return BitmapFile.open(path).count == provenance.count
    except DataError:
        return False  # Cut short since: it is fetched again.


def _find(client: RangeClient, base_url: str, choose: _Choose, path: Path) -> FetchedFile:
    remote, header, drawings = bucket.find_bitmaps(client, base_url, path.stem)
    provenance = Provenance(remote, drawings, choose(path.stem, drawings))
    return FetchedFile(path, provenance, header)


def _bytes(pieces: Iterable[Piece]) -> int:
    return sum(piece.count for piece in pieces) * ROW_BYTES


def _require_space(directory: Path, missing: Sequence[Sequence[Piece]]) -> None:
    needed, free = sum(map(_bytes, missing)), shutil.disk_usage(directory).free
    if needed > free:
        raise DataError(
            f"{directory}: needs {needed / 1e6:,.0f} MB more, {free / 1e6:,.0f} MB are free; "
            "make room, choose a folder on another disk, or take fewer --per_class"
        )


def _progress(files: Sequence[FetchedFile], missing: Sequence[Sequence[Piece]]) -> tqdm:
    total = sum(file.provenance.count * ROW_BYTES for file in files)
    present = total - sum(map(_bytes, missing))
    return tqdm(
        total=total,
        initial=present,
        unit="B",
        unit_scale=True,
        desc="downloading",
        disable=not files,
    )


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


class _Job:
    """What is missing of a class file, in shares; the thread of the last one publishes it."""

    def __init__(
        self, sha256: Mapping[str, str] | None, file: FetchedFile, missing: Sequence[Piece]
    ) -> None:
        # If nothing is missing but the file's name, that is one share of no pieces.
        starts = range(0, max(len(missing), 1), _SHARE_PIECES)
        self.shares = [missing[start : start + _SHARE_PIECES] for start in starts]
        self._file = file
        self._sha256 = sha256
        self._left = len(self.shares)
        self._lock = threading.Lock()

    def fetch(self, client: RangeClient, bar: tqdm, share: Sequence[Piece]) -> None:
        """Fetches one of the shares, with a request for each run of rows."""
        source, header_bytes = self._file.provenance.source, len(self._file.source_header)
        with self._file.writer() as write:
            for pieces in _consecutive(share):
                start = header_bytes + pieces[0].source_row * ROW_BYTES
                sizes = [piece.count * ROW_BYTES for piece in pieces]
                with contextlib.closing(client.read(source, start, sizes)) as bodies:
                    for piece, body in zip(pieces, bodies, strict=True):
                        write(piece, body)
                        _update(bar, len(body), client.retries)
        with self._lock:
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._publish()

    def _publish(self) -> None:
        name = self._file.path.stem
        if self._sha256 is not None and name not in self._sha256:
            logging.warning("%s: no SHA-256 is known, so it is not checked", self._file.path)
        self._file.publish((self._sha256 or {}).get(name))


def _update(bar: tqdm, count: int, retries: int) -> None:
    with bar.get_lock():
        if retries:
            bar.set_postfix(retries=retries, refresh=False)
        bar.update(count)


class DownloadSource(NumpyBitmapSource):
    """A folder that `download` has filled. See `Source` for the attributes and methods."""

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`; reads every file once for its checksum."""
        return super().describe() | {"kind": "download"}

    def _provenance(self, label: int) -> Provenance:
        provenance = super()._provenance(label)
        if provenance is None:
            raise DataError(
                f"{self.files[label].path}: there is no record of which of Google's drawings it "
                "holds; fetch it again into another folder, or use --source=numpy_bitmap"
            )
        return provenance
