"""The directory of a data set: incomplete, then published by renaming."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import crc32c, delete_leftovers, sync_to_disk
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards, tfds_metadata
from quickdraw_tfrecords.format.manifest import Manifest

CRC_SUMS = "record_crc_sums"  # of a finished manifest's request, in place of files' versions
REMEDY = "Choose another --data_dir, or replace it with --overwrite"


def lasting(request: dict[str, Any]) -> dict[str, Any]:
    """A request without the versions of its files, which are not the same elsewhere."""
    return {
        key: lasting(value) if isinstance(value, dict) else value
        for key, value in request.items()
        if not (key == "version" and isinstance(value, list))  # for a class may be called so
    }


class DataDirectory:
    """The life of the data set's directory: incomplete, then published by renaming."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.final = root / manifests.VERSION
        self.incomplete = root / f"{manifests.VERSION}.incomplete"
        self._replaced = root / f"{manifests.VERSION}.replaced"

    def is_ready(self, request: dict[str, Any], *, overwrite: bool) -> bool:
        """True if the data set is there; otherwise prepares the incomplete directory for it."""
        self._recover()
        if self.final.exists() and not overwrite:
            require_same(self.final, request)
            return True
        if self.incomplete.exists():
            try:
                require_same(self.incomplete, request)
            except (UsageError, DataError):
                if not overwrite and (self.incomplete / manifests.FILE_NAME).exists():
                    raise
                shutil.rmtree(self.incomplete)
        self.incomplete.mkdir(exist_ok=True)
        # What a killed process left; no other can be writing here, because the root is locked.
        delete_leftovers(self.incomplete)
        return False

    def begin(self, manifest: Manifest) -> None:
        """Marks the incomplete directory as that of a conversion."""
        manifests.write_manifest(self.incomplete, manifest)

    def open_work(self, request: dict[str, Any]) -> Path:
        """The folder for the workers of a cluster to write to, for this request alone."""
        work = self._root / f"{manifests.VERSION}.work-{token_of(request)}"
        self._delete_work(but=work)
        work.mkdir(exist_ok=True)
        delete_leftovers(work)
        return work

    def publish(self, manifest: Manifest) -> None:
        """Completes the metadata, and gives the directory its final name."""
        _delete_filling(self.incomplete)
        tfds_metadata.write(self.incomplete, manifest)
        tfds_metadata.require_same(self.incomplete, manifest)
        for path in self.incomplete.iterdir():
            if not shards.parse_shard_name(path.name):  # shards are synced already
                sync_to_disk(path)
        manifests.write_manifest(self.incomplete, manifest)
        manifests.read_manifest(self.incomplete)  # what is published can be opened
        if self.final.exists():
            os.rename(self.final, self._replaced)
        os.rename(self.incomplete, self.final)
        sync_to_disk(self.final.parent)
        self._recover()
        self._delete_work()

    def _recover(self) -> None:
        """Ends a replacement that was cut short: undoes it if the new one is not in place."""
        if self._replaced.exists() and not self.final.exists():
            os.rename(self._replaced, self.final)
        shutil.rmtree(self._replaced, ignore_errors=True)

    def _delete_work(self, *, but: Path | None = None) -> None:
        for work in self._root.glob(f"{manifests.VERSION}.work-*"):
            if work != but:
                shutil.rmtree(work, ignore_errors=True)  # a late worker may be writing there


def _delete_filling(directory: Path) -> None:
    """Deletes what one machine has begun, and a cluster finished elsewhere."""
    for path in directory.glob(".*.filling"):
        path.unlink()


def token_of(request: dict[str, Any]) -> str:
    """What names the files of one request and no other."""
    return f"{crc32c(json.dumps(request).encode()):08x}"


def require_same(directory: Location, request: dict[str, Any]) -> None:
    """Refuses a directory that holds another conversion.

    Raises:
      UsageError: It does; says what differs.
      DataError: Its manifest cannot be read.
    """
    found = manifests.read_manifest(directory, finished=False).request
    wanted = lasting(request) if CRC_SUMS in found else request
    differences = [
        f"{key} is {_brief(found.get(key))}, wanted {_brief(wanted.get(key))}"
        for key in {**wanted, **found}
        if found.get(key) != wanted.get(key) and key != CRC_SUMS
    ]
    if differences:
        raise UsageError(
            f"{directory}: holds another conversion: {'; '.join(differences)}. {REMEDY}"
        )


def _brief(value: Any) -> str:
    """A value short enough for an error's line."""
    if isinstance(value, dict) and "kind" in value:
        text = ", ".join(f"{k} {v}" for k, v in value.items() if not isinstance(v, dict))
        crc = crc32c(repr(value).encode())
        return f"{text} (checksum of its description {crc:08x})"
    if isinstance(value, list) and len(value) > 4:
        return f"[{value[0]!r}, {value[1]!r}, ... {len(value)} in all]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {_brief(v)}" for k, v in value.items()) + "}"
    return repr(value)
