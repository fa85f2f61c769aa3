"""What C++ libraries print on stderr, without what is no news.

TensorFlow prints a dozen lines while it is loaded, before any setting of its own counts: which
instructions it uses, that there is no GPU. So the process's stderr goes through another process,
which leaves such lines out. It outlives a crash: the last words before it are not lost.

What is left out is information only. The one error among them, that CUDA cannot be started, is
no news on a machine without a GPU of NVIDIA's; where there is one, it is shown.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_NO_NEWS = (
    rb"I\d{4} \d\d:\d\d:\S+ +\d+ \S+\] ",  # a line of the level INFO, as absl and glog write it
    rb"INFO: ",  # TensorFlow Lite's
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR$",
    rb"fully_quantize: \d+, inference_type: \d+, ",
)
_NO_NEWS_WITHOUT_GPU = (rb"E\d{4} \d\d:\d\d:\S+ +\d+ \S+\] failed call to cuInit: ",)
_EXIT_SECS = 1.0
_NVIDIA = "0x10de"
_DISPLAY_CONTROLLER = "0x03"


@contextlib.contextmanager
def without_information() -> Iterator[None]:
    """Within it, lines that are no news are left out of what C++ libraries print on stderr.

    What Python prints reaches the terminal as before, without a detour, progress bars included.
    """
    if not _is_stderr(sys.stderr):
        yield
        return
    sys.stderr.flush()
    terminal, python_stderr = os.dup(2), sys.stderr
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=reader,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        start_new_session=True,  # so that Ctrl-C is not for it
    )
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    with open(terminal, "w", buffering=1, errors="backslashreplace") as file:
        sys.stderr = file
        try:
            yield
        finally:
            sys.stderr = python_stderr
            os.dup2(terminal, 2)
            # It ends once nobody can write to it: a process that was started here may go on.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_EXIT_SECS)


def has_nvidia_gpu(root: Path = Path("/")) -> bool:
    """Whether a GPU of NVIDIA's is in this machine, with a driver or without."""
    if any(root.glob("dev/nvidia[0-9]*")) or (root / "dev/dxg").exists():  # dxg: WSL's
        return True
    devices = root.glob("sys/bus/pci/devices/*")
    return any(
        _read(device / "vendor") == _NVIDIA
        and _read(device / "class").startswith(_DISPLAY_CONTROLLER)
        for device in devices
    )


def news(lines: Iterable[bytes], *, has_gpu: bool) -> Iterator[bytes]:
    """The lines that say something."""
    patterns = _NO_NEWS if has_gpu else (*_NO_NEWS, *_NO_NEWS_WITHOUT_GPU)
    no_news = re.compile(b"|".join(patterns))
    return (line for line in lines if not no_news.match(line))


def _is_stderr(file: object) -> bool:
    """Whether Python's stderr is the process's, not closed nor replaced."""
    try:
        return file is sys.__stderr__ and sys.__stderr__ is not None and sys.stderr.fileno() == 2
    except (OSError, ValueError):
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        for line in news(sys.stdin.buffer, has_gpu=has_nvidia_gpu()):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
