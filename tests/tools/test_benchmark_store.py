"""The benchmark of reading from an object store."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SERVERS = [
    "moto",
    pytest.param(
        "nginx", marks=pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx")
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_it_times_all_three(server: str, data_dir: Path):
    flags = [f"--server={server}", "--latency_ms=0", "--rounds=1", "--epochs=2", "--json"]
    command = [sys.executable, "-m", "tools.benchmark_store", f"--data_dir={data_dir}", *flags]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=dict(os.environ)).stdout
    (found,) = json.loads(out)
    assert list(found) == ["curl", "store", "disk"]
    assert all(trial["mb_per_sec"] > 0 and trial["peak_mib"] > 0 for trial in found.values())
