"""Google's bitmaps from Google's bucket: only the rows that are wanted.

    download(Path("cache"), ["airplane", "zigzag"], per_class=6450)
    source = DownloadSource.open(Path("cache"), ["airplane", "zigzag"])

A class file holds 113,613 to 340,029 drawings, 39.5 GB in all. For 6450 of each, ranges
of whole rows are asked for: 1.75 GB.

https://github.com/googlecreativelab/quickdraw-dataset#numpy-bitmaps-npy
"""

import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.base.workers import RemoteGenerator
from quickdraw_tfrecords.sources.download import bucket, fetcher
from quickdraw_tfrecords.sources.download.partial_file import Provenance, read_provenance
from quickdraw_tfrecords.sources.numpy_bitmap import BitmapFile, NumpyBitmapSource

_MAX_PROCESSES = 4  # They outrun a network of 10 Gbit/s.


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
      stall_secs: See `RangeClient`.
      backoff_secs: Likewise.

    Raises:
      UsageError: The request cannot be met, or the folder holds other rows.
      DataError: The server or the network fails, a file is not of the promised form, or
        there is too little room. What has been fetched stays, and is not fetched again.
      OSError: The disk is full or cannot be written to.
    """
    if per_class is not None:
        sha256 = {}  # It says nothing of a part of a file.
    elif sha256 is None:
        sha256 = {name: file.sha256 for name, file in bucket.google_files().items()}
    order = fetcher.Order(base_url, per_class, selection, seed, sha256, stall_secs, backoff_secs)
    out_dir.mkdir(parents=True, exist_ok=True)
    with locked(out_dir, work="download"):
        paths = [out_dir / f"{name}.npy" for name in class_names]
        absent = [path for path in paths if not _is_fetched(path, order)]
        for path in absent:
            if per_class is None and path.stem not in sha256:
                logging.warning("%s: no SHA-256 is known, so it is not checked", path)
        count = min(_MAX_PROCESSES, os.cpu_count() or 1, connections, len(absent))
        fetchers: list[RemoteGenerator] = []
        try:
            for i in range(count):
                share = absent[i::count], len(range(i, connections, count))
                fetchers.append(RemoteGenerator(fetcher.fetch, order, *share))
            _follow(out_dir, fetchers)
        finally:
            for each in fetchers:
                each.kill()  # Whatever it is at: what a kill leaves behind is gone on with.


def _is_fetched(path: Path, order: fetcher.Order) -> bool:
    if not path.exists():
        return False
    provenance = read_provenance(path)
    if provenance is None:
        raise UsageError(
            f"{path}: is there, but was not fetched by this command; choose another folder, "
            "or use what is there with --source=numpy_bitmap"
        )
    if provenance.runs != order.choose(path.stem, provenance.drawings):
        raise UsageError(
            f"{path}: holds other drawings than --per_class, --selection and --seed ask for; "
            "choose another folder, or delete this one"
        )
    try:
        return BitmapFile.open(path).count == provenance.count
    except DataError:
        return False  # Cut short since: it is fetched again.


def _follow(out_dir: Path, fetchers: Sequence[RemoteGenerator]) -> None:
    """Lets processes fetch if there is room for it all, and shows their progress."""
    progress = {each: each.receive() for each in fetchers}
    total = _sum(progress.values())
    _require_space(out_dir, total.total_bytes - total.done_bytes)
    with tqdm(
        total=total.total_bytes,
        initial=total.done_bytes,
        unit="B",
        unit_scale=True,
        desc="downloading",
        disable=not fetchers,
    ) as bar:
        running = set(fetchers)
        for each in fetchers:
            each.resume()
        while running:
            for each in connection.wait(running):
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


def _require_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise DataError(
            f"{directory}: needs {needed / 1e6:,.0f} MB more, {free / 1e6:,.0f} MB are free; "
            "make room, choose a folder on another disk, or take fewer --per_class"
        )


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
