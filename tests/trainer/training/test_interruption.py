"""Signals are noted at once, and calls are kept short."""

import math
import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.training import interruption
from trainer.training.interruption import Interruption, Pace


def _wait_for(happened) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interruption() as noted:
        assert not noted.requested
        os.kill(os.getpid(), number)
        _wait_for(lambda: noted.requested)
    assert signal.getsignal(number) is before
    assert noted.signal == number


def test_only_a_second_ctrl_c_ends_it_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with Interruption() as noted:
        for number in (signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        _wait_for(lambda: noted.requested)
        time.sleep(0.05)  # for the thread to have seen both
        assert codes == []
        os.kill(os.getpid(), signal.SIGINT)
        _wait_for(lambda: codes)
    assert codes == [130]


def test_other_signals_are_not_taken_for_interruptions():
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with Interruption() as noted:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert not noted.requested
    finally:
        signal.signal(signal.SIGUSR1, previous)


class Clock:
    """Time that passes only while steps are taken."""

    def __init__(self, secs_per_step: float) -> None:
        self.secs, self.secs_per_step, self.calls = 0.0, secs_per_step, []

    def run(self, steps: int) -> None:
        self.secs += steps * self.secs_per_step
        self.calls.append(steps)


@given(
    secs_per_step=st.floats(0, 5), limit=st.none() | st.integers(1, 30), total=st.integers(1, 200)
)
def test_a_call_is_no_longer_than_it_may_be(secs_per_step, limit, total):
    clock = Clock(secs_per_step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interruption.time, "perf_counter", lambda: clock.secs)
        pace, left = Pace(limit, agree=lambda value: value), total
        while left:
            left -= pace.call(clock.run, left)
    assert sum(clock.calls) == total
    assert clock.calls[0] == 1
    limit = limit or math.inf
    assert all(1 <= steps <= limit for steps in clock.calls)
    assert all(steps == 1 or steps * secs_per_step < 1.01 for steps in clock.calls)
    if secs_per_step * limit < 0.9:
        assert all(steps == limit for steps in clock.calls[1:-1])


def test_without_a_limit_a_call_is_about_a_second(monkeypatch):
    clock = Clock(0.0016)
    monkeypatch.setattr(interruption.time, "perf_counter", lambda: clock.secs)
    pace, left = Pace(None, agree=float), 2000
    while left:
        left -= pace.call(clock.run, left)
    assert clock.calls[:3] == [1, 625, 625]


def test_workers_agree_on_the_number_of_steps():
    calls = []
    pace = Pace(10, agree=lambda _: 0.25)
    for _ in range(2):
        pace.call(calls.append, 100)
    assert calls == [1, 4]
