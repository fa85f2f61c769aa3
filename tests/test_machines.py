"""Machines that share nothing but a network and a bucket: training, conversion, and lost wires."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import TIMEOUT_SECS, Network

BUCKET = """
import time, urllib.request
from moto.server import ThreadedMotoServer
from tests.faulty_proxy import FaultyProxy

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
proxy = FaultyProxy(server.get_host_and_port()[1], ("0.0.0.0", 9000))
proxy.faults.latency_secs = 0.01
urllib.request.urlopen(urllib.request.Request(f"{proxy.url}/bucket", method="PUT")).close()
said = 0
while True:
    for request in proxy.requests[said:]:
        print(*request)
        said += 1
    time.sleep(0.02)
"""

# Of all objects below a URL, and of all arrays in a run's last checkpoint.
HASHES = """
import hashlib, json, sys
from quickdraw_tfrecords.base.stores import open_store
store = open_store(sys.argv[1])
found = {name: hashlib.sha256(store.read(name)).hexdigest() for name in store.entries()}
print(json.dumps(found))
"""
WEIGHTS = """
import hashlib, json, sys
from quickdraw_tfrecords.base.stores import open_store
from tests.trainer.test_buckets import latest
arrays, history = latest(open_store(sys.argv[1]))
found = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
print(json.dumps([found, history]))
"""

# Reads the data set a few times, from the bucket each time.
READER = """
import sys, zlib
import quickdraw_tfrecords as qt
info = qt.open_dataset(sys.argv[1])
for epoch in range(4):
    crc = 0
    for batch in qt.batches(info, "train", 64, shuffle=True, epoch=epoch, seed=1, cache="none"):
        crc = zlib.crc32(batch[0], crc)
    print("epoch", epoch, crc)
"""

TRAINING = (
    "--model=compact_cnn", "--batch_size=48", "--epochs=3", "--precision=float32", "--noreport",
    "--deterministic", "--checkpoint_every_steps=5", "--ema=0.8", "--augment=shift",
    "--strategy=multi_worker", "--data_dir=s3://bucket/data",
)  # fmt: skip
DATA = ("--source=synthetic", "--classes=airplane,cat,tree", "--per_class=1000", "--shards=20")


class Site(Network):
    """A bucket on one of the machines, and what the others do with it."""

    def __enter__(self) -> "Site":
        super().__enter__()
        self.bucket = self.start("bucket", "-c", BUCKET)
        self.wait_for("PUT /bucket ", self.bucket)
        return self

    def run(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen:
        """Starts Python on a machine that knows of the bucket."""
        store = {
            "AWS_ACCESS_KEY_ID": "an-access-key",
            "AWS_SECRET_ACCESS_KEY": "a-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{self.address('bucket')}:9000",
        }
        return self.start(name, *arguments, **store, **environment)

    def train(self, run_dir: str) -> list[subprocess.Popen]:
        """Starts two trainers."""
        workers = [f"{self.address(name)}:2222" for name in ("one", "two")]
        return [
            self.run(
                name, "-m", "trainer", *TRAINING, f"--run_dir=s3://bucket/{run_dir}",
                TF_CONFIG=json.dumps(
                    {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
                ),
            )
            for index, name in enumerate(("one", "two"))
        ]  # fmt: skip

    def wait_for(self, words: str, process: subprocess.Popen, count: int = 1) -> None:
        """Waits until a process has said something so often."""
        deadline = time.monotonic() + TIMEOUT_SECS
        while self.said(process).count(words) < count:
            assert process.poll() is None, self.said(process)
            assert time.monotonic() < deadline, self.said(process)
            time.sleep(0.02)

    def ask(self, program: str, url: str) -> object:
        """What a program says of a URL."""
        return json.loads(self.finish(self.run("one", "-c", program, url)).splitlines()[-1])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, "bucket", "one", "two", "three") as site:
        yield site


@pytest.fixture
def data(site: Site) -> str:
    """A data set in the bucket, of three thousand drawings."""
    url = "s3://bucket/data"
    flags = (*DATA, f"--data_dir={url}", "--workers=1")
    site.finish(site.run("one", "-m", "quickdraw_tfrecords", *flags))
    return url


@pytest.mark.slow
def test_a_trainer_dies_and_both_resume(site: Site, data: str):
    for process in site.train("undisturbed"):
        site.finish(process)
    survivor, killed = site.train("disturbed")
    site.wait_for("epoch   1", survivor)
    killed.kill()
    site.finish(survivor, 1)
    first, second = site.train("disturbed")
    assert "resuming at epoch" in site.finish(first)
    site.finish(second)
    undisturbed, disturbed = (
        site.ask(WEIGHTS, f"s3://bucket/{run}") for run in ("undisturbed", "disturbed")
    )
    assert disturbed == undisturbed


@pytest.mark.slow
def test_a_dask_worker_dies(site: Site, data: str):
    address = f"tcp://{site.address('three')}:8786"
    site.start("three", "-m", "dask", "scheduler", "--port=8786", "--dashboard-address=127.0.0.1:0")
    flags = [address, "--no-nanny", "--no-dashboard", "--nthreads=1"]
    workers = [site.run(name, "-m", "dask", "worker", *flags) for name in ("one", "two")]
    url = "s3://bucket/converted"
    command = ("-m", "quickdraw_tfrecords", *DATA, f"--data_dir={url}", f"--scheduler={address}")
    convert = site.run("three", *command)
    site.wait_for("PUT /bucket/converted/quickdraw/1.0.0/quickdraw-", site.bucket)
    workers[1].kill()
    site.finish(convert)
    assert workers[1].wait() == -signal.SIGKILL
    assert site.ask(HASHES, url) == site.ask(HASHES, data)


@pytest.mark.slow
def test_a_wire_is_cut_for_a_while(site: Site, data: str):
    undisturbed = site.finish(site.run("one", "-c", READER, data))
    reader = site.run("two", "-c", READER, data)
    site.wait_for("epoch 0", reader)
    site.cut("two")
    time.sleep(3)
    assert reader.poll() is None
    site.mend("two")
    assert site.finish(reader) == undisturbed
