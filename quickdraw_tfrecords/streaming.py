"""Batches streamed from the shards, shuffled over a window, in bounded memory.

Shards are read whole into a window: a `uint8[n, stride]` matrix. A batch is a gather of its
rows; nothing is parsed and no drawing is handled alone. An epoch permutes the shards, deals
them to windows in that order, and permutes the rows of each window.
"""

import weakref
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from quickdraw_tfrecords.reader import Order, Part, Segment
from quickdraw_tfrecords.records import RecordLayout

WINDOW_MIB = 160

_ALIGNMENT = 64  # bytes; TensorFlow copies an array that is aligned less


def batches(part: Part, order: Order, *, window_mib: float) -> tf.data.Dataset:
    """Batches of an epoch, as `dataset.load` describes them, shuffled `window_mib` at a time."""

    def windows() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        generator = np.random.default_rng(order.seed) if order.shuffle else None
        planned = _plan_windows(part, generator, window_mib)
        skip = order.start_step * order.batch_size
        return _fill_windows(part, planned, generator, order.batch_size, skip)

    window = (
        tf.TensorSpec([None, part.layout.stride], tf.uint8),
        tf.TensorSpec([None], tf.int32),
    )
    return (
        tf.data.Dataset.from_generator(windows, output_signature=window)
        .prefetch(1)
        .flat_map(lambda matrix, rows: _gather(part.layout, matrix, rows, order.batch_size))
        .take(order.stop_step - order.start_step)
    )


def _plan_windows(
    part: Part, generator: np.random.Generator | None, window_mib: float
) -> list[list[Segment]]:
    """Which segments stand together in which window; at least one in each."""
    segments = list(part.segments)
    if generator:
        segments = [segments[index] for index in generator.permutation(len(segments))]
    windows, room = [], 0
    for segment in segments:
        size = len(segment) * part.layout.stride
        if not windows or room < size:
            windows.append([])
            room = window_mib * 2**20
        windows[-1].append(segment)
        room -= size
    return windows


def _fill_windows(
    part: Part,
    windows: list[list[Segment]],
    generator: np.random.Generator | None,
    batch_size: int,
    skip: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads windows: rows uint8[n, stride] and the order int32[m] to take them in.

    Each window but the last gives whole batches; the rows left over go before the next.
    """
    most = max((sum(map(len, segments)) for segments in windows), default=0) + batch_size
    buffers = _Buffers(most * part.layout.stride)
    left_over = np.empty((0, part.layout.stride), np.uint8)
    for number, segments in enumerate(windows):
        size = sum(map(len, segments))
        order = np.arange(size, dtype=np.int32)
        if generator:
            generator.shuffle(order)  # drawn for skipped windows too: the stream must not shift
        if skip >= size:
            skip -= size
            continue
        matrix = buffers.take(len(left_over) + size, part.layout.stride)
        matrix[: len(left_over)] = left_over
        start = len(left_over)
        for segment in segments:
            part.read(segment, matrix[start : start + len(segment)])
            start += len(segment)
        order = np.concatenate(
            [np.arange(len(left_over), dtype=np.int32), len(left_over) + order[skip:]]
        )
        skip = 0
        whole = len(order) if number == len(windows) - 1 else len(order) // batch_size * batch_size
        left_over = matrix[order[whole:]]
        yield matrix, order[:whole]


class _Buffers:
    """Memory for matrices, used again once nothing refers to one any more.

    Fresh pages cost as much as reading a shard into them. TensorFlow takes an array from
    Python without a copy if it is aligned, and holds it as long as a tensor refers to it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[np.ndarray] = []

    def take(self, rows: int, columns: int) -> np.ndarray:
        """uint8[rows, columns], with anything in it."""
        buffer = self._free.pop() if self._free else _aligned(self._size)
        lease = _Lease(buffer[: rows * columns])
        weakref.finalize(lease, self._free.append, buffer)
        return np.asarray(lease).reshape(rows, columns)


class _Lease:
    """What arrays over a buffer are views of: it lives as long as the last of them.

    A view of a view refers to the first owner only, so the owner must not be the buffer.
    """

    def __init__(self, buffer: np.ndarray) -> None:
        self.__array_interface__ = buffer.__array_interface__
        self._buffer = buffer


def _aligned(size: int) -> np.ndarray:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % _ALIGNMENT :][:size]


def _gather(
    layout: RecordLayout, matrix: tf.Tensor, order: tf.Tensor, batch_size: int
) -> tf.data.Dataset:
    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start = tf.cast(step, tf.int32) * batch_size
        rows = tf.gather(matrix, order[start : start + batch_size])
        images = tf.reshape(rows[:, layout.image.columns], [-1, layout.side, layout.side, 1])
        return images, decode_varints(rows[:, layout.label.columns])

    steps = tf.cast(-(-tf.size(order) // batch_size), tf.int64)
    return tf.data.Dataset.range(steps).map(batch, num_parallel_calls=2, deterministic=True)


def decode_varints(columns: tf.Tensor) -> tf.Tensor:
    """Reads padded varints, uint8[n, width] -> int32[n]."""
    groups = tf.cast(columns & 0x7F, tf.int32)
    scale = tf.constant([128**index for index in range(columns.shape[1])])
    return tf.reduce_sum(groups * scale, axis=1)
