"""From a source to a data set on disk: source -> split -> shards -> manifest.

The data set grows in `<data_dir>/quickdraw/1.0.0.incomplete/` and is published by renaming
that directory, so what is under the final name is always complete. A conversion that was
stopped, however hard, resumes from the shards it has when the same command is run again.
"""

import dataclasses
import functools
import math
import os
import shutil
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from quickdraw_tfrecords.base import settings, workers
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import crc32c, delete_leftovers, require_space, sync_to_disk
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards, tfds_metadata
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.records import MAX_SIDE, RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.writing import filtering, planning
from quickdraw_tfrecords.writing.config import ConvertConfig
from quickdraw_tfrecords.writing.planning import ShardPlan
from quickdraw_tfrecords.writing.shard_writer import ShardWriter

# The small splits come first: they are written while the large one is planned.
_PLANNING_ORDER = ("validation", "test", "train")
_BATCH_BYTES = 180 * 2**20  # of shards, that each worker holds at once


def convert(
    source: Source, data_dir: Path, config: ConvertConfig, *, pool: futures.ProcessPoolExecutor
) -> Path:
    """Converts a source to a data set.

    Args:
      source: Where the drawings come from.
      data_dir: The data set is written to `<data_dir>/quickdraw/1.0.0`.
      config: How.
      pool: Worker processes, as from `workers.pool`.

    Returns:
      The data set's directory. If it already holds this very data set, nothing is done.

    Raises:
      UsageError: The request cannot be met, or the directory holds another conversion.
      DataError: A drawing cannot be read, or there is no room for the data set.
      OSError: The directory cannot be written to.
    """
    settings.check(config)
    if source.side > MAX_SIDE:
        raise UsageError(
            f"the source's drawings have {source.side:,} pixels a side, at most {MAX_SIDE:,} may be"
        )
    labels, rows, dropped = _take(source, config, pool)
    takes = np.bincount(labels).tolist()
    split_counts = planning.split_counts(
        source.class_names,
        takes,
        test_fraction=config.test_fraction,
        validation_fraction=config.validation_fraction,
    )
    sizes = {split: sum(counts) for split, counts in split_counts.items()}
    layout = RecordLayout.create(
        side=source.side,
        max_label=len(source.class_names) - 1,
        max_source_row=_max_source_row(source),
    )
    counts = planning.shard_counts(
        sizes, stride=layout.stride, shards=config.shards, shard_mib=config.shard_mib
    )
    root = data_dir / manifests.DATASET_NAME
    root.mkdir(parents=True, exist_ok=True)
    with locked(root, work="conversion"):
        source_rows = _source_rows(source, rows, takes)
        # Both run in the pool, side by side: one imports scikit-learn, the other reads every
        # file for its checksum.
        members = pool.submit(planning.split, source.class_names, split_counts, seed=config.seed)
        description = pool.submit(source.describe)
        request = {
            "source": description.result(),
            "class_names": list(source.class_names),
            "drawings": takes,
            "test_fraction": config.test_fraction,
            "validation_fraction": config.validation_fraction,
            "shards": counts,
            "seed": config.seed,
        }
        if config.drop:
            request["drop"] = dropped
        for name in ("license", "citation"):
            if text := getattr(config, name):
                request[name] = text
        # Without shards yet: it marks the incomplete directory as this conversion's.
        manifest = Manifest(request, layout, splits={})
        directory = _Directory(root)
        if directory.is_ready(manifest, overwrite=config.overwrite):
            return directory.final
        written_bytes = sum(path.stat().st_size for path in directory.incomplete.iterdir())
        require_space(
            directory.incomplete,
            sum(takes) * layout.stride - written_bytes,
            remedy="make room or choose another --data_dir",
        )
        writer = ShardWriter(source, layout, directory.incomplete)
        plans = (
            plan
            for split in _PLANNING_ORDER
            for plan in planning.plan_shards(
                split,
                *(column[members.result()[split]] for column in (labels, rows, source_rows)),
                count=counts[split],
                seed=config.seed,
            )
        )
        infos = _write_shards(pool, writer, plans, total=sum(takes))
        directory.publish(dataclasses.replace(manifest, splits=infos))
    return directory.final


def _take(
    source: Source, config: ConvertConfig, pool: futures.ProcessPoolExecutor
) -> tuple[np.ndarray, np.ndarray, dict[str, list[int]]]:
    """The labels int32[n] and rows int64[n] to convert, and what was dropped of each class."""
    how_many = functools.partial(
        planning.how_many,
        source.class_names,
        per_class=config.per_class,
        allow_fewer=config.allow_fewer,
    )
    takes = how_many(source.counts)
    if not config.drop:
        return *planning.take(source.class_names, source.counts, takes, seed=config.seed), {}
    labels, rows, dropped = filtering.take(
        source, takes, drop=config.dropped_kinds, seed=config.seed, pool=pool
    )
    left = np.bincount(labels, minlength=len(takes)).tolist()
    how_many(left, what="drawings left after --drop")
    return labels, rows, dropped


def _max_source_row(source: Source) -> int:
    last = (
        source.source_rows(label, np.array([count - 1]))[0]
        for label, count in enumerate(source.counts)
    )
    return int(max(last))


def _source_rows(source: Source, rows: np.ndarray, takes: list[int]) -> np.ndarray:
    by_class = np.split(rows, np.cumsum(takes)[:-1])
    return np.concatenate([source.source_rows(*item) for item in enumerate(by_class)])


class _Directory:
    """The life of the data set's directory: incomplete, then published by renaming."""

    def __init__(self, root: Path) -> None:
        self.final = root / manifests.VERSION
        self.incomplete = root / f"{manifests.VERSION}.incomplete"
        self._replaced = root / f"{manifests.VERSION}.replaced"

    def is_ready(self, manifest: Manifest, *, overwrite: bool) -> bool:
        """True if the data set is there; otherwise prepares the incomplete directory for it."""
        self._recover()
        if self.final.exists() and not overwrite:
            _require_same(self.final, manifest)
            return True
        if self.incomplete.exists():
            try:
                _require_same(self.incomplete, manifest)
            except (UsageError, DataError):
                if not overwrite and (self.incomplete / manifests.FILE_NAME).exists():
                    raise
                shutil.rmtree(self.incomplete)
        self.incomplete.mkdir(exist_ok=True)
        # What a killed process left; no other can be writing here, because the root is locked.
        delete_leftovers(self.incomplete)
        manifests.write_manifest(self.incomplete, manifest)
        return False

    def publish(self, manifest: Manifest) -> None:
        """Completes the metadata, and gives the directory its final name."""
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

    def _recover(self) -> None:
        """Ends a replacement that was cut short: undoes it if the new one is not in place."""
        if self._replaced.exists() and not self.final.exists():
            os.rename(self._replaced, self.final)
        shutil.rmtree(self._replaced, ignore_errors=True)


def _require_same(directory: Path, manifest: Manifest) -> None:
    """Refuses a directory that holds another conversion, saying what differs."""
    found, wanted = manifests.read_manifest(directory, finished=False).request, manifest.request
    differences = [
        f"{key} is {_brief(found.get(key))}, wanted {_brief(wanted.get(key))}"
        for key in {**wanted, **found}
        if found.get(key) != wanted.get(key)
    ]
    if differences:
        raise UsageError(
            f"{directory}: holds another conversion: {'; '.join(differences)}. "
            "Choose another --data_dir, or replace it with --overwrite"
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


def _write_shards(
    pool: futures.ProcessPoolExecutor,
    writer: ShardWriter,
    plans: Iterator[ShardPlan],
    *,
    total: int,
) -> dict[str, tuple[ShardInfo, ...]]:
    """Writes all shards; returns them by split, in order."""
    written: dict[str, list[ShardInfo]] = {split: [] for split in planning.SPLITS}
    # In a small data set, no worker takes more than its part of it, so that all have work.
    per_worker = math.ceil(total / workers.count(pool))
    batches = _batches(plans, max_records=min(per_worker, _BATCH_BYTES // writer.layout.stride))
    with (
        tqdm(total=total, unit=" drawings", unit_scale=True, desc="converting") as bar,
        futures.ThreadPoolExecutor(1) as disk,
    ):
        syncs = []
        for infos in workers.bounded_map(pool, writer.write, batches):
            for split, info in infos:
                written[split].append(info)
                syncs.append(disk.submit(sync_to_disk, writer.directory / info.name))
                bar.update(info.records)
        for sync in syncs:
            sync.result()
    return {
        split: tuple(sorted(infos, key=lambda info: info.name)) for split, infos in written.items()
    }


def _batches(plans: Iterator[ShardPlan], max_records: int) -> Iterator[list[ShardPlan]]:
    """Shards to write at once: the more there are, the fewer passes over the source's files."""
    batch: list[ShardPlan] = []
    records = 0
    for plan in plans:
        if batch and records + len(plan.labels) > max_records:
            yield batch
            batch, records = [], 0
        batch.append(plan)
        records += len(plan.labels)
    yield batch
