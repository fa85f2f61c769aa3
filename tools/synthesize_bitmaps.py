"""Writes synthetic drawings, not Google's, as `.npy` files in the form of Google's bitmaps.

    python -m tools.synthesize_bitmaps --out_dir=/data/synthetic --per_class=6450

One file per class, `<class>.npy`, uint8[per_class, 784], as in Google's
`full/numpy_bitmap`, and a notice, SYNTHETIC.txt. A file appears under its name only once
it is complete. The same command run again keeps complete files and writes what is missing.
"""

import io
import json
import os
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from quickdraw_tfrecords.base import class_names, cli, workers
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import atomic_write
from quickdraw_tfrecords.sources.synthetic import DRAWINGS_PER_CLASS, NOTE, SyntheticSource

flags.DEFINE_string("out_dir", None, "Where the files go; made if missing.", required=True)
flags.DEFINE_integer(
    "per_class",
    None,
    "How many synthetic drawings of each class.",
    required=True,
    lower_bound=1,
    upper_bound=DRAWINGS_PER_CLASS,
)
flags.DEFINE_list(
    "classes",
    [],
    "Class names, comma separated, or a file with one per line; any name without path characters "
    "will do. The 345 of Quick, Draw! if not given.",
)
flags.DEFINE_integer(
    "seed", 0, "Each seed gives other drawings of the same symbols.", lower_bound=0
)
flags.DEFINE_integer("workers", os.cpu_count(), "How many processes draw.", lower_bound=1)

_NOTICE_NAME = "SYNTHETIC.txt"


def main() -> None:
    """Draws as the flags say."""
    args = flags.FLAGS
    source = SyntheticSource(class_names.parse_classes(args.classes), args.seed)
    out_dir = Path(args.out_dir)
    print(f"{out_dir}: {NOTE}")
    out_dir.mkdir(parents=True, exist_ok=True)
    _claim(out_dir, source)
    missing = [
        label
        for label, path in enumerate(_paths(out_dir, source))
        if not _is_complete(path, (args.per_class, source.side**2))
    ]
    if kept := len(source.class_names) - len(missing):
        print(f"kept {kept} files that are complete")
    if missing:
        _write_all(source, missing, out_dir, args.per_class, args.workers)


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


def _is_complete(path: Path, shape: tuple[int, int]) -> bool:
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
    processes: int,
) -> None:
    paths = _paths(out_dir, source)
    total = len(labels) * per_class
    with (
        workers.pool(processes) as pool,
        tqdm(total=total, unit=" drawings", unit_scale=True) as progress,
    ):
        tasks = [pool.submit(_write, source, k, per_class, paths[k]) for k in labels]
        for task in futures.as_completed(tasks):
            task.result()
            progress.update(per_class)


def _write(source: SyntheticSource, label: int, per_class: int, path: Path) -> None:
    with atomic_write(path) as file:
        np.save(file, source.read(label, np.arange(per_class)))


if __name__ == "__main__":
    cli.run(main)
