"""The 345 class names of Quick, Draw!, the order of labels, and choosing among names."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from quickdraw_tfrecords.base.errors import UsageError


@functools.cache
def quickdraw_class_names() -> tuple[str, ...]:
    """The 345 names in the order of TFDS' `quickdraw_bitmap`, which is not alphabetical."""
    import tensorflow_datasets as tfds

    path = tfds.core.tfds_path("datasets/quickdraw_bitmap/labels.txt")
    return tuple(path.read_text().splitlines())


def in_label_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorts class names by TFDS' order; unknown names follow alphabetically."""
    rank = {name: index for index, name in enumerate(quickdraw_class_names())}
    return tuple(sorted(names, key=lambda name: (rank.get(name, len(rank)), name)))


def select(
    available: Iterable[str], wanted: Iterable[str] | None, *, are_files: bool = True
) -> tuple[str, ...]:
    """The wanted classes (all, if None) in label order.

    Args:
      available: The classes there are.
      wanted: Class names.
      are_files: Whether names become file names, and must be fit for that.

    Raises:
      UsageError: No name, a name twice, unknown to the source, or unfit for a file name.
    """
    available = list(available)
    chosen = available if wanted is None else list(wanted)
    if not chosen:
        raise UsageError("--classes: there is no name in it; name at least one class")
    for name in chosen:
        if are_files and not _is_file_name(name):
            raise UsageError(f"--classes: {name!r} is not a class name (it has path characters)")
        if chosen.count(name) > 1:
            raise UsageError(f"--classes: {name!r} is listed more than once; list it once")
        if name not in available:
            raise UsageError(
                f"--classes: the source has no class {name!r}; it has {len(available)} classes"
                f"{_closest(name, available)}"
            )
    return in_label_order(chosen)


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _closest(name: str, available: list[str]) -> str:
    import difflib

    matches = difflib.get_close_matches(name, available, n=1)
    return f". Did you mean {matches[0]!r}?" if matches else ""


def parse_classes(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """What a --classes flag means: names, or the one name of a file with a name per line.

    Returns:
      The names; None for no value, which means all.

    Raises:
      UsageError: The file is not text.
    """
    if not values:
        return None
    if len(values) == 1 and Path(values[0]).is_file():
        try:
            values = Path(values[0]).read_text().splitlines()
        except UnicodeDecodeError:
            raise UsageError(f"--classes={values[0]}: not a text file of class names") from None
    return tuple(value.strip() for value in values if value.strip())
