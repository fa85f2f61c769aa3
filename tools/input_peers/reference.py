"""The limits: a gather from memory, and the bare files from front to back."""

from collections.abc import Iterator

import numpy as np

import quickdraw_tfrecords as qt
from tools.input_peers.contender import BATCH_SIZE, Batch, Split


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
    """Reads the shards from front to back, as `dd` does; nothing is checked or shuffled."""
    layout = qt.open_dataset(split.directory).require_manifest().layout
    buffer = np.empty((BATCH_SIZE, layout.stride), np.uint8)

    def batches() -> Iterator[Batch]:
        while True:
            for path in split.paths:
                with open(path, "rb", buffering=0) as file:
                    while count := file.readinto(buffer.data.cast("B")):
                        records = buffer[: count // layout.stride]
                        yield layout.images(records), layout.labels(records)

    return batches()
