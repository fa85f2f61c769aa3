"""The sources by name: the settings of each, and opening the one that is asked for."""

import dataclasses
from concurrent import futures
from pathlib import Path
from typing import Literal

from quickdraw_tfrecords.base import class_names, settings
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.settings import REQUIRED, setting
from quickdraw_tfrecords.base.stores import Location, Store
from quickdraw_tfrecords.sources import Source, remote
from quickdraw_tfrecords.sources.download.config import DownloadConfig

SourceName = Literal[
    "download", "image_folder", "npz", "numpy_bitmap", "strokes", "synthetic", "tfds"
]

# Settings that mean something to these sources only.
_SOURCES_OF: dict[str, tuple[SourceName, ...]] = {
    "side": ("image_folder", "npz", "strokes"),
    "stroke_format": ("strokes",),
    "recognized": ("strokes",),
    "max_bad": ("image_folder", "npz", "strokes"),
    "tfds_name": ("tfds",),
    "tfds_split": ("tfds",),
}

# Of the sources with a file for each class.
_SUFFIXES = {"strokes": (".ndjson",), "npz": (".full.npz", ".npz")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig(DownloadConfig):
    """Where drawings come from; how to download them matters to one source only."""

    source: SourceName = setting(REQUIRED, "Where the drawings come from.", group="source")
    source_dir: Location | None = setting(
        None,
        "Folder of the source's files, or its URL; for download, where they go: by default "
        "<data_dir>/download.",
        group="source",
    )
    classes: tuple[str, ...] = setting(
        (),
        "Class names, or a file with one per line. Default: all the source has.",
        group="source",
    )
    side: int = setting(
        28,
        "Pixels a side, where bitmaps are made from something else.",
        group="source",
        minimum=8,
        maximum=512,
    )
    stroke_format: Literal["simplified", "raw"] = setting(
        "simplified", "Of --source=strokes.", group="source"
    )
    recognized: bool = setting(
        False, "Take only the drawings that the game recognized.", group="source"
    )
    max_bad: int = setting(0, "Broken drawings of the source to skip.", group="source", minimum=0)
    tfds_name: str | None = setting(
        None, "Name of a data set in TFDS' data_dir, as emnist/letters.", group="source"
    )
    tfds_split: str | None = setting(
        None, "Splits to take of it, as train+test. Default: all.", group="source"
    )

    def __post_init__(self) -> None:
        settings.normalize(self)

    def check(self) -> None:
        """Refuses settings that the source does not have.

        Raises:
          UsageError: Names one, and the sources that have it.
        """
        for field in dataclasses.fields(self):
            sources = _SOURCES_OF.get(field.name, (self.source,))
            if getattr(self, field.name) != field.default and self.source not in sources:
                raise UsageError(f"--{field.name} is of --source={' or '.join(sources)} only")


def open_source(
    config: SourceConfig,
    *,
    data_dir: Location,
    per_class: int | None,
    seed: int,
    pool: futures.Executor,
) -> Source:
    """Opens a source; downloads what is missing of it, if it is on a server.

    Args:
      config: Which source, and how.
      data_dir: Where the data set goes, and with it what is downloaded.
      per_class: Drawings to download of each class; None: all.
      seed: Decides what is downloaded, and what is synthesized.
      pool: Worker processes.

    Raises:
      UsageError: The folder is not named, or a class is unknown.
      DataError: A file is damaged, or the network fails.
    """
    classes = class_names.parse_classes(config.classes)
    if config.source == "synthetic":
        from quickdraw_tfrecords.sources.synthetic import SyntheticSource

        return SyntheticSource(classes, seed=seed)
    if config.source == "download":
        directory = config.source_dir or _beside(data_dir)
        return _download(config, directory, classes, per_class=per_class, seed=seed)
    if config.source_dir is None:
        raise UsageError(f"--source={config.source} needs --source_dir")
    return _open_folder(config, config.source_dir, classes, pool)


def _beside(data_dir: Location) -> Path:
    if isinstance(data_dir, Store):
        raise UsageError(f"--data_dir={data_dir}: with a URL, --source=download needs --source_dir")
    return data_dir / "download"


def _download(
    config: SourceConfig,
    directory: Location,
    classes: tuple[str, ...] | None,
    *,
    per_class: int | None,
    seed: int,
) -> Source:
    from quickdraw_tfrecords.sources.download.downloader import DownloadSource, download

    if isinstance(directory, Store):
        raise UsageError(
            f"--source_dir={directory}: must be a folder on this machine, for --source=download"
        )
    wanted = class_names.select(class_names.quickdraw_class_names(), classes)
    download(
        directory,
        wanted,
        per_class=per_class,
        selection=config.selection,
        seed=seed,
        connections=config.connections,
        base_url=config.base_url,
    )
    return DownloadSource.open(directory, wanted)


def _open_folder(
    config: SourceConfig, place: Location, classes: tuple[str, ...] | None, pool: futures.Executor
) -> Source:
    if config.source == "numpy_bitmap":
        from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource

        return NumpyBitmapSource.open(place, classes)
    folder = place if isinstance(place, Path) else _copy(config.source, place, classes)
    # Each is imported where it is used: some need packages that others do without.
    if config.source == "tfds":
        from quickdraw_tfrecords.sources.tfds import TfdsSource

        return TfdsSource.open(folder, classes, name=config.tfds_name, splits=config.tfds_split)
    if config.source == "strokes":
        from quickdraw_tfrecords.sources.ndjson import NdjsonSource

        return NdjsonSource.open(
            folder,
            classes,
            pool=pool,
            side=config.side,
            stroke_format=config.stroke_format,
            recognized=config.recognized,
            max_bad=config.max_bad,
        )
    if config.source == "npz":
        from quickdraw_tfrecords.sources.npz import NpzSource

        return NpzSource.open(folder, classes, pool=pool, side=config.side, max_bad=config.max_bad)
    from quickdraw_tfrecords.sources.image_folder import ImageFolderSource

    return ImageFolderSource.open(
        folder, classes, pool=pool, side=config.side, max_bad=config.max_bad
    )


def _copy(source: SourceName, store: Store, classes: tuple[str, ...] | None) -> Path:
    """A copy of what a source needs of a folder in an object store."""
    if source in _SUFFIXES:
        return remote.copy_class_files(store, _SUFFIXES[source], classes)
    return remote.copy_folder(store)
