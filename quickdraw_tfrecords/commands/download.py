"""Downloads Google's bitmaps into a folder for `--source=numpy_bitmap`; converts nothing.

quickdraw download --out_dir=... [--classes=airplane,zigzag] [--per_class=all]
"""

from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import class_names, cli
from quickdraw_tfrecords.sources.download import bucket
from quickdraw_tfrecords.sources.download.downloader import download


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("out_dir", None, "Folder to download to.", required=True)
    flags.DEFINE_list("classes", None, "Class names, or a file with one a line. Default: all 345.")
    flags.DEFINE_string("per_class", "6450", "Drawings to fetch of each class, or 'all': 39.5 GB.")
    flags.DEFINE_enum(
        "selection",
        "spread",
        bucket.SELECTIONS,
        "Runs of drawings spread over the file, or the first.",
    )
    flags.DEFINE_integer("seed", 0, "Decides where the runs are.", 0, 2**32 - 1)
    flags.DEFINE_integer("connections", 8, "Requests to make at a time.", 1, 64)
    flags.DEFINE_string("base_url", bucket.BASE_URL, "Folder of the .npy files on a server.")


def main() -> None:
    """Downloads as the flags say."""
    args = flags.FLAGS
    wanted = class_names.parse_classes(args.classes)
    classes = class_names.select(class_names.quickdraw_class_names(), wanted)
    download(
        Path(args.out_dir),
        classes,
        per_class=class_names.parse_per_class(args.per_class),
        selection=args.selection,
        seed=args.seed,
        connections=args.connections,
        base_url=args.base_url,
    )
    print(f"{len(classes)} classes are in {args.out_dir}")
    print(f"read them with --source=numpy_bitmap --source_dir={args.out_dir}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
