"""Training on data in an object store: the same weights, and no secret in what it leaves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.object_store import ObjectStore
from tests.quickdraw_tfrecords.reading.test_remote import put
from trainer.run_directory import checkpoints

FLAGS = (
    "--model=compact_cnn", "--deterministic", "--batch_size=64", "--epochs=1", "--seed=3",
    "--steps_per_loop=3", "--precision=float32",
)  # fmt: skip


def train(data_dir: str, run_dir: Path, *flags: str) -> str:
    command = [sys.executable, "-m", "trainer", f"--data_dir={data_dir}"]
    command += [f"--run_dir={run_dir}", *FLAGS, *flags]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return out.stdout + out.stderr


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--cache=none", "--local_cache_dir={}/cache"])
def test_training_on_a_bucket(flag: str, data_dir: Path, tmp_path: Path, object_store: ObjectStore):
    put(data_dir, f"{object_store.url}/data")
    object_store.faults.unavailable = 3
    url = f"{object_store.url}/data".replace("://", "://THE-KEY:THE-SECRET@")
    shown = train(url, tmp_path / "bucket", flag.format(tmp_path))
    train(str(data_dir), tmp_path / "disk", flag.format(tmp_path))
    ours, theirs = (
        checkpoints.best(tmp_path / name, keep=1).newest() for name in ("bucket", "disk")
    )
    with np.load(ours) as found, np.load(theirs) as wanted:
        arrays = [name for name in wanted.files if wanted[name].dtype.kind == "f"]
        assert arrays
        for name in arrays:
            np.testing.assert_array_equal(found[name], wanted[name])
    left = [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()]
    assert {"flags.txt", "run.json"} <= {path.name for path in left}
    assert ".html" in {path.suffix for path in left}  # the report
    assert "THE-" not in shown
    assert not [path for path in left if b"THE-" in path.read_bytes()]
    assert f"--data_dir={object_store.url}/data\n" in (tmp_path / "bucket/flags.txt").read_text()
