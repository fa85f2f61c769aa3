"""Machines that share nothing but a network: namespaces of this one, for which root is needed.

with Network(tmp_path, "server", "client") as network:
    server = network.start("server", "-m", "http.server", "8000")
    network.cut("server")  # pulls the plug
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_SECS = 600

# A folder for temporary files and a list of processes that nobody else sees.
_ALONE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
_ALONE += ["sh", "-c", 'mount -t tmpfs tmpfs "$TMPDIR" && cd "$TMPDIR" && exec "$@"', "sh"]


class Network:
    """Starts Python on machines that are wired to each other; kills what is left in the end.

    Args:
      folder: For what the machines have to say.
      *names: Of the machines.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder, self._names = folder, names
        self._prefix = f"test{os.getpid()}-"
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Network":
        if not shutil.which("ip") or not shutil.which("unshare") or os.geteuid():
            pytest.skip("needs root, ip, and unshare")
        try:
            self._build()
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"needs network namespaces: {error.stderr}")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for name in ("hub", *self._names):
            subprocess.run(["ip", "netns", "delete", self._prefix + name], capture_output=True)

    def address(self, name: str) -> str:
        """That of a machine."""
        return f"10.77.77.{self._names.index(name) + 1}"

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen:
        """Starts Python on a machine, with its output in files that `said` reads."""
        own = self._folder / name
        own.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(own),
            "HOME": str(own),
            **environment,
        }
        inside = ["ip", "netns", "exec", self._prefix + name, *_ALONE, sys.executable, *arguments]
        with open(self._folder / f"{len(self._processes)}.log", "wb") as log:
            process = subprocess.Popen(inside, env=environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def said(self, process: subprocess.Popen) -> str:
        """What a process has said so far."""
        return (self._folder / f"{self._processes.index(process)}.log").read_text()

    def finish(self, process: subprocess.Popen, code: int = 0) -> str:
        """Waits for its end, which has to be with some exit code; returns what it said."""
        assert process.wait(TIMEOUT_SECS) == code, self.said(process)
        assert "Traceback" not in self.said(process)
        return self.said(process)

    def cut(self, name: str) -> None:
        """Cuts a machine's wire."""
        _ip("-n", f"{self._prefix}hub", "link", "set", "dev", name, "down")

    def mend(self, name: str) -> None:
        """Undoes `cut`."""
        _ip("-n", f"{self._prefix}hub", "link", "set", "dev", name, "up")

    def _build(self) -> None:
        hub = f"{self._prefix}hub"
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for name in self._names:
            machine = self._prefix + name
            _ip("netns", "add", machine)
            ends = ["type", "veth", "peer", "name", "eth0", "netns", machine]
            _ip("-n", hub, "link", "add", "name", name, *ends)
            _ip("-n", hub, "link", "set", "dev", name, "master", "bridge", "up")
            _ip("-n", machine, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", machine, "link", "set", "dev", device, "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
