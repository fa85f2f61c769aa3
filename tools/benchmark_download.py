"""Compares the download with curl, which fetches the same ranges over as many connections.

    python -m tools.sparse_bitmaps --out_dir=served
    # any server that speaks byte ranges, over `served`, here on port 8000
    python -m tools.benchmark_download --base_url=http://127.0.0.1:8000 --scratch_dir=fetched

Both write files to the same disk, in turns; each is timed from its call to its end, the
download with everything else it does: looking files up, checksums, journals, syncing.
"""

import os
import shutil
import statistics
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import class_names, cli
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.sources.download import bucket
from quickdraw_tfrecords.sources.download.bucket import HEADER_BYTES
from quickdraw_tfrecords.sources.download.downloader import download
from quickdraw_tfrecords.sources.download.provenance import ROW_BYTES

FLAGS = flags.FLAGS
flags.DEFINE_string("base_url", None, "Folder of the .npy files on a server.", required=True)
flags.DEFINE_string("scratch_dir", None, "A new folder to download to.", required=True)
flags.DEFINE_list("classes", None, "Class names, or a file with one per line. Default: all 345.")
flags.DEFINE_integer("per_class", 6450, "Drawings to fetch of each class.", 1)
flags.DEFINE_enum("selection", "spread", bucket.SELECTIONS, "Which drawings to fetch.")
flags.DEFINE_integer("connections", 8, "Requests to make at a time.", 1, 64)
flags.DEFINE_integer("rounds", 5, "Times that each is timed, after one that is not.", 1)


def main() -> None:
    """Prints the throughput of both, and the median of the rounds' ratios."""
    if not shutil.which("curl"):
        raise UsageError(
            "curl is not installed; install it, it is what the download is compared with"
        )
    scratch = Path(FLAGS.scratch_dir)
    if scratch.exists():
        raise UsageError(f"--scratch_dir={scratch}: already exists; name a new folder")
    wanted = class_names.parse_classes(FLAGS.classes)
    names = class_names.select(bucket.google_files(), wanted)
    megabytes = len(names) * FLAGS.per_class * ROW_BYTES / 1e6
    config = "\nnext\n".join(part for name in names for part in _ranges(scratch, name))
    contenders = (lambda: _download(scratch, names), lambda: _curl(config))
    rounds = [[_time(scratch, each) for each in contenders] for _ in range(FLAGS.rounds + 1)][1:]
    for title, secs in zip(("download", "curl"), zip(*rounds, strict=True), strict=True):
        print(f"{title:10}{megabytes / statistics.median(secs):8,.0f} MB/s")
    ratio = statistics.median(curl / ours for ours, curl in rounds)
    print(f"download / curl: {ratio:.2f} (median of {FLAGS.rounds} rounds)")


def _time(scratch: Path, fetch: Callable[[], None]) -> float:
    scratch.mkdir(parents=True)
    try:
        os.sync()  # so that what the other one wrote is not still being written now
        start = time.perf_counter()
        fetch()
        return time.perf_counter() - start
    finally:
        shutil.rmtree(scratch)


def _download(scratch: Path, names: tuple[str, ...]) -> None:
    download(
        scratch,
        names,
        per_class=FLAGS.per_class,
        selection=FLAGS.selection,
        connections=FLAGS.connections,
        base_url=FLAGS.base_url,
    )


def _curl(config: str) -> None:
    command = ["curl", "--parallel", "--parallel-max", str(FLAGS.connections)]
    command += ["--silent", "--config", "-"]
    if subprocess.run(command, input=config, text=True, check=False).returncode:
        raise DataError(f"{FLAGS.base_url}: curl failed, see above")


def _ranges(scratch: Path, name: str) -> list[str]:
    """What curl is told of each run of rows of a class."""
    drawings = (bucket.google_files()[name].size_bytes - HEADER_BYTES) // ROW_BYTES
    runs = bucket.choose_rows(
        name, drawings, per_class=FLAGS.per_class, selection=FLAGS.selection, seed=0
    )
    url = f"{FLAGS.base_url.rstrip('/')}/{urllib.parse.quote(name)}.npy"
    return [
        f'fail\nurl = "{url}"\noutput = "{scratch}/{name}.{start}"\n'
        f"range = {HEADER_BYTES + start * ROW_BYTES}-{HEADER_BYTES + stop * ROW_BYTES - 1}"
        for start, stop in runs
    ]


if __name__ == "__main__":
    cli.run(main)
