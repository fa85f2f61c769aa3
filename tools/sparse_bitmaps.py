"""Writes class files of Google's real sizes that take little room, to serve in a test.

    python -m tools.sparse_bitmaps --out_dir=served
    python -m http.server ...  # or any other that speaks byte ranges, over `served`
    quickdraw download --base_url=http://127.0.0.1:8000 --out_dir=fetched

All 345 files have the header, the number of drawings and the bytes of Google's own: 39.5
GB. Only those rows that a download with the same --per_class, --selection and --seed
takes are filled, with random bytes, no two rows alike; the others are holes, and read as
zeros. With the default flags they take 1.75 GB of disk.
"""

from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from quickdraw_tfrecords.base import class_names, cli
from quickdraw_tfrecords.sources.download import bucket
from quickdraw_tfrecords.sources.download.bucket import HEADER_BYTES
from quickdraw_tfrecords.sources.download.provenance import ROW_BYTES, Runs

flags.DEFINE_string("out_dir", None, "Folder to write to.", required=True)
flags.DEFINE_list("classes", None, "Class names, or a file with one per line. Default: all 345.")
flags.DEFINE_integer("per_class", 6450, "Rows to fill in each file.", 1)
flags.DEFINE_enum("selection", "spread", bucket.SELECTIONS, "Which rows to fill.")
flags.DEFINE_integer("seed", 0, "Decides which rows, and their bytes.", 0, 2**32 - 1)


def main() -> None:
    """Writes the files as the flags say."""
    args = flags.FLAGS
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    files = bucket.google_files()
    names = class_names.select(files, class_names.parse_classes(args.classes))
    for name in tqdm(names, unit=" classes"):
        drawings = (files[name].size_bytes - HEADER_BYTES) // ROW_BYTES
        runs = bucket.choose_rows(
            name,
            drawings,
            per_class=args.per_class,
            selection=args.selection,
            seed=args.seed,
        )
        write_sparse(out_dir / f"{name}.npy", drawings, runs, seed=args.seed)


def write_sparse(path: Path, drawings: int, runs: Runs, *, seed: int) -> None:
    """Writes a class file of zeros, with random bytes in some of its rows.

    Args:
      path: The file, `<class>.npy`.
      drawings: How many rows it has.
      runs: [start, stop) of the rows that are filled.
      seed: Decides, with the class and the row, the bytes.
    """
    with open(path, "wb") as file:
        file.write(header(drawings))
        file.truncate(HEADER_BYTES + drawings * ROW_BYTES)
        for start, stop in runs:
            file.seek(HEADER_BYTES + start * ROW_BYTES)
            rng = np.random.default_rng([seed, start, *path.stem.encode()])
            file.write(rng.bytes((stop - start) * ROW_BYTES))


def header(drawings: int) -> bytes:
    """A header as Google's files have it: of 80 bytes, where NumPy writes 128 today."""
    form = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({drawings}, {ROW_BYTES}), }}"
    prefix = np.lib.format.magic(1, 0)
    length = HEADER_BYTES - len(prefix) - 2
    return prefix + length.to_bytes(2, "little") + form.encode().ljust(length - 1) + b"\n"


if __name__ == "__main__":
    cli.run(main)
