"""A Dask cluster for tests: a scheduler and workers, each a process of its own, on loopback."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

TIMEOUT_SECS = 120

# Read by a scheduler or worker as it starts: there, this package is not installed.
WITHOUT_PACKAGE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "quickdraw_tfrecords":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


class DaskCluster:
    """Starts `dask scheduler`, and workers as they are asked for; ends what is still there.

    Attributes:
      address: Of the scheduler.
      scheduler: Its process.
      workers: Processes of the workers.
    """

    def __init__(self, folder: Path, *, workers: int = 0, preload: str = "") -> None:
        self._folder = folder
        self._folder.mkdir(exist_ok=True)
        self.workers: list[subprocess.Popen] = []
        contact = folder / "scheduler.json"
        flags = ["--host=127.0.0.1", "--port=0", f"--scheduler-file={contact}", "--no-show"]
        self.scheduler = self._start(
            "scheduler", [*flags, "--dashboard-address=127.0.0.1:0"], preload
        )
        self.wait_for(lambda: contact.exists() and contact.stat().st_size)
        self.address: str = json.loads(contact.read_text())["address"]
        for _ in range(workers):
            self.add_worker()

    def __enter__(self) -> "DaskCluster":
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()

    def add_worker(
        self, *, preload: str = "", prefix: Sequence[str] = (), threads: int = 1
    ) -> subprocess.Popen:
        """Starts a worker, and does not wait for it."""
        name = f"worker{len(self.workers)}"
        flags = [self.address, "--no-nanny", "--no-dashboard", "--host=127.0.0.1"]
        flags += [f"--nthreads={threads}", f"--local-directory={self._folder / name}"]
        self.workers.append(self._start("worker", flags, preload, prefix))
        return self.workers[-1]

    def _start(
        self, role: str, flags: Sequence[str], preload: str, prefix: Sequence[str] = ()
    ) -> subprocess.Popen:
        if preload:
            path = self._folder / f"preload{len(self.workers)}.py"
            path.write_text(preload)
            flags = [*flags, f"--preload={path}"]
        with open(self._folder / f"{role}{len(self.workers)}.log", "wb") as log:
            return subprocess.Popen(
                [*prefix, sys.executable, "-m", "dask", role, *flags],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=log,
                stderr=log,
            )

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Waits until something has happened."""
        deadline = time.monotonic() + TIMEOUT_SECS
        while not happened():
            assert self.scheduler.poll() is None, "the scheduler has ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)
