"""Tests of quickdraw_tfrecords.reading.streaming: its windows, and what is read ahead."""

import itertools
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.reading import streaming
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


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be told")
def test_the_system_is_told_once_what_will_be_read(data_dir, monkeypatch):
    """All but the first two windows, in the order in which they are read."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, size, _: told.append((start, size)))
    info = qt.open_dataset(data_dir)
    batches = qt.batches(info, "train", 8, shuffle=True, cache="none", window_mib=0.1)
    assert sum(len(labels) for _, labels in batches) == info.num_examples["train"]
    shape = batches.large_shape
    first = itertools.islice(streaming._borders(info.num_examples["train"], shape), 3)
    stride = info.require_manifest().layout.stride
    assert sum(size for _, size in told) == (info.num_examples["train"] - list(first)[-1]) * stride
    assert all(start % stride == size % stride == 0 for start, size in told)
