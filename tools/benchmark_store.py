"""Streaming from an object store, beside curl and beside the disk, in turns.

    python -m tools.benchmark_store --data_dir=data --latency_ms=30
    python -m tools.benchmark_store --data_dir=data --latency_ms=0 --server=moto

A server on this machine serves the data set as S3 does, each request after a latency. In each round
curl gets all blocks of the training split in the order of an epoch, many at a time, and throws
them away; then this project streams that epoch from the server, checked and shuffled; then it
does so from the disk. Each reads in a process of its own. Ratios are taken within a round.
"""

import json
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent import futures
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import cli, tables
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading.remote_shards import READ_AHEAD_MIB
from tools import peak_memory, store_servers

_BATCH_SIZE = 1024
_SERVERS = {"nginx": store_servers.nginx, "moto": store_servers.moto}
# moto looks at the service only, and nginx at nothing.
_AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=any/20200101/us-east-1/s3/aws4_request"
_PARALLEL = 50  # requests at a time, as curl has it if it is not told


class Trial(NamedTuple):
    """How fast a reader was.

    Attributes:
      mb_per_sec: Bytes of shards, in millions.
      peak_mib: The most memory that it took.
      cpu_secs: Processor time that it took for the epochs.
    """

    mb_per_sec: float
    peak_mib: float
    cpu_secs: float


def main() -> None:
    """Compares as the flags say."""
    args = flags.FLAGS
    info = qt.open_dataset(args.data_dir)
    if not isinstance(info.directory, Path):
        raise UsageError(f"--data_dir={args.data_dir}: must be a folder, which is then served")
    serve = _SERVERS[args.server](info.directory, latency_secs=args.latency_ms / 1000)
    with serve as url, store_servers.environment(url):
        rounds = [
            _round(info.directory, url, epochs=args.epochs, read_ahead_mib=args.read_ahead_mib)
            for _ in range(args.rounds)
        ]
    print(json.dumps([_as_json(one) for one in rounds]) if args.json else describe(rounds))


def _round(directory: Path, url: str, *, epochs: int, read_ahead_mib: float) -> dict[str, Trial]:
    found = {"curl": _in_process(get_by_curl, directory, url, epochs)}
    for name, place in {"store": f"s3://{store_servers.BUCKET}", "disk": str(directory)}.items():
        found[name] = _in_process(stream, place, epochs, read_ahead_mib)
    return found


def _in_process(function: Any, *arguments: Any) -> Trial:
    with futures.ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return Trial(*pool.submit(function, *arguments).result())


def stream(place: str, epochs: int, read_ahead_mib: float) -> Trial:
    """Streams epochs of a data set's training split."""
    info = qt.open_dataset(place, read_ahead_mib=read_ahead_mib)
    batches = qt.batches(info, "train", _BATCH_SIZE, shuffle=True, cache="none", epochs=epochs)
    cpu_secs, started = time.process_time(), time.monotonic()
    for _ in batches:
        pass
    secs, cpu_secs = time.monotonic() - started, time.process_time() - cpu_secs
    size = epochs * sum(shard.bytes for shard in info.require_manifest().splits["train"])
    return Trial(size / 1e6 / secs, (peak_memory.of_process() or 0) / 2**20, cpu_secs)


def get_by_curl(directory: Path, url: str, epochs: int) -> Trial:
    """Lets curl get the same blocks, in about the same order."""
    ranges = _ranges(directory) * epochs
    with tempfile.NamedTemporaryFile("w", suffix=".curl") as config:
        config.write("\nnext\n".join(_transfer(url, *one) for one in ranges))
        config.flush()
        command = ["curl", "--parallel", "--parallel-max", str(_PARALLEL), "--no-progress-meter"]
        started = time.monotonic()
        subprocess.run([*command, "--config", config.name], check=True)
        secs = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    size = sum(stop - start for _, start, stop in ranges)
    return Trial(size / 1e6 / secs, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime)


def _ranges(directory: Path) -> list[tuple[str, int, int]]:
    """The blocks of the training split: one of each shard before the next of any."""
    info = qt.open_dataset(directory)
    stride = info.require_manifest().layout.stride
    blocks = sorted(info.split_slice("train").blocks, key=lambda block: block.index)
    return [(block.shard.name, block.start * stride, block.stop * stride) for block in blocks]


def _transfer(url: str, name: str, start: int, stop: int) -> str:
    lines = [f'url = "{url}/{store_servers.BUCKET}/{name}"', f'range = "{start}-{stop - 1}"']
    return "\n".join(
        [*lines, "output = /dev/null", f'header = "Authorization: {_AUTHORIZATION}"', "fail"]
    )


def describe(rounds: Sequence[dict[str, Trial]]) -> str:
    """A table of medians."""
    rows = [("", "MB/s", "of curl", "CPU secs", "peak MiB")]
    for name in rounds[0]:
        trials = [one[name] for one in rounds]
        ratio = statistics.median(one[name].mb_per_sec / one["curl"].mb_per_sec for one in rounds)
        rate, peak, cpu = (statistics.median(column) for column in zip(*trials, strict=True))
        rows.append((name, f"{rate:,.0f}", f"{ratio:.2f}", f"{cpu:.2f}", f"{peak:,.0f}"))
    return tables.to_text(rows)


def _as_json(one: dict[str, Trial]) -> dict[str, Any]:
    return {name: trial._asdict() for name, trial in one.items()}


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set.", required=True)
    flags.DEFINE_enum("server", "nginx", list(_SERVERS), "What serves it.")
    flags.DEFINE_float("latency_ms", 30, "How long each request waits for its answer.", 0)
    flags.DEFINE_float("read_ahead_mib", READ_AHEAD_MIB, "As for open_dataset.", 1)
    flags.DEFINE_integer("epochs", 1, "Epochs in each trial.", 1)
    flags.DEFINE_integer("rounds", 3, "Repetitions of each.", 1)
    flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
    cli.run(main)
