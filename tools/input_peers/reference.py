"""The limits: a gather from memory, and the bare files from front to back."""

from collections.abc import Iterator

import numpy as np

import quickdraw_tfrecords as qt
from tools.input_peers.contender import BATCH_SIZE, Batch, Split

# At a time, from front to back: with less, or with 4 MiB, a disk reads more slowly.
_READ_BYTES = 2**20


def open_numpy(split: Split) -> Iterator[Batch]:
    """Gathers the rows of a fresh permutation each epoch, as NumPy does it by itself."""
    images, labels = split.arrays(mode=None)
    generator = np.random.default_rng(0)

    def batches() -> Iterator[Batch]:
        while True:
            order = generator.permutation(split.examples)
            for start in range(0, split.examples, BATCH_SIZE):
                rows = order[start : start + BATCH_SIZE]
                yield images[rows], labels[rows]

    return batches()


def open_files(split: Split) -> Iterator[Batch]:
    """Reads the shards as `dd bs=1M` does; nothing is checked or shuffled."""
    layout = qt.open_dataset(split.directory).require_manifest().layout
    buffer = np.empty((max(1, _READ_BYTES // layout.stride), layout.stride), np.uint8)

    def batches() -> Iterator[Batch]:
        while True:
            for path in split.paths:
                with open(path, "rb", buffering=0) as file:
                    while count := file.readinto(buffer.data.cast("B")):
                        records = buffer[: count // layout.stride]
                        yield layout.images(records), layout.labels(records)

    return batches()
