"""What is left of what C++ libraries print."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quickdraw_tfrecords.base import native_log
from tests.quickdraw_tfrecords.base.test_cli import COMMAND, run

# As TensorFlow 2.21 prints them.
INFORMATION = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    b"I0000 00:00:1795966097.857440    6563 port.cc:153] oneDNN custom operations are on.\n",
    b"I0000 00:00:1795966097.857808    6563 cudart_stub.cc:31] Could not find cuda drivers\n",
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n",
    b"fully_quantize: 0, inference_type: 6, input_inference_type: FLOAT32\n",
)
CUDA = (
    b"E0000 00:00:1795966099.459839    6563 cuda_platform.cc:52] failed call to cuInit: INTERNAL: "
    b"CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)\n"
)
NEWS = (
    b"W0000 00:00:1795966099.459839    6563 gpu_device.cc:2342] Cannot dlopen a library.\n",
    b"E0000 00:00:1795966099.459839    6563 cuda_dnn.cc:463] Loaded cuDNN version 9.0\n",
    b"F0000 00:00:1795966099.459839    6563 tensor.cc:852] Check failed: IsAligned()\n",
    b"error: data: no such data set\n",
    b"Illegal instruction\n",
    b"\n",
)


@pytest.mark.parametrize("has_gpu", [False, True])
def test_information_is_no_news(has_gpu):
    assert list(native_log.news(INFORMATION, has_gpu=has_gpu)) == []
    assert list(native_log.news(NEWS, has_gpu=has_gpu)) == list(NEWS)


def test_that_cuda_cannot_start_is_news_where_there_is_a_gpu():
    assert list(native_log.news([CUDA], has_gpu=True)) == [CUDA]
    assert list(native_log.news([CUDA], has_gpu=False)) == []


def _add_pci_device(root: Path, vendor: str, kind: str) -> None:
    device = root / "sys/bus/pci/devices" / f"{vendor}-{kind}"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


def test_a_gpu_is_found_with_a_driver_or_without(tmp_path):
    bare, driver, windows, card = (tmp_path / name for name in "abcd")
    _add_pci_device(bare, "0x8086", "0x030000")  # Intel's graphics
    _add_pci_device(bare, "0x10de", "0x020000")  # a network card of NVIDIA's
    assert not native_log.has_nvidia_gpu(bare)
    for device in (driver / "dev/nvidia0", windows / "dev/dxg"):
        device.parent.mkdir(parents=True)
        device.touch()
    _add_pci_device(card, "0x10de", "0x030200")
    assert all(map(native_log.has_nvidia_gpu, (driver, windows, card)))


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("command") / "command.py"
    path.write_text(COMMAND)
    return path


def _native(line: bytes) -> str:
    return f"os.write(2, {line!r})\n"


@pytest.mark.parametrize(
    ("flags", "shown"), [((), False), (("--verbosity=0",), True), (("-v=1",), True)]
)
def test_a_command_is_quiet_unless_it_is_asked(command, flags, shown):
    code = _native(INFORMATION[1]) + _native(NEWS[0])
    result = run(command, "--name=cat", *flags, code=code)
    expected = (INFORMATION[1] if shown else b"") + NEWS[0]
    assert (result.returncode, result.stderr) == (0, expected.decode())


def test_the_last_words_before_a_crash_are_shown(command):
    code = _native(INFORMATION[1]) + _native(NEWS[2]) + "os.abort()"
    result = run(command, "--name=cat", code=code)
    assert result.returncode == -signal.SIGABRT
    assert result.stderr.startswith(NEWS[2].decode())


def test_what_python_prints_is_not_looked_at(command):
    code = "print('I0000 00:00:1 1 a.cc:1] mine', file=sys.stderr)"
    assert run(command, "--name=cat", code=code).stderr == "I0000 00:00:1 1 a.cc:1] mine\n"


def test_a_process_that_was_started_does_not_keep_the_command_from_ending(command):
    code = "import subprocess; subprocess.Popen(['sleep', '5'], stdout=subprocess.DEVNULL)"
    with subprocess.Popen(
        [sys.executable, command, "--name=cat"],
        env=os.environ | {"CODE": code, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.wait(timeout=4) == 0


def test_a_closed_stderr_is_left_alone(command):
    shell = f"exec {sys.executable} {command} --name=cat 2>&-"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(["sh", "-c", shell], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "1 cat\n")


def test_warnings_of_libraries_read_as_ours(command):
    code = "import logging\nlogging.warning('3 %s are blank', 'drawings')\nlogging.info('no')"
    assert run(command, "--name=cat", code=code).stderr == "warning: 3 drawings are blank\n"
