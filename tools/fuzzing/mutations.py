"""Damage to files and JSON values, the same for the same random numbers.

Tests draw the random numbers from hypothesis, which then finds the least damage that fails.
"""

import copy
import random
import struct
from collections.abc import Iterator
from typing import Any

from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.format.records import mask_crc32c

# Where parsers break: the borders of their types, and what they take for another type.
NUMBERS: tuple[Any, ...] = (
    -1, 0, 1, 2, 255, 256, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**62, 2**63 - 1, 2**63,
    2**64, 10**400, -(2**63), 0.5, -0.0, 5e-324, 1e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *NUMBERS, None, True, False, "", " ", "a\nb", "../../x", "/etc/passwd", "\0", "<script>",
    "\ud800", "x" * 5000, [], {}, [[]], [None], [0] * 5000, {"": 0}, [[[[[[]]]]]],
)  # fmt: skip

_MOST_CHANGES = 4


def mutate_bytes(numbers: random.Random, data: bytes) -> bytes:
    """Bytes with a few of them flipped, cut out, repeated, or overwritten by a border number."""
    content = bytearray(data)
    for _ in range(numbers.randint(1, _MOST_CHANGES)):
        start = numbers.randint(0, len(content))
        stop = min(len(content), start + numbers.choice((1, 2, 4, 8, 64, 4096)))
        match numbers.randrange(6):
            case 0 if content:
                content[start - 1] ^= 1 << numbers.randrange(8)
            case 1:
                del content[start:stop]
            case 2:
                content[start:start] = content[start:stop] * numbers.choice((1, 2, 50))
            case 3:
                size = numbers.choice((1, 2, 4, 8))
                border = numbers.choice((0, 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1))
                content[start : start + size] = border.to_bytes(
                    size, numbers.choice(("little", "big"))
                )
            case 4:
                del content[start:]
            case _:
                content[start:stop] = numbers.randbytes(stop - start)
    return bytes(content)


def mutate_json(numbers: random.Random, value: Any) -> Any:
    """A JSON value with a few of its parts replaced, removed, repeated, or moved elsewhere."""
    changed = copy.deepcopy(value)
    for _ in range(numbers.randint(1, _MOST_CHANGES)):
        places = list(_places(changed))
        if not places:
            return numbers.choice(VALUES)
        container, key = numbers.choice(places)
        match numbers.randrange(5):
            case 0:
                del container[key]
            case 1 if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[key]))
            case 2:
                other, place = numbers.choice(places)
                container[key] = copy.deepcopy(other[place])
            case 3 if isinstance(container[key], int):
                container[key] += numbers.choice((-1, 1, 2**32, 2**64))
            case _:
                container[key] = copy.deepcopy(numbers.choice(VALUES))
    return changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of a JSON value, as its container and its key there."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


def frame(data: bytes, *, length: int | None = None) -> bytes:
    """A TFRecord with right CRCs, whatever length it claims."""
    header = struct.pack("<Q", len(data) if length is None else length)
    return header + _masked_crc(header) + data + _masked_crc(data)


def _masked_crc(data: bytes) -> bytes:
    return struct.pack("<I", mask_crc32c(crc32c(data)))
