"""Tests of quickdraw_tfrecords.reading.streaming: its windows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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
