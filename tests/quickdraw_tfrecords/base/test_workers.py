"""Tests of quickdraw_tfrecords.base.workers, besides those of the converter that is stopped."""

import os
import signal
import threading

import pytest

from quickdraw_tfrecords.base import workers

TIMEOUT_SECS = 30


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_workers_that_cannot_end_by_themselves_do_not_keep_the_command(number):
    with workers.pool(2) as executor:
        assert sorted(workers.bounded_map(executor, abs, range(-9, 0))) == list(range(1, 10))
        processes = list(executor._processes.values())

        def give_up() -> None:
            gave_up.set()
            for process in processes:
                process.kill()

        gave_up = threading.Event()
        timer = threading.Timer(TIMEOUT_SECS, give_up)
        timer.start()
        for process in processes:
            os.kill(process.pid, number)
    timer.cancel()
    assert not gave_up.is_set()
    assert not any(process.is_alive() for process in processes)


def test_an_error_of_a_job_is_raised_as_it_is():
    with pytest.raises(TypeError), workers.pool(1) as executor:
        list(workers.bounded_map(executor, abs, ["a"]))


class Counted:
    """A function that knows how often it was unpickled in its process."""

    times = 0

    def __setstate__(self, state: dict[str, bytes]) -> None:
        vars(self).update(state)
        Counted.times += 1

    def __call__(self, item: int) -> tuple[int, int]:
        return item, Counted.times


def test_a_function_is_sent_to_each_process_once():
    function = Counted()
    function.large = bytes(100_000)
    with workers.pool(2) as executor:
        found = list(workers.bounded_map(executor, function, range(50)))
    assert sorted(item for item, _ in found) == list(range(50))
    assert {times for _, times in found} == {1}
