"""From plans to shard files, in a worker process."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quickdraw_tfrecords.base.files import atomic_write, write_in_chunks
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.writing.planning import ShardPlan


@dataclasses.dataclass(frozen=True)
class ShardWriter:
    """Writes shards to a directory; small enough to be sent along with every task.

    Attributes:
      source: Where the drawings come from.
      layout: How they are encoded.
      directory: Where the shards go.
    """

    source: Source
    layout: RecordLayout
    directory: Path

    def write(self, plans: Sequence[ShardPlan]) -> list[tuple[str, ShardInfo]]:
        """Writes shards in one pass over the source, but keeps those already written.

        Returns:
          The split of each shard, and what the manifest is to say of it.

        Raises:
          DataError: A drawing cannot be read.
          OSError: A shard cannot be written; none is left half-written.
        """
        kept = [(plan, self._keep(plan)) for plan in plans]
        missing = [plan for plan, info in kept if info is None]
        infos = [(plan.split, info) for plan, info in kept if info is not None]
        return infos + (self._write(missing) if missing else [])

    def _write(self, plans: list[ShardPlan]) -> list[tuple[str, ShardInfo]]:
        labels = np.concatenate([plan.labels for plan in plans])
        rows = np.concatenate([plan.rows for plan in plans])
        matrix = _blank(self.layout, len(labels))
        images = self.layout.images(matrix)
        # Class by class and in ascending rows, so that each file is read front to back.
        order = np.argsort(labels * (rows.max() + 1) + rows)  # one key for both
        borders = np.flatnonzero(np.diff(labels[order])) + 1
        for members in np.split(order, borders):
            images[members] = self.source.read(int(labels[members[0]]), rows[members])
        self.layout.seal(matrix, labels, np.concatenate([plan.source_rows for plan in plans]))
        borders = np.cumsum([len(plan.labels) for plan in plans])[:-1]
        parts = zip(plans, np.split(matrix, borders), strict=True)
        return [(plan.split, self._save(plan, part)) for plan, part in parts]

    def _save(self, plan: ShardPlan, matrix: np.ndarray) -> ShardInfo:
        # The parent syncs it while the next one is written. Until then a crash of the machine may
        # damage it, and the next run would notice: it checks what it keeps.
        with atomic_write(self._path(plan), sync=False) as file:
            write_in_chunks(file, matrix)
        return self._info(plan, matrix)

    def _keep(self, plan: ShardPlan) -> ShardInfo | None:
        """The shard that an earlier run wrote, if there is one and it holds just this."""
        path, size = self._path(plan), len(plan.labels) * self.layout.stride
        if not path.exists() or path.stat().st_size != size:
            return None
        matrix = np.fromfile(path, np.uint8).reshape(-1, self.layout.stride)
        same = (
            self.layout.is_sound(matrix).all()
            and np.array_equal(self.layout.labels(matrix), plan.labels)
            and np.array_equal(self.layout.source_rows(matrix), plan.source_rows)
        )
        return self._info(plan, matrix) if same else None

    def _info(self, plan: ShardPlan, matrix: np.ndarray) -> ShardInfo:
        counts = np.bincount(plan.labels, minlength=len(self.source.class_names))
        return ShardInfo.of(self._path(plan).name, matrix, counts)

    def _path(self, plan: ShardPlan) -> Path:
        return self.directory / shards.shard_name(plan.split, plan.index, plan.count)


# Of this worker process, which writers come to with every task and leave.
_scratch: dict[RecordLayout, np.ndarray] = {}


def _blank(layout: RecordLayout, n: int) -> np.ndarray:
    """A blank uint8[n, stride], in the same memory each time: page faults are expensive."""
    if layout not in _scratch or len(_scratch[layout]) < n:
        _scratch.clear()
        _scratch[layout] = layout.blank(n)
    return _scratch[layout][:n]
