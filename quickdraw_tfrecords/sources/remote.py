"""Files of a source that are in an object store: read in ranges, or copied.

Of Google's bitmaps a data set takes a few hundredths, so only these are asked for, by whichever
worker needs them. All other files are read from front to back anyway, so they are copied first.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from quickdraw_tfrecords.base import progress
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import atomic_write, require_space
from quickdraw_tfrecords.base.store_backends import Buffer
from quickdraw_tfrecords.base.stores import Entry, Store
from quickdraw_tfrecords.sources.files import temporary_directory

_AHEAD = 16  # requests at a time, for each file
_PART_BYTES = 2**22
_COPIES = 4  # files that are copied at a time


class RemoteVersion(NamedTuple):
    """What tells whether an object is still the one that was opened first; see `FileVersion`."""

    tag: str
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """An object as it was when it was found; another version of it is not read.

    Attributes:
      store: The folder that it is in.
      name: What it is called there.
      entry: Its size and its tag.
    """

    store: Store
    name: str
    entry: Entry

    def __str__(self) -> str:
        return str(self.store / self.name)

    def read(self, stop: int) -> bytes:
        """The first `stop` bytes, or as many as there are.

        Raises:
          DataError: It has changed, or there is no way to it.
        """
        return self.store.read(self.name, 0, min(stop, self.entry.size), tag=self.entry.tag)

    def ranges(self, ranges: Iterable[tuple[int, int]]) -> Iterator[Buffer]:
        """Ranges [start, stop) of bytes in order, of which many are on their way at a time.

        Raises:
          DataError: As `read`.
        """
        coming = collections.deque[futures.Future[Buffer]]()
        for start, stop in ranges:
            coming.append(self.store.begin_read(self.name, start, stop, tag=self.entry.tag))
            if len(coming) == _AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()

    def copy(self, folder: Path) -> None:
        """Copies it into a folder, under its name.

        Raises:
          DataError: As `read`.
        """
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        borders = [*range(0, self.entry.size, _PART_BYTES), self.entry.size]
        with atomic_write(path, sync=False) as file:
            for part in self.ranges(itertools.pairwise(borders)):
                file.write(part)


def find_class_files(
    store: Store, suffixes: Sequence[str], classes: Sequence[str] | None
) -> dict[str, RemoteFile]:
    """The files `<class><suffix>` of a folder, by name; at least those of the wanted classes.

    Args:
      store: The folder.
      suffixes: The longer ones first.
      classes: Those that are wanted; None: all.

    Raises:
      UsageError: There are none, or a web server would have to list them.
    """
    if not store.is_read_only:
        entries = store.entries()
    elif classes is None:
        raise UsageError(
            f"--source_dir={store}: a web server does not list its files; name --classes"
        )
    else:
        entries = store.find([f"{name}{suffix}" for name in classes for suffix in suffixes])
    found = {
        name: RemoteFile(store, name, entry)
        for name, entry in entries.items()
        if name.endswith(tuple(suffixes)) and "/" not in name
    }
    if not found:
        raise UsageError(f"--source_dir={store}: holds no {suffixes[-1]} files")
    return found


def copy_class_files(store: Store, suffixes: Sequence[str], classes: Sequence[str] | None) -> Path:
    """Copies the files `<class><suffix>` of the wanted classes to a temporary folder.

    Args:
      store: The folder.
      suffixes: The longer ones first.
      classes: As for `find_class_files`.

    Raises:
      UsageError: As `find_class_files`.
      DataError: There is no room, or no way to the store.
    """
    wanted = None if classes is None else {f"{name}{end}" for name in classes for end in suffixes}
    found = find_class_files(store, suffixes, classes)
    return _copy(store, [one for name, one in found.items() if wanted is None or name in wanted])


def copy_folder(store: Store) -> Path:
    """Copies all files of a folder, and of those in it, to a temporary one.

    Raises:
      UsageError: It is empty, or a web server would have to list it.
      DataError: As `copy_class_files`.
    """
    found = [RemoteFile(store, name, entry) for name, entry in store.entries().items()]
    if not found:
        raise UsageError(f"--source_dir={store}: holds no files")
    return _copy(store, found)


def _copy(store: Store, files: Sequence[RemoteFile]) -> Path:
    folder, size = temporary_directory(), sum(file.entry.size for file in files)
    for file in files:
        if not set(PurePosixPath(file.name).parts).isdisjoint(("..", "/")):
            raise DataError(f"{file}: cannot be the name of a file; rename it")
    require_space(folder, size, remedy="or name another folder by the variable TMPDIR")
    with futures.ThreadPoolExecutor(_COPIES) as threads:
        copied = threads.map(lambda file: file.copy(folder), files)
        for _ in progress.bar("copying", copied, total=len(files), unit="files"):
            pass
    print(f"copied {len(files):,} files ({size / 1e6:,.1f} MB) of {store} to {folder}, for now")
    return folder
