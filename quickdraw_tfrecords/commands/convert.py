"""Converts drawings to a data set: stratified splits of fixed-stride TFRecords.

    quickdraw convert --source=numpy_bitmap --source_dir=... --data_dir=data
    quickdraw convert --source=download --data_dir=data
    quickdraw convert --source=... --data_dir=/shared/data --scheduler=tcp://host:8786

A conversion that was stopped, however hard, is finished by the same command.
"""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, TypeVar

from quickdraw_tfrecords.base import cli, cluster, setting_flags, workers
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.settings import REQUIRED, normalize, setting
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.format import manifest
from quickdraw_tfrecords.sources.registry import SourceConfig, open_source
from quickdraw_tfrecords.writing import converter, filtering
from quickdraw_tfrecords.writing.config import ConvertConfig

_CORES = os.cpu_count() or 1
_INDEXED = ("image_folder", "npz", "strokes", "tfds")  # sources that are read through first

_Settings = TypeVar("_Settings", bound=Any)  # a dataclass


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CommandConfig:
    """What the command itself needs."""

    data_dir: Location = setting(
        REQUIRED,
        "Folder to write the data set to, or a URL such as s3://bucket/data.",
        group="writing",
    )
    scratch_dir: Path | None = setting(
        None,
        "Folder on the disk of each machine, for shards before they are put to a URL. Default: the "
        "system's for temporary files, or that of a Dask worker.",
        group="writing",
    )
    workers: int = setting(_CORES, "Worker processes.", group="writing", minimum=1)
    scheduler: str | None = setting(
        None,
        "Address of a Dask cluster whose workers do the work, such as tcp://host:8786. They must "
        "see the same files as this command, under the same names.",
        group="writing",
    )

    def __post_init__(self) -> None:
        normalize(self)

    def check(self) -> None:
        """Refuses settings that exclude each other.

        Raises:
          UsageError: Names them.
        """
        if self.scheduler and self.workers != _CORES:
            raise UsageError(
                f"--workers={self.workers} is of this machine; with --scheduler={self.scheduler} "
                "the cluster's workers do the work"
            )


def define_flags() -> None:
    """Defines the command's flags."""
    for settings_class in (SourceConfig, ConvertConfig, _CommandConfig):
        setting_flags.define_flags(settings_class)


def main() -> None:
    """Converts as the flags say."""
    command, config = (
        setting_flags.from_flags(_CommandConfig),
        setting_flags.from_flags(ConvertConfig),
    )
    source_config = setting_flags.from_flags(SourceConfig)
    source_config.check()
    command.check()
    if command.scheduler:
        _check_shared(command, source_config, config)
        command, source_config = _for_all_machines(command), _for_all_machines(source_config)
    with _pool(command) as pool:
        source = open_source(
            source_config,
            data_dir=command.data_dir,
            per_class=config.per_class,
            seed=config.seed,
            pool=pool,
        )
        directory = converter.convert(
            source, command.data_dir, config, pool=pool, scratch_dir=command.scratch_dir
        )
    if config.drop:
        print(filtering.describe(manifest.read_manifest(directory)))
    print(f"the data set is in {directory}")


def _check_shared(
    command: _CommandConfig, source_config: SourceConfig, config: ConvertConfig
) -> None:
    """What one worker writes and others read needs a folder that they share, if not --data_dir."""
    if isinstance(command.data_dir, Path) or command.scratch_dir:
        return
    what = "--drop" if config.drop else f"--source={source_config.source}"
    if config.drop or source_config.source in _INDEXED:
        raise UsageError(
            f"--scheduler={command.scheduler}: where --data_dir is a URL, {what} needs "
            "--scratch_dir, a folder that all workers share"
        )


def _for_all_machines(settings: _Settings) -> _Settings:
    """Settings whose paths do not depend on the working directory, which others do not have."""
    paths = {
        field.name: path.absolute()
        for field in dataclasses.fields(settings)
        if isinstance(path := getattr(settings, field.name), Path)
    }
    return dataclasses.replace(settings, **paths)


@contextlib.contextmanager
def _pool(command: _CommandConfig) -> Iterator[futures.Executor]:
    if command.scheduler is None:
        with workers.pool(command.workers) as pool:
            yield pool
        return
    # One worker writes the index of a source's file, and others read it: see `_check_shared`.
    shared = command.data_dir if isinstance(command.data_dir, Path) else command.scratch_dir
    if shared:
        shared.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(shared)
    with cluster.pool(command.scheduler) as pool:
        yield pool


if __name__ == "__main__":
    define_flags()
    cli.run(main)
