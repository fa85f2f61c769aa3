"""Batches on JAX's device before they are wanted.

    for images, labels in prefetch_to_device(batches("data", "train", 1024, shuffle=True)):
        ...  # jax.Array: uint8[1024, 28, 28, 1], int32[1024]

JAX is no dependency of this package; this module needs it.
"""

import collections
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from quickdraw_tfrecords.reading.columns import Columns


def prefetch_to_device(
    batches: Iterable[Columns], *, size: int = 2, device: Any = None
) -> Iterator[tuple[jax.Array, ...]]:
    """Copies batches to the device while those before them are used.

    Args:
      batches: Batches of NumPy arrays.
      size: How many are on the device at a time: with two, one is copied while the other is
        used.
      device: A device or a sharding, as for `jax.device_put`; None: the default device.
    """
    waiting = collections.deque[tuple[jax.Array, ...]]()
    for batch in batches:
        waiting.append(jax.device_put(batch, device))
        if len(waiting) == size:
            yield waiting.popleft()
    yield from waiting
