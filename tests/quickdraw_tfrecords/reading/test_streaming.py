"""Tests of quickdraw_tfrecords.reading.streaming: its windows."""

import gc
import os
import weakref

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.buffers import Buffers
from quickdraw_tfrecords.format.shards import ShardFile
from quickdraw_tfrecords.reading import blocks, streaming
from quickdraw_tfrecords.reading.chunks import ChunkShape


@given(total=st.integers(0, 5000), batch_size=st.integers(1, 40), batches=st.integers(1, 40))
def test_windows_grow_and_are_whole_batches(total, batch_size, batches):
    shape = ChunkShape(28, batch_size, batch_size * batches)
    borders = list(streaming._borders(total, shape))
    assert borders[0] == 0
    assert borders[-1] == total
    assert all(border % batch_size == 0 for border in borders[:-1])
    sizes = np.diff(borders)
    assert (sizes <= shape.rows).all()
    assert (np.diff(sizes[:-1]) >= 0).all()
    if total <= shape.rows:
        assert len(sizes) <= 1  # one permutation
    else:
        assert sizes[0] == max(1, batches // 8) * batch_size


def test_blocks_are_read_in_pieces_first_and_at_once_later(data_dir, monkeypatch):
    """Whichever way, all of a block is read, and the drawings are the same."""
    sizes: list[int] = []
    expected: list[int] = []
    preadv = os.preadv

    def counting(descriptor: int, views: list[memoryview], offset: int, flags: int = 0) -> int:
        (expected if flags else sizes).append(len(views[0]))
        if flags:
            raise BlockingIOError("it is not in memory")
        return preadv(descriptor, views, offset)

    monkeypatch.setattr(os, "preadv", counting)
    monkeypatch.setattr(os, "RWF_NOWAIT", 8, raising=False)  # of Linux only
    monkeypatch.setattr(blocks, "_PIECE_BYTES", 2**13)
    info = qt.open_dataset(data_dir)
    stride = info.require_manifest().layout.stride
    found = []
    for announced in (6 * 8 - 1, 0):  # each block but the first, so that the disk goes on
        sizes.clear()
        expected.clear()
        found.append(list(qt.batches(info, "train", 720, cache="none")))
        assert sum(sizes) == info.num_examples["train"] * stride
        assert expected == announced * [2**13 // stride * stride]
        found[-1].append(max(sizes))
    assert found[0].pop() == 2**13 // stride * stride
    assert found[1].pop() == 720 // 6 // 8 * stride
    for columns in zip(*(batch for epoch in found for batch in epoch), strict=True):
        np.testing.assert_array_equal(*columns)


def test_a_disk_is_waited_for_in_the_first_epoch_only(data_dir):
    info = qt.open_dataset(data_dir)
    found = qt.batches(info, "train", 48, shuffle=True, cache="none", window_mib=0.1)
    epochs = []
    for _ in range(2):
        epochs.append([])
        for task in found._fill_tasks(found.large_shape):
            epochs[-1].append(task.waits)
            found.large_shape.fill(task, Buffers())
    assert epochs[0][0]
    assert not any(epochs[1])


def test_files_are_closed_as_soon_as_their_reader_is_given_up(data_dir):
    def open_files() -> list[ShardFile]:
        return [each for each in gc.get_objects() if type(each) is ShardFile]

    gc.collect()
    before = weakref.WeakSet(open_files())
    gc.disable()
    try:
        found = qt.batches(data_dir, "train", 48, cache="none")
        for _ in found:
            pass
        assert set(open_files()) > set(before)
        del found
        assert set(open_files()) <= set(before)
    finally:
        gc.enable()
