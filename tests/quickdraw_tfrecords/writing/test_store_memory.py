"""What converting into a store takes of memory: as into a folder, and its libraries once."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.object_store import ObjectStore
from tests.processes import ROOT
from tools import peak_memory

SHARD_MIB = 24
LIBRARIES_MIB = 60  # of S3's libraries and what goes through them, in one process
SLACK_MIB = 6


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory) -> Path:
    """100,000 drawings, 78 MB."""
    folder = tmp_path_factory.mktemp("source")
    for number, name in enumerate(("cat", "tree")):
        drawings = np.random.default_rng(number).integers(1, 256, (50_000, 784), np.uint8)
        np.save(folder / f"{name}.npy", drawings)
    return folder


def peaks_mib(source_dir: Path, data_dir: str | Path) -> list[float]:
    """The peaks of the command and of its two workers, the largest first."""
    command = [sys.executable, "-m", "quickdraw_tfrecords", "--source=numpy_bitmap"]
    command += [f"--source_dir={source_dir}", f"--data_dir={data_dir}", "--per_class=all"]
    command += [f"--shard_mib={SHARD_MIB}", "--workers=2"]
    process, peaks = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL), {}
    while process.poll() is None:
        pids = [process.pid, *(one.pid for one in psutil.Process(process.pid).children())]
        peaks |= {pid: peak for pid in pids if (peak := peak_memory.of_process(pid))}
        time.sleep(0.02)
    assert process.returncode == 0
    others = [peak for pid, peak in peaks.items() if pid != process.pid]
    return [peak / 2**20 for peak in (peaks[process.pid], *sorted(others, reverse=True))]


@pytest.mark.slow
def test_converting_takes_what_it_does_into_a_folder(
    source_dir: Path, object_store: ObjectStore, tmp_path: Path, monkeypatch
):
    folder, *its_workers = peaks_mib(source_dir, tmp_path / "data")
    store, *workers = peaks_mib(source_dir, f"{object_store.url}/data")
    assert its_workers[0] > SHARD_MIB  # the measure sees that each holds a shard
    assert workers[0] <= its_workers[0] + SLACK_MIB
    assert store <= folder + LIBRARIES_MIB
