"""Converts drawings to a data set: stratified splits of fixed-stride TFRecords.

    quickdraw convert --source=numpy_bitmap --source_dir=... --data_dir=data
    quickdraw convert --source=download --data_dir=data

A conversion that was stopped, however hard, is finished by the same command.
"""

import dataclasses
import os
from pathlib import Path

from quickdraw_tfrecords.base import cli, setting_flags, workers
from quickdraw_tfrecords.base.settings import REQUIRED, setting
from quickdraw_tfrecords.format import manifest
from quickdraw_tfrecords.sources.registry import SourceConfig, open_source
from quickdraw_tfrecords.writing import converter, filtering
from quickdraw_tfrecords.writing.config import ConvertConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CommandConfig:
    """What the command itself needs."""

    data_dir: Path = setting(REQUIRED, "Folder to write the data set to.", group="writing")
    workers: int = setting(os.cpu_count() or 1, "Worker processes.", group="writing", minimum=1)


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
    with workers.pool(command.workers) as pool:
        source = open_source(
            source_config,
            data_dir=command.data_dir,
            per_class=config.per_class,
            seed=config.seed,
            pool=pool,
        )
        directory = converter.convert(source, command.data_dir, config, pool=pool)
    if config.drop:
        print(filtering.describe(manifest.read_manifest(directory)))
    print(f"the data set is in {directory}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
