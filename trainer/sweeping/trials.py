"""One trial: a run of its own, trained by `quickdraw train` in a process of its own."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from quickdraw_tfrecords.base.errors import Interrupted
from quickdraw_tfrecords.base.files import atomic_write
from trainer import epochs
from trainer.config import Config
from trainer.run_directory import runs

LOG_NAME = "log.txt"

_TRAINER = (sys.executable, "-m", "trainer")
_POLL_SECS = 0.5
_TERMINATED = 128 + signal.SIGTERM


class TrialError(Exception):
    """A trial has failed; says why, in one line."""


class Pruned(Exception):  # noqa: N818 - as Optuna names it
    """A trial was ended since it promised little."""


class Signals:
    """A context in which Ctrl-C and SIGTERM are noted, and passed on to the trainer.

    Attributes:
      process: The trainer, which saves and ends at the first signal, and at a second Ctrl-C ends.
      signal: The first that was noted; None so far.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.signal: signal.Signals | None = None

    def __enter__(self) -> "Signals":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._handlers = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def raise_if_noted(self) -> None:
        """Raises Interrupted if a signal was noted."""
        if self.signal:
            raise Interrupted(self.signal)

    def _note(self, number: int, _: object) -> None:
        self.signal = self.signal or signal.Signals(number)
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)


def train(
    config: Config, signals: Signals, is_hopeless: Callable[[int, float], bool]
) -> tuple[float, int]:
    """Trains, or resumes what the run directory holds.

    Args:
      config: The settings.
      signals: The context of signals.
      is_hopeless: Called after each epoch, with its number from 0 and the monitored metric;
        whether to end the trial.

    Returns:
      The monitored metric of the best epoch, and the number of epochs.

    Raises:
      Pruned: It was ended, and saved.
      Interrupted: A signal was noted; the run is saved.
      TrialError: The run failed.
    """
    shown = 0
    with _process(config, signals) as process:
        is_pruned = has_ended = False
        while not has_ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECS)
            has_ended = process.poll() is not None  # before its last epoch is looked for
            values = _values(config)
            for epoch in range(shown, len(values)):
                if is_hopeless(epoch, values[epoch]) and not is_pruned:
                    is_pruned = True
                    process.terminate()
            shown = len(values)
    signals.raise_if_noted()
    if process.returncode == _TERMINATED and is_pruned:
        raise Pruned
    if process.returncode:
        raise TrialError(_last_words(_directory(config)))
    history = runs.read_history(_directory(config))
    best = epochs.best(history, config)
    if best is None:
        raise TrialError(f"no epoch has a {config.monitor}")
    return best[config.monitor], len(history)


@contextlib.contextmanager
def _process(config: Config, signals: Signals) -> Iterator["subprocess.Popen[bytes]"]:
    """The trainer at work; its output goes into the run directory."""
    directory = _directory(config)
    directory.mkdir(parents=True, exist_ok=True)
    flagfile = directory / "trial.flags"
    with atomic_write(flagfile) as file:
        file.write(config.to_flagfile().encode())
    with open(directory / LOG_NAME, "ab") as log:
        process = subprocess.Popen(
            [*_TRAINER, f"--flagfile={flagfile}", f"--run_dir={directory}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C is passed on once, by `Signals`
        )
    signals.process = process
    try:
        if signals.signal:  # noted before there was a process
            process.send_signal(signals.signal)
        yield process
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
        signals.process = None


def _values(config: Config) -> list[float]:
    """The monitored metric of each epoch so far."""
    return [row[config.monitor] for row in runs.read_history(_directory(config))]


def _directory(config: Config) -> Path:
    """The run directory of a trial, which is a folder of the sweep's."""
    return Path(str(config.run_dir))


def _last_words(run_dir: Path) -> str:
    lines = (run_dir / LOG_NAME).read_text(errors="replace").split("\n")
    said = [line for line in lines if line.strip()]
    return said[-1].removeprefix("error: ") if said else "it ended without a word"
