"""The two passes of a conversion over all drawings, resumed where an earlier run stopped."""

import collections
import importlib
from collections.abc import Sequence
from concurrent import futures

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from quickdraw_tfrecords.base import progress, workers
from quickdraw_tfrecords.base.files import require_space
from quickdraw_tfrecords.writing.filling import ShardFiller
from quickdraw_tfrecords.writing.shard_writer import ShardWriter, Written

_BLOCK_BYTES = 512  # in which `stat` counts what a file with holes takes


def write_shards(pool: futures.Executor, filler: ShardFiller, writer: ShardWriter) -> list[Written]:
    """Writes all shards that are not there yet; returns all, in order.

    Args:
      pool: The workers.
      filler: Makes files of drawings.
      writer: Makes shards of these.

    Raises:
      DataError: A drawing cannot be read, or there is no room.
      OSError: A file cannot be written.
    """
    written = writer.kept(pool)
    kept = {shard.number for shard in written}
    missing = [shard for shard in range(filler.deal.num_shards) if shard not in kept]
    for batch in writer.batches(missing):
        _fill(pool, filler, writer, batch)
        written += _write(pool, filler, writer, batch)
    return sorted(written, key=lambda shard: shard.number)


def _fill(
    pool: futures.Executor, filler: ShardFiller, writer: ShardWriter, batch: Sequence[int]
) -> None:
    unfilled = _find_unfilled(pool, filler, batch)
    _require_room(filler, batch, writer.flag)
    filler.begin(batch)
    portions = filler.portions(unfilled, workers.count(pool))
    with _bar(filler, "reading") as bar:
        for drawings in workers.bounded_map(pool, filler.fill, portions):
            bar.update(drawings)


def _write(
    pool: futures.Executor, filler: ShardFiller, writer: ShardWriter, batch: Sequence[int]
) -> list[Written]:
    written, finishing = [], collections.deque[futures.Future[None]]()
    threads = futures.ThreadPoolExecutor(writer.finishers)
    try:
        with _bar(filler, "writing") as bar:
            for shard in workers.bounded_map(pool, writer.write, batch):
                finishing.append(threads.submit(writer.finish, shard))
                bar.update(shard.info.records)
                written.append(shard)
                while finishing and finishing[0].done():
                    finishing.popleft().result()
        # Imported while the disk is busy, and no sooner: meanwhile other threads must not import
        # anything, as the pool's does to unpickle results.
        importlib.import_module("tensorflow_datasets")
        for one in finishing:
            one.result()
    finally:
        threads.shutdown(cancel_futures=True)
    return written


def sum_crcs(pool: futures.Executor, filler: ShardFiller) -> NDArray[np.uint32]:
    """What `Written.crc_sums` add up to, from the source alone; uint32[classes].

    Raises:
      DataError: A drawing cannot be read.
    """
    sums = np.zeros(len(filler.selection.takes), np.uint32)
    portions = filler.portions(np.ones((len(sums), 1), bool), workers.count(pool))
    with _bar(filler, "comparing") as bar:
        for summed in workers.bounded_map(pool, filler.sum_crcs, portions):
            for piece, crc_sum in summed:
                sums[piece.label] += np.uint32(crc_sum)
                bar.update(piece.size)
    return sums


def _find_unfilled(
    pool: futures.Executor, filler: ShardFiller, missing: Sequence[int]
) -> NDArray[np.bool_]:
    """Which classes have yet to be added to which shards; bool[classes, shards]."""
    unfilled = np.zeros((len(filler.selection.takes), filler.deal.num_shards), bool)
    unfilled[:, missing] = True
    begun = [shard for shard in missing if filler.path(shard).exists()]
    for shard, complete in workers.bounded_map(pool, filler.complete_classes, begun):
        unfilled[complete, shard] = False
    return unfilled


def _require_room(filler: ShardFiller, missing: Sequence[int], flag: str) -> None:
    sizes = filler.deal.before(len(filler.selection.takes))
    begun = (path.stat() for shard in missing if (path := filler.path(shard)).exists())
    begun_bytes = sum(status.st_blocks * _BLOCK_BYTES for status in begun)
    require_space(
        filler.directory,
        int(sizes[missing].sum()) * filler.layout.stride - begun_bytes,
        remedy=f"make room or choose another {flag}",
    )


def _bar(filler: ShardFiller, what: str) -> "tqdm[None]":
    total = sum(filler.selection.takes)
    return progress.bar(what, total=total, unit="drawings")
