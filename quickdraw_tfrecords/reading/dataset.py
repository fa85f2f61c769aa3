"""A data set on disk: `open_dataset()` says what is in it. TensorFlow is not imported."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.base.stores import Location, Store, locate
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards, tfds_metadata
from quickdraw_tfrecords.format.credit import Credit, credit_of, of_tfds
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.reading import remote_shards, tfds_folder
from quickdraw_tfrecords.reading.blocks import Reader, ReadState, Shard, SplitSlice
from quickdraw_tfrecords.reading.epoch import WorkerSlice
from quickdraw_tfrecords.reading.local_cache import LOCAL_CACHE_GIB, LocalCache
from quickdraw_tfrecords.reading.remote_shards import READ_AHEAD_MIB, RemoteFolder
from quickdraw_tfrecords.reading.splits import parse_split
from quickdraw_tfrecords.reading.tfds_folder import TfdsReader, TfdsShard


@dataclasses.dataclass(frozen=True, repr=False)
class DatasetInfo:
    """A data set on disk.

    What is held of it in memory (`cache="memory"`) is held as long as this object lives.

    Attributes:
      directory: Where its files are.
      class_names: The classes in label order.
      num_examples: Drawings of each split.
      side: Height and width of a drawing in pixels.
      manifest: Everything the converter recorded; None if another tool wrote the data set.
      folder: What is known of the shards in an object store; None if they are on disk.
    """

    directory: Location
    class_names: tuple[str, ...]
    num_examples: Mapping[str, int]
    side: int
    manifest: Manifest | None
    folder: RemoteFolder | None = None

    def __repr__(self) -> str:
        splits = ", ".join(f"{split} {count:,}" for split, count in self.num_examples.items())
        classes = ", ".join(map(repr, self.class_names[:3]))
        # Another tool's data set would be read whole for its fingerprint.
        last = f"fingerprint {self.fingerprint}" if self.manifest else "written by another tool"
        return (
            f"DatasetInfo({str(self.directory)!r}:\n"
            f"  {self.num_classes} classes: {classes}{', ...' if self.num_classes > 3 else ''}\n"
            f"  drawings of {self.side} x {self.side} pixels: {splits}\n"
            f"  {last})"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Equal for equal data sets: a checksum of what was converted, and how.

        Of another tool's data set it is a checksum of all its files, which are read once for it.

        Raises:
          DataError: Such a file is missing, or changes while it is read.
        """
        if self.manifest:
            facts: object = self.manifest.request
        else:
            facts = self.class_names, self.num_examples, tfds_folder.checksums(self._on_disk)
        return f"{crc32c(json.dumps(facts).encode()):08x}"

    @property
    def credit(self) -> Credit:
        """Whose the drawings are.

        Raises:
          DataError: Another tool wrote the data set, and its metadata cannot be read.
        """
        if self.manifest:
            return credit_of(self.manifest.request)
        return of_tfds(tfds_metadata.stated_credit(tfds_metadata.read_info(self._on_disk)))

    def count(self, split: str) -> int:
        """Drawings of a split, or of a slice of one such as `train[:10%]`.

        Raises:
          UsageError: There is no such split, or no drawing in the slice.
        """
        return len(parse_split(split, self.num_examples))

    def split_slice(self, split: str, worker_slice: WorkerSlice | None = None) -> SplitSlice:
        """What a worker reads of a split, or of a slice of one.

        Args:
          split: As for `count`.
          worker_slice: The worker's part of it; all, if None.

        Raises:
          UsageError: As `count`.
        """
        found = parse_split(split, self.num_examples)
        chosen = worker_slice or WorkerSlice(len(found))
        shards: Sequence[Shard]
        if self.manifest is None:
            shards = members = self._tfds_shards[found.name]
            open_reader: Callable[[], Reader] = functools.partial(
                TfdsReader, self._on_disk, self.side, self.num_classes, members, self._state
            )
        else:
            layout = self.manifest.layout
            shards = stored = self.manifest.splits[found.name]
            place = self.folder or self.directory
            open_reader = functools.partial(
                remote_shards.open_reader, place, layout, stored, self._state
            )
        return SplitSlice(
            self.directory,
            found.name,
            found.start + chosen.start,
            found.start + chosen.stop,
            self.side,
            shards,
            self._state,
            open_reader,
        )

    def require_manifest(self) -> Manifest:
        """The manifest.

        Raises:
          DataError: Another tool wrote the data set, so it has none.
        """
        if self.manifest is None:
            raise DataError(
                f"{self.directory}: was not written by this project's converter; convert it with "
                "--source=tfds"
            )
        return self.manifest

    @functools.cached_property
    def _tfds_shards(self) -> Mapping[str, tuple[TfdsShard, ...]]:
        return tfds_folder.list_shards(self._on_disk)

    @property
    def _on_disk(self) -> Path:
        """The directory, of another tool's data set: in a store there can be none."""
        return Path(str(self.directory))

    @functools.cached_property
    def _state(self) -> ReadState:
        return ReadState()


def open_dataset(
    data_dir: str | os.PathLike[str] | Store,
    *,
    read_ahead_mib: float = READ_AHEAD_MIB,
    local_cache_dir: str | os.PathLike[str] | None = None,
    local_cache_gib: float = LOCAL_CACHE_GIB,
) -> DatasetInfo:
    """Opens a data set and checks that all its files are there.

    Args:
      data_dir: What was given to the converter as --data_dir, or the directory in it that
        holds the shards; or the URL of either: s3://bucket/data.
      read_ahead_mib: MiB of a data set in an object store that may be on their way, or wait
        for their turn, for each split that is being read.
      local_cache_dir: Folder on a local disk for copies of its shards, which other processes
        may use as well. Data sets that are on disk already have none.
      local_cache_gib: GiB that all copies in that folder may take.

    Raises:
      UsageError: It is a URL of which nothing can be read, or a package for it is missing.
      DataError: There is no data set, its conversion was not finished, its manifest is
        damaged, or a shard is missing or of another length; or there is no way to a store.
    """
    location = locate(data_dir)
    if isinstance(location, Store):
        store = manifests.find_directory(location)
        manifest = manifests.read_manifest(store)
        folder = RemoteFolder(
            store,
            shards.require_lengths(store, manifest.shards),
            int(read_ahead_mib * 2**20),
            LocalCache(Path(local_cache_dir), int(local_cache_gib * 2**30))
            if local_cache_dir
            else None,
        )
        return dataclasses.replace(_describe(store, manifest), folder=folder)
    directory = manifests.find_directory(location)
    if not (directory / manifests.FILE_NAME).exists() and tfds_folder.is_dataset(directory):
        class_names, num_examples, side = tfds_folder.describe(directory)
        return DatasetInfo(directory, class_names, num_examples, side, manifest=None)
    manifest = manifests.read_manifest(directory)
    for members in manifest.splits.values():
        for shard in members:
            shards.require_length(directory, shard)
    return _describe(directory, manifest)


def _describe(directory: Location, manifest: Manifest) -> DatasetInfo:
    num_examples = {
        split: sum(shard.records for shard in members) for split, members in manifest.splits.items()
    }
    return DatasetInfo(
        directory, manifest.class_names, num_examples, manifest.layout.side, manifest
    )
