"""The fuzzer finds what fails, says how to see it again, and finds nothing in our parsers."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from quickdraw_tfrecords.base.errors import DataError, UsageError
from tools import fuzz
from tools.fuzzing import runner
from tools.fuzzing.mutations import mutate_bytes, mutate_json


class Fails:
    """A parser that fails on the seventh input, in a way of its own."""

    def __init__(self, scratch: Path) -> None:
        self._count = 0

    def make(self, numbers: random.Random) -> bytes:
        return numbers.randbytes(3)

    def run(self, data: bytes) -> None:
        self._count += 1
        if self._count == 7:
            self.fail()
        raise DataError("as it should be")

    def fail(self) -> None:
        raise KeyError("not as it should be")


class Crashes(Fails):
    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Fills(Fails):
    def fail(self) -> None:
        try:
            bytes(runner.MEMORY_BYTES * 2)
        except MemoryError:
            raise DataError("taken for damage") from None


@pytest.mark.parametrize(
    ("target", "failure"),
    [
        (Fails, "KeyError: 'not as it should be'"),
        (Crashes, "the process ended with code -11"),
        (Fills, "MemoryError"),
    ],
)
def test_what_fails_is_found_with_its_input(target, failure):
    name = f"{__name__}:{target.__name__}"
    outcome = runner.run(name, seed="1", secs=60)
    assert failure in outcome.failure
    assert outcome.data == random.Random("1/6").randbytes(3)
    if target is not Crashes:
        assert outcome.cases == 7


def test_what_hangs_is_found(monkeypatch):
    monkeypatch.setattr(runner, "CASE_SECS", 0.2)
    with pytest.raises(BaseException, match=r"more than 0\.2 s"), runner._time_limit():
        time.sleep(60)


def test_an_input_that_fails_is_saved_and_can_be_run_again(tmp_path, monkeypatch, capsys):
    name = f"{__name__}:Fails"
    monkeypatch.setitem(fuzz.TARGETS, "fails", name)
    assert not fuzz._try("fails", seed="5", secs=60, out=tmp_path)
    (saved,) = tmp_path.iterdir()
    assert f"--targets=fails --replay={saved}" in capsys.readouterr().err
    with pytest.raises(DataError, match="as it should be"):
        runner.replay(name, saved.read_bytes())


# Those that need no more than a moment to start; `make fuzz` runs them all.
QUICK = ("npy", "npz", "ndjson", "picture", "manifest")


@pytest.mark.usefixtures("cairo")
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in fuzz.TARGETS
])  # fmt: skip
def test_no_input_is_more_than_refused(tmp_path, name, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    target = runner._make(fuzz.TARGETS[name], tmp_path)
    for case in range(40):
        data = target.make(random.Random(f"test/{name}/{case}"))
        try:
            target.run(data)
        except (DataError, UsageError):
            continue


def test_the_same_numbers_make_the_same_damage():
    def damage() -> list[object]:
        numbers = [random.Random(seed) for seed in range(200)]
        value = {"a": [1, 2, {"b": None}], "c": "text"}
        return [(mutate_bytes(n, b"some bytes" * 9), repr(mutate_json(n, value))) for n in numbers]

    first = damage()
    assert damage() == first
    assert len(set(first)) > 150
