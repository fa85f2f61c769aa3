"""Splits and slices of them, as TFDS writes them: `train`, `train[:10%]`, `test[-1000:]`.

https://www.tensorflow.org/datasets/splits
"""

import dataclasses
import re
from collections.abc import Mapping

from quickdraw_tfrecords.base.errors import UsageError

_SLICE = re.compile(r"(?P<name>\w+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class SplitRange:
    """Drawings [start, stop) of the split `name`, in the order on disk."""

    name: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def parse_split(split: str, num_examples: Mapping[str, int]) -> SplitRange:
    """Finds the drawings that a slice names. Shards are stratified, so it is a fair sample.

    Args:
      split: A split, alone or with a slice of it: in drawings (`train[1000:]`) or in percent
        (`train[10%:20%]`), counted from the end if negative.
      num_examples: Drawings of each split.

    Raises:
      UsageError: There is no such split, or no drawing in the slice.
    """
    match = _SLICE.fullmatch(split)
    if not match or match["name"] not in num_examples:
        raise UsageError(
            f"split={split!r}: must be one of those there are, or a slice of one such as "
            f"train[:10%] or train[1000:]; the data set has {', '.join(num_examples)}"
        )
    total = num_examples[match["name"]]
    start = _boundary(match["start"] or "0", total)
    stop = _boundary(match["stop"] or str(total), total)
    if not 0 <= start < stop <= total:
        raise UsageError(
            f"split={split!r}: must be a slice with drawings in it; {match['name']} has {total:,}"
        )
    return SplitRange(match["name"], start, stop)


def _boundary(text: str, total: int) -> int:
    number = int(text.removesuffix("%"))
    if text.endswith("%"):
        number = round(number * total / 100)
    # A boundary of -1 % may round to 0, which still means the end.
    return total + number if text.startswith("-") else number
