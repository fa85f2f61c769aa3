"""Pictures, one folder per class: `<class>/<any name>.png` or `.jpg`, made into bitmaps.

Row r of a class is its r-th picture by name. Subfolders of a class are ignored.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from concurrent import futures
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from absl import logging
from numpy.typing import NDArray

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.bitmaps.pictures import read_picture
from quickdraw_tfrecords.sources.files import (
    FileVersion,
    checksum,
    open_unchanged,
    temporary_directory,
)
from quickdraw_tfrecords.sources.indexed import report_broken

_SHOWN = 10  # broken pictures, by name
SUFFIXES = (".png", ".jpg", ".jpeg")

_VERSION = np.dtype([("inode", "u8")] + [(name, "i8") for name in FileVersion._fields[1:]])


@dataclasses.dataclass(frozen=True)
class ImageFolderSource:
    """A folder of folders of pictures. See `Source` for the other attributes and methods.

    Attributes:
      directory: The folder.
      index: A folder with `<label>.txt` and `<label>.npy`, the names and the versions of each
        class's files. They are not kept in this object, because it is sent to the workers with
        every batch of shards.
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    side: int
    directory: Path
    index: Path

    @classmethod
    def open(
        cls,
        directory: Path,
        classes: Sequence[str] | None = None,
        *,
        pool: futures.Executor | None = None,
        side: int = 28,
        max_bad: int = 0,
    ) -> "ImageFolderSource":
        """Lists the pictures of the wanted classes (all, if None).

        Args:
          directory: It has a folder for each class.
          classes: Class names.
          pool: Worker processes, to look for broken pictures.
          side: Height and width of the bitmaps to make.
          max_bad: How many broken pictures to skip. If it is 0, they are found when they are read.

        Raises:
          UsageError: The folder does not exist or has no folders with pictures; a wanted class
            is unknown or listed twice.
          DataError: More than `max_bad` pictures are broken; names the first.
        """
        if not directory.is_dir():
            raise UsageError(f"--source_dir={directory}: no such directory")
        folders = [path.name for path in directory.iterdir() if path.is_dir()]
        available = {name: files for name in folders if (files := _pictures(directory / name))}
        if not available:
            raise UsageError(
                f"--source_dir={directory}: must hold a folder for each class, "
                f"with pictures ({', '.join(SUFFIXES)})"
            )
        chosen = names.select(available, classes)
        if max_bad and pool:
            available = _readable(directory, {n: available[n] for n in chosen}, side, pool, max_bad)
        index = temporary_directory()
        for label, name in enumerate(chosen):
            _save_index(index, label, directory / name, available[name])
        counts = tuple(len(available[name]) for name in chosen)
        return cls(chosen, counts, side, directory, index)

    def read(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Source.read`."""
        images = np.empty((len(rows), self.side, self.side), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            with self._open(label, row) as file:
                image[:] = _read(file, self.side)
        return images.reshape(len(rows), -1)

    def _open(self, label: int, row: int) -> AbstractContextManager[BinaryIO]:
        files, versions = _load_index(self.index, label)
        path = self.directory / self.class_names[label] / files[row]
        return open_unchanged(path, FileVersion(*versions[row].tolist()))

    def source_rows(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Source.source_rows`."""
        return rows

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`; reads every file once for its checksum."""
        classes = {}
        for label, name in enumerate(self.class_names):
            size = crc = 0
            files, versions = _load_index(self.index, label)
            for row, file_name in enumerate(files):
                size += int(versions[row]["size_bytes"])
                crc = google_crc32c.extend(crc, os.fsencode(file_name))
                with self._open(label, row) as file:
                    crc = google_crc32c.extend(crc, checksum(file).to_bytes(4, "little"))
            classes[name] = {
                "drawings": self.counts[label],
                "bytes": size,
                "names_and_contents_crc32c": f"{crc:08x}",
            }
        return {"kind": "image_folder", "side": self.side, "classes": classes}


def _pictures(folder: Path) -> list[str]:
    """The names of the pictures of a folder, sorted; warns of files that it skips."""
    visible = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    pictures = [name for name in visible if name.lower().endswith(SUFFIXES)]
    if len(pictures) < len(visible):
        others = [name for name in visible if name not in set(pictures)]
        logging.warning(
            "%s: skipped %d that are not %s, such as %s",
            folder,
            len(others),
            "/".join(SUFFIXES),
            others[0],
        )
    return pictures


def _readable(
    directory: Path,
    available: dict[str, list[str]],
    side: int,
    pool: futures.Executor,
    max_bad: int,
) -> dict[str, list[str]]:
    """The pictures that can be read, by class."""
    folders = [directory / name for name in available]
    broken = list(pool.map(_broken, folders, available.values(), itertools.repeat(side)))
    reasons = [reason for of_class in broken for reason in of_class.values()]
    report_broken(reasons[:_SHOWN], len(reasons), max_bad)
    return {
        name: [file for file in files if file not in of_class]
        for (name, files), of_class in zip(available.items(), broken, strict=True)
    }


def _broken(folder: Path, files: Sequence[str], side: int) -> dict[str, str]:
    """What is wrong with the pictures of a class that cannot be read, by file."""
    reasons = {}
    for name in files:
        with open_regular(folder / name) as file:
            try:
                read_picture(file, side)
            except DataError as error:
                reasons[name] = f"{file.name}: {error}"
    return reasons


def _save_index(index: Path, label: int, folder: Path, files: list[str]) -> None:
    """Saves the names of a class's files, and which versions of them there are."""
    (index / f"{label}.txt").write_bytes(b"\0".join(map(os.fsencode, files)))
    versions = [tuple(FileVersion.of(folder / name)) for name in files]
    np.save(index / f"{label}.npy", np.array(versions, _VERSION))


@functools.lru_cache(maxsize=1)
def _load_index(index: Path, label: int) -> tuple[list[str], NDArray[np.void]]:
    files = (index / f"{label}.txt").read_bytes().split(b"\0")
    return list(map(os.fsdecode, files)), np.load(index / f"{label}.npy")


def _read(file: BinaryIO, side: int) -> NDArray[np.uint8]:
    try:
        return read_picture(file, side)
    except DataError as error:
        raise DataError(
            f"{file.name}: cannot be read as a picture: {error}; mend it, or skip up to 10 such "
            "pictures with --max_bad=10"
        ) from None
