"""Writes synthetic sketches, not Google's, as `.npy` files in the form of Google's bitmaps.

    python -m tools.synthesize_bitmaps --out_dir=/data/synthetic --per_class=6450

One file a class, `<class>.npy`, uint8[per_class, 784], as in Google's
`full/numpy_bitmap`, and a notice, SYNTHETIC.txt. A file appears under its name only when
it is whole. The same command run again keeps whole files and writes what is missing.
"""

import contextlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from multiprocessing import connection
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from quickdraw_tfrecords.base import class_names, cli
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import atomic_write
from quickdraw_tfrecords.sources.synthetic import DRAWINGS_PER_CLASS, NOTE, SyntheticSource

_OUT_DIR = flags.DEFINE_string(
    "out_dir", None, "Where the files go; made if missing.", required=True
)
_PER_CLASS = flags.DEFINE_integer(
    "per_class",
    None,
    "How many synthetic sketches of each class.",
    required=True,
    lower_bound=1,
    upper_bound=DRAWINGS_PER_CLASS,
)
_CLASSES = flags.DEFINE_list(
    "classes",
    [],
    "Class names, comma separated, or a file with one a line; any name without path characters "
    "will do. The 345 of Quick, Draw! if not given.",
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Each seed gives other drawings of the same symbols.", lower_bound=0
)
_WORKERS = flags.DEFINE_integer(
    "workers", os.cpu_count(), "How many processes draw.", lower_bound=1
)

_NOTICE_NAME = "SYNTHETIC.txt"


def main() -> None:
    """Runs the command with the flags of the command line."""
    source = SyntheticSource(class_names.parse_classes(_CLASSES.value), _SEED.value)
    out_dir = Path(_OUT_DIR.value)
    print(f"{out_dir}: {NOTE}")
    out_dir.mkdir(parents=True, exist_ok=True)
    _claim(out_dir, source)
    missing = [
        label
        for label, path in enumerate(_paths(out_dir, source))
        if not _is_whole(path, (_PER_CLASS.value, source.side**2))
    ]
    if kept := len(source.class_names) - len(missing):
        print(f"kept {kept} files that are whole")
    if missing:
        _write_all(source, missing, out_dir, _PER_CLASS.value, _WORKERS.value)


def _paths(out_dir: Path, source: SyntheticSource) -> list[Path]:
    return [out_dir / f"{name}.npy" for name in source.class_names]


def _claim(out_dir: Path, source: SyntheticSource) -> None:
    """Writes the notice; refuses a directory with drawings from elsewhere.

    Raises:
      UsageError: The directory has bitmaps that are Google's, of another seed or of
        another version of the generator.
    """
    notice = out_dir / _NOTICE_NAME
    text = f"The drawings in this directory are {NOTE}.\n"
    text += json.dumps(source.describe(), indent=2) + "\n"
    found = notice.read_text() if notice.exists() else None
    if found != text and any(out_dir.glob("*.npy")):
        reason = "other synthetic drawings (see SYNTHETIC.txt)" if found else "other bitmaps"
        raise UsageError(f"--out_dir: {out_dir} has {reason}; give a new or empty directory")
    with atomic_write(notice) as file:
        file.write(text.encode())


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Whether a file has the header and the size of a uint8 array of this shape."""
    buffer = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    header = buffer.getvalue()
    if not path.exists() or path.stat().st_size != len(header) + shape[0] * shape[1]:
        return False
    with path.open("rb") as file:
        return file.read(len(header)) == header


def _write_all(
    source: SyntheticSource,
    labels: Sequence[int],
    out_dir: Path,
    per_class: int,
    workers: int,
) -> None:
    paths = _paths(out_dir, source)
    total = len(labels) * per_class
    with _pool(workers) as pool, tqdm(total=total, unit=" sketches", unit_scale=True) as progress:
        tasks = [pool.submit(_write, source, k, per_class, paths[k]) for k in labels]
        for task in futures.as_completed(tasks):
            task.result()
            progress.update(per_class)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[futures.Executor]:
    """Processes that draw; on an error, what is not begun is dropped."""
    pool = futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        yield pool
    except futures.BrokenExecutor:
        raise DataError(
            "a worker process was killed, perhaps for want of memory; run the same command "
            "again with fewer --workers, it goes on where it stopped"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent is told, and ends the pool.
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A worker whose parent is killed would wait for work for ever."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _write(source: SyntheticSource, label: int, per_class: int, path: Path) -> None:
    with atomic_write(path) as file:
        np.save(file, source.read(label, np.arange(per_class)))


if __name__ == "__main__":
    cli.run(main)
