"""The converter.

python -m quickdraw_tfrecords --source=numpy_bitmap --source_dir=... --data_dir=...
"""

import math
import os
from concurrent import futures
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import class_names, cli, workers
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.bitmaps import quality
from quickdraw_tfrecords.format import manifest
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.sources.download import bucket
from quickdraw_tfrecords.writing import converter, filtering, planning

_SOURCES = (
    "download",
    "image_folder",
    "npz",
    "numpy_bitmap",
    "strokes",
    "synthetic",
    "tfds",
)
# Flags that mean something to these sources only.
_SOURCES_OF = {
    "side": ("image_folder", "npz", "strokes"),
    "stroke_format": ("strokes",),
    "recognized": ("strokes",),
    "max_bad": ("npz", "strokes"),
    "tfds_name": ("tfds",),
    "tfds_split": ("tfds",),
}

FLAGS = flags.FLAGS
flags.DEFINE_enum("source", None, _SOURCES, "Where the drawings come from.", required=True)
flags.DEFINE_string(
    "source_dir",
    None,
    "Folder of the source's files; for download, where they go: by default <data_dir>/download.",
)
flags.DEFINE_string("data_dir", None, "Folder to write the data set to.", required=True)
flags.DEFINE_list(
    "classes", None, "Class names, or a file with one a line. Default: all the source has."
)
flags.DEFINE_string("per_class", "6450", "Drawings to take of each class, or 'all'.")
flags.DEFINE_bool("allow_fewer", False, "Take what there is of a class with fewer drawings.")
flags.DEFINE_float("test_fraction", 0.2, "Share of the drawings in the test split.")
flags.DEFINE_float("validation_fraction", 0.1, "Share of the others in the validation split.")
flags.DEFINE_integer("shards", None, "Shards of the training split.", 1, planning.MAX_SHARDS)
flags.DEFINE_float("shard_mib", 20, "Size of a shard in MiB, where --shards is not given.", 0.001)
flags.DEFINE_integer("workers", os.cpu_count(), "Worker processes.", lower_bound=1)
flags.DEFINE_integer(
    "seed", 0, "Decides which drawings are taken, their split and their order.", 0, 2**32 - 1
)
flags.DEFINE_enum(
    "selection",
    "spread",
    bucket.SELECTIONS,
    "What to download of each class: runs of drawings spread over its file, or the first.",
)
flags.DEFINE_integer("connections", 8, "Requests that a download makes at a time.", 1, 64)
flags.DEFINE_integer(
    "side", 28, "Pixels a side, where bitmaps are made from something else.", 8, 512
)
flags.DEFINE_enum("stroke_format", "simplified", ("simplified", "raw"), "Of --source=strokes.")
flags.DEFINE_bool("recognized", False, "Take only the drawings that the game recognised.")
flags.DEFINE_integer("max_bad", 0, "Broken drawings of the source to pass over.", 0)
flags.DEFINE_string("tfds_name", None, "Name of a data set in TFDS' data_dir, as emnist/letters.")
flags.DEFINE_string("tfds_split", None, "Splits to take of it, as train+test. Default: all.")
flags.DEFINE_string("base_url", bucket.BASE_URL, "Where to download <class>.npy from.")
flags.DEFINE_list(
    "drop",
    [],
    "Kinds of drawing to pass over and take others instead. "
    + "; ".join(f"{kind}: {meaning}" for kind, meaning in quality.MEANINGS.items()),
)
flags.DEFINE_bool("overwrite", False, "Replace what another conversion left in --data_dir.")


def main() -> None:
    """Converts as the flags say."""
    for name in ("test_fraction", "validation_fraction"):
        if not 0 < FLAGS[name].value < 1:
            raise UsageError(f"--{name}={FLAGS[name].value}: must be between 0 and 1")
    if not math.isfinite(FLAGS.shard_mib):  # absl lets nan pass its bound
        raise UsageError(f"--shard_mib={FLAGS.shard_mib}: must be a number of MiB")
    settings = converter.Settings(
        per_class=class_names.parse_per_class(FLAGS.per_class),
        allow_fewer=FLAGS.allow_fewer,
        test_fraction=FLAGS.test_fraction,
        validation_fraction=FLAGS.validation_fraction,
        shards=FLAGS.shards,
        shard_mib=FLAGS.shard_mib,
        seed=FLAGS.seed,
        drop=_parse_drop(FLAGS.drop),
        overwrite=FLAGS.overwrite,
    )
    for name, sources in _SOURCES_OF.items():
        if FLAGS[name].present and FLAGS.source not in sources:
            raise UsageError(f"--{name} is of --source={' or '.join(sources)} only")
    with workers.pool(FLAGS.workers) as pool:
        source = _open_source(pool)
        directory = converter.convert(source, Path(FLAGS.data_dir), settings, pool=pool)
    if settings.drop:
        print(filtering.describe(manifest.read_manifest(directory)))
    print(f"the data set is in {directory}")


def _parse_drop(kinds: list[str]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in quality.MEANINGS:
            raise UsageError(f"--drop={kind}: must be some of {','.join(quality.MEANINGS)}")
    return tuple(kind for kind in quality.MEANINGS if kind in kinds)


def _open_source(pool: futures.Executor) -> Source:
    classes = class_names.parse_classes(FLAGS.classes)
    if FLAGS.source == "synthetic":
        from quickdraw_tfrecords.sources.synthetic import SyntheticSource

        return SyntheticSource(classes, seed=FLAGS.seed)
    if FLAGS.source == "download":
        return _download(classes)
    if FLAGS.source_dir is None:
        raise UsageError(f"--source={FLAGS.source} needs --source_dir")
    return _open_folder(Path(FLAGS.source_dir), classes, pool)


def _open_folder(folder: Path, classes: tuple[str, ...] | None, pool: futures.Executor) -> Source:
    # Each is imported where it is used: some need packages that others do without.
    if FLAGS.source == "tfds":
        from quickdraw_tfrecords.sources.tfds import TfdsSource

        return TfdsSource.open(folder, classes, name=FLAGS.tfds_name, splits=FLAGS.tfds_split)
    if FLAGS.source == "strokes":
        from quickdraw_tfrecords.sources.ndjson import NdjsonSource

        return NdjsonSource.open(
            folder,
            classes,
            pool=pool,
            side=FLAGS.side,
            stroke_format=FLAGS.stroke_format,
            recognized=FLAGS.recognized,
            max_bad=FLAGS.max_bad,
        )
    if FLAGS.source == "npz":
        from quickdraw_tfrecords.sources.npz import NpzSource

        return NpzSource.open(folder, classes, pool=pool, side=FLAGS.side, max_bad=FLAGS.max_bad)
    if FLAGS.source == "image_folder":
        from quickdraw_tfrecords.sources.image_folder import ImageFolderSource

        return ImageFolderSource.open(folder, classes, side=FLAGS.side)
    from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource

    return NumpyBitmapSource.open(folder, classes)


def _download(classes: tuple[str, ...] | None) -> Source:
    from quickdraw_tfrecords.sources.download.downloader import DownloadSource, download

    directory = Path(FLAGS.source_dir or Path(FLAGS.data_dir) / "download")
    wanted = class_names.select(class_names.quickdraw_class_names(), classes)
    download(
        directory,
        wanted,
        per_class=class_names.parse_per_class(FLAGS.per_class),
        selection=FLAGS.selection,
        seed=FLAGS.seed,
        connections=FLAGS.connections,
        base_url=FLAGS.base_url,
    )
    return DownloadSource.open(directory, wanted)


if __name__ == "__main__":
    cli.run(main)
