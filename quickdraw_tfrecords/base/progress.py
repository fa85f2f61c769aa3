"""Progress bars: on a terminal while something lasts, and nothing in a file or when it is over."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

ItemT = TypeVar("ItemT")

# As tqdm's own, but with a rate that is always so many per second, never seconds for each.
_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


def bar(
    description: str, items: Iterable[ItemT] | None = None, *, total: int, unit: str
) -> "tqdm[ItemT]":
    """A bar on stderr.

    Args:
      description: What stands before it.
      items: What to go through; without them, `update` moves it on.
      total: How many there are.
      unit: What they are, in the plural.
    """
    return tqdm(
        items,
        desc=description,
        total=total,
        unit=f" {unit}",
        unit_scale=True,
        bar_format=_FORMAT,
        dynamic_ncols=True,
        leave=False,
        disable=None,  # unless stderr is a terminal
    )
