"""What TensorFlow knows by a number is kept while it is used, and ends with the interpreter."""

import contextlib
import gc
import itertools
import threading
import time

import numpy as np
import pytest

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.reading import numbered


class Ended:
    def is_alive(self) -> bool:
        return False


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_what_is_given_up_is_forgotten(data_dir, cache):
    gc.collect()
    sources, iterations = set(numbered._sources), set(numbered._iterations)
    dataset = qt.load(data_dir, "train", 8, cache=cache, window_mib=0.001)
    batches = iter(dataset)
    next(batches)
    assert set(numbered._sources) > sources
    assert set(numbered._iterations) > iterations
    del batches, dataset
    gc.collect()
    assert set(numbered._sources) == sources
    assert set(numbered._iterations) == iterations


def test_chunks_are_filled_after_their_iteration_has_ended(data_dir):
    """TensorFlow ends it once all are planned, and fills the last of them later."""
    source = qt.batches(data_dir, "train", 8, window_mib=0.001)
    number = numbered.begin(np.int64(numbered.add(source)))
    planned = []
    with contextlib.suppress(StopIteration):
        while True:
            planned.append(numbered.plan(number))
    numbered.end(number)
    labels = [numbered.fill(numbers)[1] for numbers in planned]
    assert len(planned) > 1
    np.testing.assert_array_equal(np.concatenate(labels), qt.arrays(data_dir, "train")[1])
    assert number not in numbered._iterations


@pytest.mark.parametrize("taken", [None, 1, 2, 3, 4, 5])
def test_an_iteration_is_forgotten_wherever_it_is_given_up(data_dir, taken):
    gc.collect()
    before = set(numbered._iterations)
    batches = iter(qt.load(data_dir, "train", 8, cache="none", window_mib=0.001))
    for _ in itertools.islice(batches, taken):
        time.sleep(0.01)  # the others are planned and filled
    del batches
    gc.collect()
    assert set(numbered._iterations) == before


def test_nothing_is_begun_once_the_main_thread_has_ended(monkeypatch):
    calls = numbered._Calls()
    called = []
    call = calls.until_exit(called.append)
    call(1)
    monkeypatch.setattr(threading, "main_thread", Ended)
    with pytest.raises(StopIteration):
        call(2)
    assert called == [1]
    calls.wait()  # for nobody


def test_threads_that_take_no_more_work_are_no_error_while_the_interpreter_exits(monkeypatch):
    def submit() -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    def submit_late() -> None:
        monkeypatch.setattr(threading, "main_thread", Ended)
        submit()

    calls = numbered._Calls()
    with pytest.raises(RuntimeError, match="cannot schedule"):
        calls.until_exit(submit)()
    with pytest.raises(StopIteration):
        calls.until_exit(submit_late)()


def test_the_end_waits_for_what_goes_on():
    calls = numbered._Calls()
    begun, may_end, over = threading.Event(), threading.Event(), []

    def fill() -> None:
        begun.set()
        may_end.wait(10)
        over.append(True)

    thread = threading.Thread(target=calls.until_exit(fill))
    thread.start()
    begun.wait(10)
    threading.Timer(0.05, may_end.set).start()
    calls.wait()
    assert over
    thread.join()
