"""From a source to a data set: source -> split -> shards -> manifest.

The data set grows in `<data_dir>/quickdraw/1.0.0.incomplete/` and is published by renaming
that directory, so what is under the final name is always complete. In an object store, it is so
when it has its manifest. A conversion that was stopped, however hard, resumes from the shards it
has when the same command is run again.
"""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.cluster import ClusterPool
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.leases import Lease, LeaseObject
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.base.stores import Location, Store
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.writing import passes, planning, store_batches
from quickdraw_tfrecords.writing.config import ConvertConfig
from quickdraw_tfrecords.writing.directory import CRC_SUMS, REMEDY, DataDirectory, lasting
from quickdraw_tfrecords.writing.filling import ShardFiller
from quickdraw_tfrecords.writing.plan import Plan, make_plan
from quickdraw_tfrecords.writing.shard_writer import ShardWriter, Written
from quickdraw_tfrecords.writing.shared_writer import SharedShardWriter
from quickdraw_tfrecords.writing.store_directory import StoreDirectory


def convert(
    source: Source,
    data_dir: Location,
    config: ConvertConfig,
    *,
    pool: futures.Executor,
    scratch_dir: Path | None = None,
) -> Location:
    """Converts a source to a data set.

    Args:
      source: Where the drawings come from.
      data_dir: The data set is written to `<data_dir>/quickdraw/1.0.0`.
      config: How.
      pool: Worker processes, as from `workers.pool` or `cluster.pool`.
      scratch_dir: Where shards grow before they are put into a store; by default the system's
        folder for temporary files, or that of a cluster's worker.

    Returns:
      The data set's directory. If it already holds this very data set, nothing is done.

    Raises:
      UsageError: The request cannot be met, or the directory holds another conversion.
      DataError: A drawing cannot be read, or there is no room for the data set, or no way to it.
      OSError: The directory cannot be written to.
    """
    plan = make_plan(source, config, pool)
    with _held(data_dir) as directory:
        if directory.is_ready(plan.request, overwrite=config.overwrite):
            _require_same_drawings(directory.final, plan.request, pool, _filler(source, plan))
            return directory.final
        # Without shards yet: it marks the incomplete directory as this conversion's.
        directory.begin(Manifest(plan.request, plan.layout, splits={}))
        if isinstance(directory, StoreDirectory):
            written = _write_to_store(source, plan, directory, pool, scratch_dir)
        else:
            written = _write_to_directory(source, plan, directory, pool)
        directory.publish(_finished(plan, written))
    return directory.final


@contextlib.contextmanager
def _held(data_dir: Location) -> Iterator[DataDirectory | StoreDirectory]:
    """The data set's place, held against other processes."""
    if isinstance(data_dir, Store):
        root = data_dir / manifests.DATASET_NAME
        with Lease(LeaseObject(root), "conversion") as lease:
            yield StoreDirectory(root, lease)
    else:
        folder = data_dir / manifests.DATASET_NAME
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, work="conversion"):
            yield DataDirectory(folder)


def _filler(source: Source, plan: Plan, directory: Path = Path()) -> ShardFiller:
    return ShardFiller(source, plan.selection, plan.deal, plan.layout, directory)


def _write_to_directory(
    source: Source, plan: Plan, directory: DataDirectory, pool: futures.Executor
) -> list[Written]:
    """Writes all shards; the workers of a cluster share the file system."""
    if isinstance(pool, ClusterPool):
        folder = directory.open_work(plan.request)
        writer: ShardWriter = SharedShardWriter(
            plan.deal, plan.layout, directory.incomplete, folder
        )
    else:
        folder = directory.incomplete
        writer = ShardWriter(plan.deal, plan.layout, folder)
    return passes.write_shards(pool, _filler(source, plan, folder), writer)


def _write_to_store(
    source: Source,
    plan: Plan,
    directory: StoreDirectory,
    pool: futures.Executor,
    scratch_dir: Path | None,
) -> list[Written]:
    """Puts all shards into a store; the workers of a cluster share nothing else."""
    if isinstance(pool, ClusterPool):
        writer = directory.writer(plan, Path())
        filler = _filler(source, plan)
        store_batches.write_shards(pool, filler, writer, scratch_dir)
    else:
        with directory.scratch(plan.request, scratch_dir) as folder:
            writer = directory.writer(plan, folder)
            passes.write_shards(pool, _filler(source, plan, folder), writer)
    return writer.all()


def _finished(plan: Plan, written: Sequence[Written]) -> Manifest:
    """The manifest of a data set whose shards are all there."""
    splits: dict[str, list[ShardInfo]] = {split: [] for split in planning.SPLITS}
    for shard in written:
        splits[plan.deal.find(shard.number)[0]].append(shard.info)
    sums = np.stack([shard.crc_sums for shard in written]).sum(axis=0, dtype=np.uint32)
    facts = lasting(plan.request) | {CRC_SUMS: _hex(sums)}
    return Manifest(facts, plan.layout, {split: tuple(infos) for split, infos in splits.items()})


def _hex(crcs: NDArray[np.uint32]) -> list[str]:
    return [f"{crc:08x}" for crc in crcs.tolist()]


def _require_same_drawings(
    directory: Location,
    request: dict[str, Any],
    pool: futures.Executor,
    filler: ShardFiller,
) -> None:
    """Refuses a finished data set if the source's drawings are not those that are in it."""
    if lasting(request) == request:  # it has checksums of whole files
        return
    found = manifests.read_manifest(directory).request[CRC_SUMS]
    for name, *crcs in zip(
        request["class_names"], found, _hex(passes.sum_crcs(pool, filler)), strict=True
    ):
        if crcs[0] != crcs[1]:
            raise UsageError(
                f"{directory}: holds another conversion: the source's drawings of class {name!r} "
                f"were others (checksum {crcs[0]}, now {crcs[1]}). {REMEDY}"
            )
