"""The 345 class names of Quick, Draw!, the order of labels, and choosing among names."""

import collections
import functools
from collections.abc import Iterable, Sequence
from importlib import util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import cast

from quickdraw_tfrecords.base.errors import UsageError

MAX_LENGTH = 100  # characters of a name


@functools.cache
def quickdraw_class_names() -> tuple[str, ...]:
    """The 345 names in the order of TFDS' `quickdraw_bitmap`, which is not alphabetical."""
    # Found without importing it, which takes half a second.
    package = cast(ModuleSpec, util.find_spec("tensorflow_datasets"))
    path = Path(str(package.origin)).parent / "datasets/quickdraw_bitmap/labels.txt"
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
      UsageError: No name, a name twice, unknown to the source, unfit for a file name, or against
        the rule of `check`.
    """
    available = list(available)
    chosen = available if wanted is None else list(wanted)
    if not chosen:
        raise UsageError("--classes: there is no name in it; name at least one class")
    known, times = set(available), collections.Counter(chosen)
    for name in chosen:
        if are_files and not _is_file_name(name):
            raise UsageError(f"--classes: {name!r} is not a class name (it has path characters)")
        if times[name] > 1:
            raise UsageError(f"--classes: {name!r} is listed more than once; list it once")
        if name not in known:
            raise UsageError(
                f"--classes: the source has no class {name!r}; it has {len(available)} classes"
                f"{_closest(name, available)}"
            )
    check(chosen)
    return in_label_order(chosen)


def check(names: Iterable[str]) -> None:
    """Checks class names by the one rule for all sources.

    A name becomes a line in the files of labels of a data set and of an exported model. One with
    a line break in it would move all labels after it, and so would one that readers strip to
    nothing or to another name. All names are printed in terminals, reports and pages, too.

    Raises:
      UsageError: A name is against the rule.
    """
    for name in names:
        if not (0 < len(name) <= MAX_LENGTH and name.isprintable() and name == name.strip()):
            raise UsageError(
                f"class {_brief(name)}: a class name must have 1 to {MAX_LENGTH} printable "
                "characters, and no spaces around them; rename it in the source, or leave it out "
                "with --classes"
            )


def _brief(name: str) -> str:
    return repr(name) if len(name) <= MAX_LENGTH else f"{name[:60]!r}..."


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
