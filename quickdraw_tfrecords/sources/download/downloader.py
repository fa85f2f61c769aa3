"""Downloads Google's bitmaps from Google's bucket, and only the rows that are wanted.

    download(Path("cache"), ["airplane", "zigzag"], per_class=6450)
    source = DownloadSource.open(Path("cache"), ["airplane", "zigzag"])

A class file holds 113,613 to 340,029 drawings, 39.5 GB in all. For 6450 of each, it requests
ranges of whole rows, 1.75 GB.

https://github.com/googlecreativelab/quickdraw-dataset#numpy-bitmaps-npy
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import require_space
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.base.workers import RemoteGenerator
from quickdraw_tfrecords.sources.bitmap_files import BitmapFile, RemoteBitmapFile
from quickdraw_tfrecords.sources.download import bucket, fetcher
from quickdraw_tfrecords.sources.download.provenance import Provenance, read_provenance
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource

_MAX_PROCESSES = 4  # faster than a network of 10 Gbit/s


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
    stall_secs: float = 30.0,
    backoff_secs: float = 0.5,
) -> None:
    """Fetches rows of class files into a folder that `NumpyBitmapSource` reads.

    Each class becomes `<class>.npy`, uint8[per_class, 784], the rows in the order of Google's
    file, with a journal beside it that says which rows they are. It does not fetch again what
    is there already, complete or in part, and makes no request if everything is.

    Args:
      out_dir: The folder; created if it does not exist.
      class_names: The classes.
      per_class: How many drawings of each; the whole files if None.
      selection: Which drawings, see `bucket.choose_rows`.
      seed: Likewise.
      connections: How many requests to make at a time.
      base_url: The folder of `<class>.npy` on a server that serves byte ranges.
      sha256: What each whole file must have, by class. By default, what TFDS knows.
      stall_secs: See `RangeClient`.
      backoff_secs: Likewise.

    Raises:
      UsageError: The request cannot be met, or the folder holds other rows.
      DataError: The server or the network fails, a file does not have the promised form, or
        there is too little room. What has been fetched stays, and is not fetched again.
      OSError: The disk is full or cannot be written to.
    """
    if per_class is not None:
        sha256 = {}  # those of TFDS are of whole files
    elif sha256 is None:
        sha256 = {name: file.sha256 for name, file in bucket.google_files().items()}
    request = fetcher.DownloadRequest(
        base_url, per_class, selection, seed, sha256, stall_secs, backoff_secs
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    with locked(out_dir, work="download"):
        paths = [out_dir / f"{name}.npy" for name in class_names]
        absent = [path for path in paths if not _is_fetched(path, request)]
        for path in absent:
            if per_class is None and path.stem not in sha256:
                logging.warning("%s: no SHA-256 is known, so it is not checked", path)
        count = min(_MAX_PROCESSES, os.cpu_count() or 1, connections, len(absent))
        fetchers: list[RemoteGenerator] = []
        try:
            for i in range(count):
                own_connections = len(range(i, connections, count))
                fetchers.append(
                    RemoteGenerator(fetcher.fetch, request, absent[i::count], own_connections)
                )
            _follow(out_dir, fetchers)
        finally:
            for each in fetchers:
                each.kill()  # at any moment: the next run resumes from what a kill leaves behind


def _is_fetched(path: Path, request: fetcher.DownloadRequest) -> bool:
    if not path.exists():
        return False
    provenance = read_provenance(path)
    if provenance is None:
        raise UsageError(
            f"{path}: exists, but was not fetched by this command; choose another folder, "
            "or use what is there with --source=numpy_bitmap"
        )
    if provenance.runs != request.choose(path.stem, provenance.drawings):
        raise UsageError(
            f"{path}: holds other drawings than --per_class, --selection and --seed ask for; "
            "choose another folder, or delete this one"
        )
    try:
        return BitmapFile.open(path).count == provenance.count
    except DataError:
        return False  # cut short since, so it is fetched again


def _follow(out_dir: Path, fetchers: Sequence[RemoteGenerator]) -> None:
    """Lets the processes fetch if there is room for everything, and shows their progress."""
    # Each pauses after it has found its files, so nothing is written before all are known to fit.
    progress = {each: each.receive() for each in fetchers}
    total = _sum(progress.values())
    require_space(
        out_dir,
        total.total_bytes - total.done_bytes,
        remedy="make room, choose a folder on another disk, or take fewer --per_class",
    )
    with tqdm(
        total=total.total_bytes,
        initial=total.done_bytes,
        unit="B",
        unit_scale=True,
        desc="downloading",
        disable=not fetchers,
    ) as bar:
        running = list(fetchers)
        for each in fetchers:
            each.resume()
        while running:
            ready: list[Any] = connection.wait([each.fileno() for each in running])
            for each in [each for each in running if each.fileno() in ready]:
                if (found := each.receive()) is None:
                    running.remove(each)
                    continue
                progress[each] = found
                each.resume()
            total = _sum(progress.values())
            if total.retries:
                bar.set_postfix(retries=total.retries, refresh=False)
            bar.update(total.done_bytes - bar.n)


def _sum(progress: Iterable[fetcher.Progress]) -> fetcher.Progress:
    return fetcher.Progress(*map(sum, zip((0, 0, 0), *progress, strict=True)))


class DownloadSource(NumpyBitmapSource):
    """A folder that `download` has filled. See `Source` for the attributes and methods."""

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`."""
        return super().describe() | {"kind": "download"}

    @staticmethod
    def _provenance(file: BitmapFile | RemoteBitmapFile) -> Provenance:
        provenance = NumpyBitmapSource._provenance(file)
        if provenance is None:
            raise DataError(
                f"{file.path}: there is no record of which of Google's drawings it holds; fetch "
                "it again into another folder, or use --source=numpy_bitmap"
            )
        return provenance
