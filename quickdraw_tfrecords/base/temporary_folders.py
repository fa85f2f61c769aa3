"""Folders for temporary files that do not outlive their process for long, if that is killed."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from quickdraw_tfrecords.base import leases
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.base.leases import Holder

_OWNER_NAME = ".owner"


class TemporaryFolder:
    """A folder that is deleted with this object; also a context that ends with it.

    If its process is killed, the next one on this machine that makes such a folder deletes it.

    Args:
      prefix: Of its name, and of those that are looked at.
      parent: Where it is; by default among the system's temporary files.

    Attributes:
      path: The folder.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        _delete_abandoned(parent, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        (self.path / _OWNER_NAME).write_bytes(Holder.me().to_bytes(beat=0))
        self._discard = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.delete()

    def delete(self) -> None:
        """Deletes the folder now, unless it is kept."""
        self._discard()

    def keep(self) -> None:
        """Leaves the folder where it is, for good."""
        self._discard.detach()
        (self.path / _OWNER_NAME).unlink(missing_ok=True)


def _delete_abandoned(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*/{_OWNER_NAME}"):
        try:
            with open_regular(path) as file:
                holder, _ = leases.parse(file.read(leases.MAX_BYTES))
                is_mine = os.fstat(file.fileno()).st_uid == os.geteuid()
        except (OSError, DataError):  # not mine, or somebody else has just deleted it
            continue
        if holder and holder.has_ended and is_mine:
            shutil.rmtree(path.parent, ignore_errors=True)
