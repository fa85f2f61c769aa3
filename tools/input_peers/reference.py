"""The limit, a gather from memory, and this project's own two readers."""

from collections.abc import Iterator

import numpy as np

from quickdraw_tfrecords.reading.batching import WINDOW_MIB
from tools.input_peers.contender import BATCH_SIZE, Batch, Split

_ENDLESS = 10**6  # epochs


def open_numpy(split: Split) -> Iterator[Batch]:
    """Gathers the rows of a fresh permutation each epoch; nothing can shuffle faster."""
    images, labels = split.arrays(mode=None)
    generator = np.random.default_rng(0)

    def batches() -> Iterator[Batch]:
        while True:
            order = generator.permutation(split.examples)
            for start in range(0, split.examples, BATCH_SIZE):
                rows = order[start : start + BATCH_SIZE]
                yield images[rows], labels[rows]

    return batches()


def open_streaming(split: Split) -> Iterator[Batch]:
    """Ours, from the shards, in bounded memory."""
    return _load(split, cache="none", window_mib=split.window_mib)


def open_resident(split: Split) -> Iterator[Batch]:
    """Ours, with the split in memory."""
    return _load(split, cache="memory")


def _load(split: Split, *, cache: str, window_mib: float = WINDOW_MIB) -> Iterator[Batch]:
    import quickdraw_tfrecords as qt

    return iter(
        qt.load(
            split.directory,
            "train",
            BATCH_SIZE,
            shuffle=True,
            epochs=_ENDLESS,
            cache=cache,
            window_mib=window_mib,
        )
    )
