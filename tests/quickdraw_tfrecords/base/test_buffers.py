"""Memory that is lent out, and comes back when nobody looks at it anymore."""

import weakref

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_tfrecords.base import buffers
from quickdraw_tfrecords.base.buffers import Buffers

PAGE = 4096

# What to take, in bytes, and which of those that are lent to give back before.
steps = st.lists(
    st.tuples(st.integers(0, 300_000), st.lists(st.integers(0, 9), max_size=3)), max_size=40
)


def size_of(reference: weakref.ref) -> int:
    """Of a buffer, if it has not been given back to the system."""
    buffer = reference()
    return 0 if buffer is None else len(buffer)


@given(steps)
def test_nobody_has_what_another_has_and_little_is_kept(steps):
    made: list[weakref.ref] = []

    def allocate(size: int) -> np.ndarray:
        buffer = original(size)
        made.append(weakref.ref(buffer))
        return buffer

    original, buffers._allocate = buffers._allocate, allocate
    try:
        pool, lent, most = Buffers(), [], 0
        for number, (size, given_back) in enumerate(steps):
            for index in given_back:
                if index < len(lent):
                    del lent[index]
            array = pool.take(size)
            array[:] = number % 256
            lent.append((array, number % 256))
            del array
            most = max(most, sum(1.5 * len(array) + PAGE for array, _ in lent))
            assert all((array == value).all() for array, value in lent)
            assert sum(map(size_of, made)) <= most
    finally:
        buffers._allocate = original


def test_what_fits_is_used_again():
    pool = Buffers()
    address = pool.take(1_000_000).ctypes.data
    view = pool.take(990_000)[10:20]  # a view keeps all of it
    assert view.ctypes.data == address + 10
    assert pool.take(1_000_000).ctypes.data != address
    del view
    assert pool.take(1_000_000).ctypes.data == address
