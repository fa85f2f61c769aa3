"""Downloads Google's bitmaps into a folder for `--source=numpy_bitmap`; converts nothing.

quickdraw download --out_dir=bitmaps --classes=airplane,zigzag
quickdraw download --out_dir=bitmaps --per_class=all
"""

import dataclasses
from pathlib import Path

from quickdraw_tfrecords.base import class_names, cli, setting_flags
from quickdraw_tfrecords.base.settings import REQUIRED, setting
from quickdraw_tfrecords.sources.download.config import DownloadConfig
from quickdraw_tfrecords.sources.download.downloader import download


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CommandConfig(DownloadConfig):
    """What to download, and how."""

    out_dir: Path = setting(REQUIRED, "Folder to download to.", group="download")
    classes: tuple[str, ...] = setting(
        (), "Class names, or a file with one per line. Default: all 345.", group="download"
    )
    per_class: int | None = setting(
        6450,
        "Drawings to fetch of each class, or 'all': 39.5 GB.",
        group="download",
        minimum=1,
        none="all",
    )
    seed: int = setting(
        0, "Decides which runs are fetched.", group="download", minimum=0, maximum=2**32 - 1
    )


def define_flags() -> None:
    """Defines the command's flags."""
    setting_flags.define_flags(_CommandConfig)


def main() -> None:
    """Downloads as the flags say."""
    config = setting_flags.from_flags(_CommandConfig)
    wanted = class_names.parse_classes(config.classes)
    classes = class_names.select(class_names.quickdraw_class_names(), wanted)
    download(
        config.out_dir,
        classes,
        per_class=config.per_class,
        selection=config.selection,
        seed=config.seed,
        connections=config.connections,
        base_url=config.base_url,
    )
    print(f"{len(classes)} classes are in {config.out_dir}")
    print(f"read them with --source=numpy_bitmap --source_dir={config.out_dir}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
