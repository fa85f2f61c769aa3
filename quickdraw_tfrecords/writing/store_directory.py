"""The folder of a data set in an object store: it is a data set as soon as it has its manifest.

    quickdraw/.lease                       whoever converts
    quickdraw/1.0.0/                       shards and TFDS' files; last of all, manifest.json
    quickdraw/1.0.0.incomplete/            manifest.json without shards, and facts of each shard

Nothing can be renamed there, so shards have their final names from the beginning. A data set that
is replaced loses its manifest first.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.base.leases import Lease
from quickdraw_tfrecords.base.stores import Store
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import tfds_metadata
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.writing.directory import REMEDY, require_same, token_of
from quickdraw_tfrecords.writing.plan import Plan
from quickdraw_tfrecords.writing.store_writer import StoreShardWriter


class StoreDirectory:
    """The life of the data set's folder in a store."""

    def __init__(self, root: Store, lease: Lease) -> None:
        self.final = root / manifests.VERSION
        self.incomplete = root / f"{manifests.VERSION}.incomplete"
        self._lease = lease

    def is_ready(self, request: dict[str, Any], *, overwrite: bool) -> bool:
        """True if the data set is there; otherwise deletes what is not this conversion's.

        Raises:
          UsageError: Something else is there, and `overwrite` is false.
          DataError: There is no way to the store, or what is there is damaged.
        """
        if self.final.entry(manifests.FILE_NAME) and not overwrite:
            require_same(self.final, request)
            _delete(self.incomplete)  # what a conversion left that was killed at its end
            return True
        if self.incomplete.entry(manifests.FILE_NAME):
            try:
                require_same(self.incomplete, request)
            except (UsageError, DataError):
                if not overwrite:
                    raise
            else:
                if not self.final.entry(manifests.FILE_NAME):
                    return False
        elif not overwrite and self.final.entries():
            raise UsageError(f"{self.final}: holds objects, and no data set. {REMEDY}")
        _delete(self.final)
        _delete(self.incomplete)
        return False

    def begin(self, manifest: Manifest) -> None:
        """Marks the incomplete folder as that of a conversion."""
        manifests.write_manifest(self.incomplete, manifest)

    def writer(self, plan: Plan, folder: Path) -> StoreShardWriter:
        """What puts shards here, of files in a folder."""
        claim = self._lease.claim
        return StoreShardWriter(plan.deal, plan.layout, folder, self.final, self.incomplete, claim)

    @contextlib.contextmanager
    def scratch(self, request: dict[str, Any], parent: Path | None) -> Iterator[Path]:
        """A folder of this machine for this request; what a killed run left there is of use."""
        here = f"{crc32c(str(self.final).encode()):08x}-{token_of(request)}"
        folder = Path(parent or tempfile.gettempdir()) / f"quickdraw-{here}"
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    def publish(self, manifest: Manifest) -> None:
        """Puts what TFDS reads, then the manifest."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for shard in manifest.shards:
                (folder / shard.name).touch()  # TFDS only looks whether they are there
            tfds_metadata.write(folder, manifest)
            tfds_metadata.require_same(folder, manifest)
            for path in folder.iterdir():
                if path.name in tfds_metadata.FILE_NAMES:
                    self.final.write(path.name, path)
        self._lease.require()
        manifests.write_manifest(self.final, manifest)
        manifests.read_manifest(self.final)  # what is published can be opened
        _delete(self.incomplete)


def _delete(folder: Store) -> None:
    """Deletes all objects of a folder; the manifest first, so that it is no data set anymore."""
    names = folder.entries()
    for name in sorted(names, key=lambda name: name != manifests.FILE_NAME):
        folder.delete(name)
