"""GPUs of this machine: whether TensorFlow has code for them, and how it is to use them."""

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError

Version = tuple[int, ...]

# By the major version of CUDA that TensorFlow was built with, the oldest driver that runs it;
# https://docs.nvidia.com/cuda/cuda-toolkit-release-notes, "CUDA Toolkit and Minimum Required
# Driver Version for CUDA Minor Version Compatibility".
_OLDEST_DRIVER: dict[str, Version] = {"11": (450, 80, 2), "12": (525, 60, 13), "13": (580,)}
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_DRIVER = re.compile(r"Kernel Module.*?\s(\d+(?:\.\d+)+)")
_CACHE_FLAG = "--xla_gpu_per_fusion_autotune_cache_dir"


def prepare(*, memory_growth: bool, deterministic: bool) -> None:
    """Sets up what must be set before TensorFlow starts its devices.

    Args:
      memory_growth: Whether to take a GPU's memory as it is needed.
      deterministic: Whether operations have to give the same bits each time.

    Raises:
      UsageError: TensorFlow has no code for a GPU.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        if reason := why_none():
            print(f"warning: {reason}", file=sys.stderr)
        return
    built_for = tf.sysconfig.get_build_info().get("cuda_compute_capabilities", [])
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        if built_for and "compute_capability" in details:
            _require_code(details["device_name"], details["compute_capability"], built_for)
        if memory_growth:
            tf.config.experimental.set_memory_growth(gpu, True)
    keep_tuning(deterministic=deterministic)


def why_none() -> str | None:
    """Why TensorFlow sees no GPU though there is a driver for one; None if that is no surprise."""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    driver = _driver_version()
    build = tf.sysconfig.get_build_info()
    if is_hidden or not driver or not build.get("is_cuda_build"):
        return None
    cuda = build["cuda_version"]
    least = _OLDEST_DRIVER.get(cuda.partition(".")[0], ())
    remedy = "install the libraries of CUDA with it: pip install 'tensorflow[and-cuda]'"
    if driver < least:
        remedy = f"CUDA {cuda} needs a driver of version {_text(least)} or newer: update it"
    return (
        f"there is an NVIDIA driver, {_text(driver)}, but TensorFlow can use no GPU, and trains on "
        f"the CPU. If there is one, {remedy}"
    )


def _require_code(name: str, capability: Version, built_for: Iterable[str]) -> None:
    """Refuses a GPU that TensorFlow's kernels were not compiled for.

    It would fail at the first of them, with CUDA_ERROR_INVALID_PTX or a crash of LLVM. Code of
    another major version does not run; of the same, that of a lower minor version does.
    """
    versions = [_capability(text) for text in built_for]
    if not any(major == capability[0] and minor <= capability[1] for major, minor in versions):
        newest = ".".join(map(str, max(versions)))
        raise UsageError(
            f"{name} has compute capability {_text(capability)}, and TensorFlow {tf.__version__} "
            f"has no code for it (up to {newest}): use a build that has, such as NVIDIA's "
            "container nvcr.io/nvidia/tensorflow, or train on the CPU: CUDA_VISIBLE_DEVICES=-1"
        )


def _capability(text: str) -> tuple[int, int]:
    """(9, 0) of "sm_90", "sm_90a" or "compute_90"."""
    digits = re.sub(r"\D", "", text)
    return int(digits[:-1]), int(digits[-1])


def keep_tuning(*, deterministic: bool) -> None:
    """Lets XLA keep what it finds out about the fastest kernels, for the next run.

    It tries the kernels of each convolution and product when it compiles, which takes most of
    the first seconds; https://openxla.org/xla/persisted_autotuning. What deterministic runs may
    use is kept apart. TensorFlow can keep whole programs too, but takes them for good on any
    card and whether deterministic or not, so that is left off.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    directory = _cache_directory(f"{tf.__version__}{'-deterministic' * deterministic}")
    if directory and _CACHE_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_CACHE_FLAG}={directory}".strip()


def _cache_directory(name: str) -> Path | None:
    """A folder that can be written to, in that of the user's caches; None if there is none."""
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = caches / "quickdraw-tfrecords" / "xla" / name
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return None
    return None if re.search(r"\s", str(directory)) else directory  # it would end the flag


def _driver_version() -> Version:
    """Of NVIDIA's driver; () if there is none, or it cannot be told."""
    try:
        match = _DRIVER.search(_DRIVER_FILE.read_text())
    except OSError:
        return ()
    return tuple(map(int, match[1].split("."))) if match else ()


def _text(version: Version) -> str:
    return ".".join(f"{part:02}" if index == 2 else str(part) for index, part in enumerate(version))
