"""From a source to a data set on disk: source -> split -> shards -> manifest.

The data set grows in `<data_dir>/quickdraw/1.0.0.incomplete/` and is published by renaming
that directory, so what is under the final name is always complete. A conversion that was
stopped, however hard, resumes from the shards it has when the same command is run again.
"""

import dataclasses
import functools
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base import settings
from quickdraw_tfrecords.base.cluster import ClusterPool
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import validation
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.records import MAX_SIDE, RecordLayout, varint_width
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.writing import filtering, passes, planning
from quickdraw_tfrecords.writing.config import ConvertConfig
from quickdraw_tfrecords.writing.dealing import Deal
from quickdraw_tfrecords.writing.directory import CRC_SUMS, REMEDY, DataDirectory, lasting
from quickdraw_tfrecords.writing.filling import ShardFiller
from quickdraw_tfrecords.writing.planning import Selection
from quickdraw_tfrecords.writing.shard_writer import ShardWriter, Written
from quickdraw_tfrecords.writing.shared_writer import SharedShardWriter


def convert(
    source: Source, data_dir: Path, config: ConvertConfig, *, pool: futures.Executor
) -> Path:
    """Converts a source to a data set.

    Args:
      source: Where the drawings come from.
      data_dir: The data set is written to `<data_dir>/quickdraw/1.0.0`.
      config: How.
      pool: Worker processes, as from `workers.pool` or `cluster.pool`.

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
    selection, dropped = _select(source, config, pool)
    drawings = planning.split_counts(
        source.class_names,
        selection.takes,
        test_fraction=config.test_fraction,
        validation_fraction=config.validation_fraction,
    )
    layout = validation.make_layout(
        source.side, varint_width(len(source.class_names) - 1), varint_width(_max_row(source))
    )
    counts = planning.shard_counts(
        {split: sum(of_class) for split, of_class in drawings.items()},
        stride=layout.stride,
        shards=config.shards,
        shard_mib=config.shard_mib,
    )
    request = {
        "source": source.describe(),
        "class_names": list(source.class_names),
        "drawings": list(selection.takes),
        "test_fraction": config.test_fraction,
        "validation_fraction": config.validation_fraction,
        "shards": counts,
        "seed": config.seed,
        "planning": planning.VERSION,
    }
    if config.drop:
        request["drop"] = dropped
    for name in ("license", "citation"):
        if text := getattr(config, name):
            request[name] = text
    deal = Deal(source.class_names, drawings, counts, config.seed)
    root = data_dir / manifests.DATASET_NAME
    root.mkdir(parents=True, exist_ok=True)
    with locked(root, work="conversion"):
        directory = DataDirectory(root)
        filler = ShardFiller(source, selection, deal, layout, directory.incomplete)
        writer = ShardWriter(deal, layout, directory.incomplete)
        if directory.is_ready(request, overwrite=config.overwrite):
            _require_same_drawings(directory.final, request, pool, filler)
            return directory.final
        # Without shards yet: it marks the incomplete directory as this conversion's.
        manifests.write_manifest(directory.incomplete, Manifest(request, layout, splits={}))
        if isinstance(pool, ClusterPool):
            work = directory.open_work(request)
            filler = dataclasses.replace(filler, directory=work)
            writer = SharedShardWriter(deal, layout, directory.incomplete, work)
        written = passes.write_shards(pool, filler, writer)
        directory.publish(_finished(request, layout, deal, written))
    return directory.final


def _select(
    source: Source, config: ConvertConfig, pool: futures.Executor
) -> tuple[Selection, dict[str, list[int]]]:
    """What is to be converted, and how many drawings of each class were dropped."""
    how_many = functools.partial(
        planning.how_many,
        source.class_names,
        per_class=config.per_class,
        allow_fewer=config.allow_fewer,
    )
    takes = how_many(source.counts)
    selection = Selection(source.class_names, source.counts, tuple(takes), config.seed)
    if not config.drop:
        return selection, {}
    selection, dropped = filtering.select(source, selection, drop=config.dropped_kinds, pool=pool)
    how_many(selection.takes, what="drawings left after --drop")
    return selection, dropped


def _max_row(source: Source) -> int:
    last = (
        source.source_rows(label, np.array([count - 1]))[0]
        for label, count in enumerate(source.counts)
    )
    return int(max(last))


def _finished(
    request: dict[str, Any], layout: RecordLayout, deal: Deal, written: Sequence[Written]
) -> Manifest:
    """The manifest of a data set whose shards are all there."""
    splits: dict[str, list[ShardInfo]] = {split: [] for split in planning.SPLITS}
    for shard in written:
        splits[deal.find(shard.number)[0]].append(shard.info)
    sums = np.stack([shard.crc_sums for shard in written]).sum(axis=0, dtype=np.uint32)
    facts = lasting(request) | {CRC_SUMS: _hex(sums)}
    return Manifest(facts, layout, {split: tuple(infos) for split, infos in splits.items()})


def _hex(crcs: NDArray[np.uint32]) -> list[str]:
    return [f"{crc:08x}" for crc in crcs.tolist()]


def _require_same_drawings(
    directory: Path,
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
