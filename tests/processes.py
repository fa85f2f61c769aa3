"""Processes for tests: real ones, that can be signalled and killed.

Those of the trainer are forked from a server that has imported TensorFlow but not initialized it,
so each starts at once, with devices and an environment of its own.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_SECS = 900

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["trainer.session", "tensorboard.summary", "tests.processes"])


@contextlib.contextmanager
def holding(program: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """A process of a program that says "holds" once it holds something; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "holds\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


class ChildProcess:
    """Calls a function in a process, with its output in files.

    Args:
      function: A function of a module.
      *args: What it is called with; picklable.
      output: What its output files are called, without .out and .err.
      devices: How many virtual CPU devices it sees.
      env: More environment variables.
    """

    def __init__(
        self,
        function: Callable,
        *args: object,
        output: Path,
        devices: int = 1,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._paths = [Path(f"{output}.out"), Path(f"{output}.err")]
        for path in self._paths:
            path.write_bytes(b"")
        self._process = _context.Process(
            target=_call, args=(function, args, self._paths, devices, dict(env or {}))
        )
        self._process.start()

    @property
    def stdout(self) -> str:
        return self._paths[0].read_text()

    @property
    def stderr(self) -> str:
        return self._paths[1].read_text()

    def wait(self, timeout_secs: float = TIMEOUT_SECS) -> int:
        """Its exit code, once it has ended; -N if signal N ended it."""
        self._process.join(timeout_secs)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"still running:\n{self.stdout}\n{self.stderr}")
        return self._process.exitcode

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Waits until something has happened; fails if the process ends before."""
        deadline = time.monotonic() + TIMEOUT_SECS
        while not happened():
            if not self._process.is_alive() or time.monotonic() > deadline:
                raise TimeoutError(f"did not happen:\n{self.stdout}\n{self.stderr}")
            time.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)


def train(flags: list[str], setup: Callable[[], None] | None = None) -> None:
    """`python -m trainer FLAGS...`, after `setup`; without the report, unless asked for."""
    if setup:
        setup()
    from quickdraw_tfrecords.base import cli
    from trainer.commands import train as command

    sys.argv = ["trainer", "--noreport", *flags]
    command.define_flags()
    cli.run(command.main)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all of them different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def _call(
    function: Callable, args: tuple, outputs: list[Path], devices: int, env: dict[str, str]
) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.update(env)
    if devices > 1:
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, logical)
    function(*args)
