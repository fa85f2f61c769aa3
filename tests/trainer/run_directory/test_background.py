"""What is written in the background is written once, in order, and its errors are told."""

import threading
import time

import pytest

from trainer.run_directory.background import BackgroundWriter


def test_it_writes_meanwhile_and_one_after_the_other():
    go, written = threading.Event(), []

    def write_first() -> None:
        go.wait(10)
        written.append(1)

    with BackgroundWriter() as writer:
        assert not writer.is_busy
        writer.start(write_first)
        assert writer.is_busy
        assert written == []
        go.set()
        writer.start(lambda: written.append(2))
        writer.wait()
        assert written == [1, 2]
        assert not writer.is_busy


def test_it_ends_once_all_is_written():
    written = []
    with BackgroundWriter() as writer:
        writer.start(lambda: (time.sleep(0.05), written.append(1)))
    assert written == [1]


def _fail() -> None:
    raise OSError("no space left")


def test_an_error_is_raised_by_the_next_call():
    with BackgroundWriter() as writer:
        writer.start(_fail)
        with pytest.raises(OSError, match="no space left"):
            writer.start(lambda: None)
    with pytest.raises(OSError, match="no space left"), BackgroundWriter() as writer:
        writer.start(_fail)


def test_an_error_of_the_work_itself_is_not_replaced():
    def work() -> None:
        with BackgroundWriter() as writer:
            writer.start(_fail)
            raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        work()
