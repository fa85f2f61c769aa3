"""What a JAX program does without a reader: a gather from a NumPy memory map, put on the device."""

import collections
from collections.abc import Iterator

import numpy as np

from tools.input_peers.contender import BATCH_SIZE, Batch, Split

_AHEAD = 2  # batches on the device


def open_memory_map(split: Split) -> Iterator[Batch]:
    """Two batches ahead, as https://flax.readthedocs.io/en/v0.5.3/_modules/flax/jax_utils.html."""
    import jax

    def batches() -> Iterator[Batch]:
        images, labels = split.arrays()
        generator = np.random.default_rng(0)
        waiting = collections.deque[Batch]()
        while True:
            order = generator.permutation(split.examples)
            for start in range(0, split.examples, BATCH_SIZE):
                rows = order[start : start + BATCH_SIZE]
                waiting.append(jax.device_put((images[rows], labels[rows])))
                if len(waiting) == _AHEAD:
                    yield waiting.popleft()

    return batches()
