"""How far a shuffle is from a true permutation.

A pipeline reads a stand-in for the data set: the same shards, sizes and labels, but drawings
of 2 x 2 pixels that hold their own position on disk. So each batch tells where its drawings
came from, whatever the pipeline.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import tfds_metadata
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from tools.input_peers import BATCH_SIZE, CONTENDERS, Split
from tools.input_peers.contender import Batch

STAND_IN_SIDE = 2  # 4 bytes, a little-endian uint32

_EPOCHS = 5
_SECS = 20  # no epoch starts after this


@dataclasses.dataclass(frozen=True)
class Quality:
    """What the epochs of a pipeline looked like.

    Attributes:
      balance: Mean over batches of the chi-square statistic of their class counts against
        the split's fractions, divided by what a true permutation has in expectation: 1 is a
        permutation, less is more even, more is clumped.
      balance_error: Its standard error.
      correlation: Of a drawing's position on disk with its position in the epoch: root mean
        square over epochs. A true permutation of n has 1 / sqrt(n - 1) in expectation.
      correlation_error: Its standard error.
      complete: Fraction of the drawings that came, on average over epochs; 1 is each once.
      epochs: How many were examined.
    """

    balance: float
    balance_error: float
    correlation: float
    correlation_error: float
    complete: float
    epochs: int


def write_stand_in(info: DatasetInfo, labels: np.ndarray, out: Path) -> DatasetInfo:
    """Writes the stand-in for a data set's training split, with TFDS' metadata.

    Args:
      info: The data set.
      labels: int32[n], those of the training split in the order on disk.
      out: A new directory for the stand-in.

    Returns:
      The stand-in.
    """
    out.mkdir(parents=True)
    manifest = info.require_manifest()
    layout = RecordLayout.create(
        side=STAND_IN_SIDE, max_label=len(manifest.class_names) - 1, max_source_row=len(labels)
    )
    members, start = [], 0
    for shard in manifest.splits["train"]:
        positions = np.arange(start, start + shard.records, dtype="<u4")
        images = positions.view(np.uint8).reshape(-1, STAND_IN_SIDE**2)
        matrix = layout.encode(images, labels[positions], positions)
        (out / shard.name).write_bytes(matrix.data)
        members.append(ShardInfo.of(shard.name, matrix, shard.class_counts))
        start += shard.records
    counts = np.bincount(labels, minlength=len(manifest.class_names)).tolist()
    shards = {"train": len(members)}
    request = manifest.request | {"drawings": counts, "shards": shards}
    stand_in = Manifest(request, layout, {"train": tuple(members)})
    tfds_metadata.write(out, stand_in)
    manifests.write_manifest(out, stand_in)
    return qt.open_dataset(out)


def examine(name: str, split: Split, labels: np.ndarray) -> Quality:
    """Examines some epochs of a pipeline that reads a stand-in.

    Args:
      name: Of the contender.
      split: The stand-in.
      labels: int32[n], in the order on disk.
    """
    deadline = time.monotonic() + _SECS
    balances, correlations, complete = [], [], []
    for positions in _epochs(CONTENDERS[name].open(split), split.examples):
        balances.append(class_balance(labels[positions]))
        correlations.append(np.corrcoef(positions, np.arange(len(positions)))[0, 1])
        complete.append(len(np.unique(positions)) / len(positions))
        if len(correlations) == _EPOCHS or time.monotonic() > deadline:
            break
    balance = np.concatenate(balances)
    correlation = np.sqrt(np.mean(np.square(correlations)))
    return Quality(
        balance=float(balance.mean()),
        balance_error=float(balance.std() / np.sqrt(len(balance))),
        correlation=float(correlation),
        correlation_error=float(correlation / np.sqrt(2 * len(correlations))),
        complete=float(np.mean(complete)),
        epochs=len(correlations),
    )


def _epochs(batches: Iterator[Batch], size: int) -> Iterator[np.ndarray]:
    """The positions on disk of each epoch's drawings in the order they came, uint32[size]."""
    kept = np.empty(0, "<u4")
    while True:
        pieces, count = [kept], len(kept)
        while count < size:
            images = np.ascontiguousarray(next(batches)[0])
            pieces.append(images.reshape(len(images), -1).view("<u4").reshape(-1))
            count += len(images)
        epoch, kept = np.split(np.concatenate(pieces), [size])
        yield epoch


def class_balance(labels: np.ndarray) -> np.ndarray:
    """The evenness of the classes in each full batch of an epoch, float[batches].

    The chi-square statistic of the batch's class counts against those of the whole epoch,
    divided by its expectation where batches are drawn without replacement.

    Args:
      labels: int[n], in the order of the epoch; more than one batch.
    """
    classes, batches = labels.max() + 1, len(labels) // BATCH_SIZE
    expected = np.bincount(labels) / len(labels) * BATCH_SIZE
    batch = np.repeat(np.arange(batches), BATCH_SIZE)
    cells = batch * classes + labels[: len(batch)]
    counts = np.bincount(cells, minlength=batches * classes).reshape(batches, classes)
    present = expected > 0
    chi_square = (np.square(counts - expected)[:, present] / expected[present]).sum(axis=1)
    without_replacement = (len(labels) - BATCH_SIZE) / (len(labels) - 1)
    return chi_square / ((present.sum() - 1) * without_replacement)
