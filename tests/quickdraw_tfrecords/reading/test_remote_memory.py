"""What streaming from an object store takes of memory: that of a disk, and what is read ahead."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig
from tests.object_store import ObjectStore
from tests.processes import ROOT
from tests.quickdraw_tfrecords.reading.test_remote import put

READ_AHEAD_MIB = 24
# Threads, connections and the like, and what the allocator of C's library does as it likes.
SLACK_MIB = 6

# Two epochs, so that the next begins while the last one ends.
PROGRAM = """
import sys
import psutil
import quickdraw_tfrecords as qt
from tools import peak_memory

info = qt.open_dataset(sys.argv[1], read_ahead_mib=float(sys.argv[2]))
before = psutil.Process().memory_info().rss
shuffle = sys.argv[3] == "shuffle"
for _ in qt.batches(info, "train", 256, shuffle=shuffle, cache="none", window_mib=4, epochs=2):
    pass
print(peak_memory.of_process() - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory, pool) -> Path:
    """72,000 drawings to train on, 60 MB, in blocks of 400 kB."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "source").mkdir()
    drawings = np.random.default_rng(0).integers(1, 256, (100_000, 784), np.uint8)
    np.save(folder / "source" / "cat.npy", drawings)
    source = NumpyBitmapSource.open(folder / "source")
    config = ConvertConfig(per_class=100_000, shards=18)
    converter.convert(source, folder / "data", config, pool=pool)
    return folder / "data"


def growth_mib(place: str | Path, order: str) -> float:
    """By how much reading makes a process larger, after all is imported and opened."""
    command = [sys.executable, "-c", PROGRAM, str(place), str(READ_AHEAD_MIB), order]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout) / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("order", ["shuffle", "as on disk"])
def test_reading_takes_what_a_disk_does_and_the_read_ahead(
    large: Path, object_store: ObjectStore, order: str
):
    put(large, f"{object_store.url}/data")
    local, remote = growth_mib(large, order), growth_mib(f"{object_store.url}/data", order)
    assert local > 8  # windows
    assert remote <= local + READ_AHEAD_MIB + SLACK_MIB
