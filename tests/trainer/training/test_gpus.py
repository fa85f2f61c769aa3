"""What is said of GPUs at the start, and what XLA keeps for the next run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError
from trainer.training import gpus

BUILD = {
    "is_cuda_build": True,
    "cuda_version": "12.5.1",
    "cuda_compute_capabilities": ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"],
}
DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023"
OPEN_DRIVER = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build"


@pytest.fixture
def growing(monkeypatch, tmp_path) -> list:
    """The GPUs whose memory was told to grow; nothing of this machine is changed."""
    growing = []
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: BUILD)
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, _: growing.append(gpu)
    )
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_the_user=1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return growing


def _see_gpu(monkeypatch, *, capability: tuple[int, int], name: str = "NVIDIA card") -> None:
    details = {"device_name": name, "compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["gpu"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)


def _see_driver(monkeypatch, tmp_path: Path, text: str) -> None:
    path = tmp_path / "version"
    path.write_text(text + "\nGCC version: gcc version 11.4.0\n")
    monkeypatch.setattr(gpus, "_DRIVER_FILE", path)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])


@pytest.mark.parametrize("capability", [(6, 1), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0)])
def test_a_card_that_tensorflow_has_code_for_is_used(monkeypatch, growing, capability):
    _see_gpu(monkeypatch, capability=capability)
    gpus.prepare(memory_growth=True, deterministic=False)
    assert growing == ["gpu"]


@pytest.mark.parametrize("capability", [(5, 2), (10, 0), (12, 0)])
def test_a_card_that_tensorflow_has_no_code_for_is_refused(monkeypatch, growing, capability):
    _see_gpu(monkeypatch, capability=capability, name="NVIDIA RTX 5090")
    version = ".".join(map(str, capability))
    with pytest.raises(UsageError, match=rf"RTX 5090 has compute capability {version}, and .*9\.0"):
        gpus.prepare(memory_growth=False, deterministic=False)


def test_memory_is_taken_at_once_unless_told_otherwise(monkeypatch, growing):
    _see_gpu(monkeypatch, capability=(8, 0))
    gpus.prepare(memory_growth=False, deterministic=False)
    assert growing == []


def test_an_old_driver_is_named(monkeypatch, growing, tmp_path, capsys):
    text = DRIVER.replace("535.104.05", "470.223.02")
    _see_driver(monkeypatch, tmp_path, text)
    gpus.prepare(memory_growth=False, deterministic=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: there is an NVIDIA driver, 470.223.02, but TensorFlow can use")
    assert "needs a driver of version 525.60.13 or newer" in line


@pytest.mark.parametrize(("text", "version"), [(DRIVER, "535.104.05"), (OPEN_DRIVER, "580.159.04")])
def test_with_a_good_driver_the_libraries_are_missing(
    monkeypatch, growing, tmp_path, text, version
):
    _see_driver(monkeypatch, tmp_path, text)
    reason = gpus.why_none()
    assert f"an NVIDIA driver, {version}," in reason
    assert "pip install 'tensorflow[and-cuda]'" in reason


def test_nothing_is_said_without_a_driver_or_with_hidden_cards(monkeypatch, growing, tmp_path):
    monkeypatch.setattr(gpus, "_DRIVER_FILE", tmp_path / "none")
    assert gpus.why_none() is None
    _see_driver(monkeypatch, tmp_path, DRIVER)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpus.why_none() is None


def test_tuning_is_kept_by_version_and_determinism(growing, tmp_path):
    folders = []
    for deterministic in (False, True):
        os.environ["XLA_FLAGS"] = "--xla_of_the_user=1"
        gpus.keep_tuning(deterministic=deterministic)
        users, ours = os.environ["XLA_FLAGS"].split()
        assert users == "--xla_of_the_user=1"
        folders.append(Path(ours.partition("=")[2]))
        assert folders[-1].is_dir()
        assert tmp_path in folders[-1].parents
        assert tf.__version__ in folders[-1].name
    assert folders[0] != folders[1]


@pytest.mark.parametrize("obstacle", ["a file", "a space", "the user's own"])
def test_tuning_is_not_kept_where_it_cannot_be(growing, monkeypatch, tmp_path, obstacle):
    if obstacle == "a file":
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    elif obstacle == "a space":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my caches"))
    else:
        own = "--xla_gpu_per_fusion_autotune_cache_dir=/elsewhere"
        monkeypatch.setenv("XLA_FLAGS", own)
    before = os.environ["XLA_FLAGS"]
    gpus.keep_tuning(deterministic=False)
    assert os.environ["XLA_FLAGS"] == before


@pytest.mark.slow
def test_xla_knows_the_flag_when_it_is_set_after_the_import():
    """It would end the process with "Unknown flag"."""
    code = (
        "import tensorflow as tf; from trainer.training import gpus\n"
        "gpus.keep_tuning(deterministic=False)\n"
        "print(float(tf.function(lambda x: x + 1, jit_compile=True)(1.0)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "2.0", result.stderr
