"""What all drawings of a class have in common: a symbol, grown from its name alone.

A symbol is a body (a circle, a zigzag ...) with details in and around it (eyes, rays, a tail ...),
all chosen by a generator that is seeded with the name.
"""

import functools
import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Path = NDArray[np.complex128]  # corners, x + iy, y downwards

# A drawing is 20 pieces of 10 points, and one more piece for an extra stroke. A stroke is a run
# of whole pieces; so all drawings have arrays of the same shape, whatever their strokes, and
# whole batches of them are computed at once.
PIECES, PIECE_POINTS = 21, 10
STROKES = 13  # at most; the last is the extra one

# What people draw when they draw something else. The list is fixed: if it were the source's
# other classes, a class would look different in each selection of classes.
WRONG_CLASSES = (
    *("apple", "car", "cat", "circle", "cloud", "face", "fish", "flower", "hand", "house"),
    *("line", "moon", "square", "squiggle", "star", "sun", "tree", "triangle", "zigzag"),
)


class Symbol(NamedTuple):
    """What all drawings of a class have in common.

    Attributes:
      points: float32[2, pieces, piece points], the pen's path.
      arms: The same, each stroke relative to its own center.
      progress: float32[pieces, piece points], from -0.5 to 0.5 along each stroke.
      strokes: intp[pieces], the stroke of each piece.
    """

    points: NDArray[np.float32]
    arms: NDArray[np.float32]
    progress: NDArray[np.float32]
    strokes: NDArray[np.intp]


@functools.lru_cache(maxsize=1)
def stacked_symbols(name: str) -> Symbol:
    """The symbol of a class, and those of the wrong classes after it, stacked."""
    return Symbol(*map(np.stack, zip(*map(_symbol, (name, *WRONG_CLASSES)), strict=True)))


@functools.cache
def _symbol(name: str) -> Symbol:
    outlines = _outlines(random.Random(name))
    pieces = _deal_pieces([_length(outline) for outline in outlines])
    outlines.append(np.array([-0.2, 0.2], complex))  # the extra stroke
    pieces.append(1)
    # The extra stroke takes part in the arrays of every drawing, but is seldom drawn.
    paths = [_resample(z, k * PIECE_POINTS) for z, k in zip(outlines, pieces, strict=True)]
    return Symbol(
        points=_planes(paths),
        arms=_planes([_centered(path) for path in paths]),
        progress=_planes([np.linspace(-0.5, 0.5, len(path)) for path in paths])[0],
        strokes=np.repeat([*range(len(paths) - 1), STROKES - 1], pieces),
    )


def _planes(paths: Sequence[Path | NDArray[np.float64]]) -> NDArray[np.float32]:
    """Paths as float32[2, pieces, piece points], x before y."""
    path = np.concatenate(paths).reshape(PIECES, PIECE_POINTS)
    # Rounded, because the last bit of a sine differs between machines.
    return np.round([path.real, path.imag], 4).astype(np.float32)


def _deal_pieces(lengths: list[float]) -> list[int]:
    """Deals all pieces but the extra stroke's to the strokes, in proportion to their length."""
    # Each stroke gets one; then whichever has the longest pieces gets the next.
    pieces = [1] * len(lengths)
    while sum(pieces) < PIECES - 1:
        longest = max(range(len(pieces)), key=lambda k: lengths[k] / pieces[k])
        pieces[longest] += 1
    return pieces


def _resample(path: Path, count: int) -> Path:
    """`count` points at equal distances along a path."""
    along = np.append(0, np.abs(np.diff(path)).cumsum())
    resampled: Path = np.interp(np.linspace(0, along[-1], count), along, path)
    return resampled


def _length(path: Path) -> float:
    # Rounded, so that a tie between two strokes is one on every machine.
    return round(float(np.abs(np.diff(path)).sum()), 6)


def _radii(path: Path) -> tuple[float, float]:
    """Half the width and half the height of a path."""
    return float(np.ptp(path.real)) / 2, float(np.ptp(path.imag)) / 2


def _centered(path: Path) -> Path:
    rx, ry = _radii(path)
    return path - complex(path.real.min() + rx, path.imag.min() + ry)


def _outlines(rng: random.Random) -> list[Path]:
    """Grows a symbol: a body, and details in and around it."""
    body = _closed(rng) if rng.random() < 0.8 else _open(rng)
    body = body + _unit(rng.random()) * body**2 / 8  # egg-shaped this way or that
    body = _centered(body * _unit(_choose(rng, (0, 0, 0, 1 / 8, -1 / 8, 1 / 4))))
    squash = rng.uniform(0.5, 1)
    rx, ry = _choose(rng, ((1, 1), (1, squash), (squash, 1)))
    strokes = [body.real * rx + 1j * body.imag * ry]
    for _ in range(_choose(rng, (2, 3, 3, 4))):
        detail = _choose(rng, _DETAILS)(rng, *_radii(strokes[0]))
        if len(strokes + detail) < STROKES and _inkiness(strokes + detail) < _MAX_INKINESS:
            strokes += detail
    return strokes


def _inkiness(strokes: list[Path]) -> float:
    """The length of all lines relative to the size of the drawing."""
    return sum(map(_length, strokes)) / (2 * max(_radii(np.concatenate(strokes))))


def _choose(rng: random.Random, options: Sequence[T]) -> T:
    # Python promises the same numbers in all versions for random() alone, not for choice().
    return options[int(rng.random() * len(options))]


def _unit(turns: float) -> complex:
    return complex(np.exp(2j * np.pi * turns))


def _arc(stop: float, points: int = 97) -> Path:
    """Part of the unit circle, as `points` corners."""
    arc: Path = np.exp(2j * np.pi * np.linspace(0, stop, points))
    return arc


def _closed(rng: random.Random) -> Path:
    corners, circle = _choose(rng, (3, 4, 4, 5, 6)), _arc(1)
    bumps = np.abs(np.sin(np.linspace(0, corners * np.pi, 97)))
    shapes = {
        "circle": circle,
        "ellipse": circle.real + 0.7j * circle.imag,
        "polygon": _arc(1, corners + 1) * _unit(0.5 / corners - 0.25),
        "star": _arc(1, 2 * corners + 1) * np.resize([-1j, -0.45j], 2 * corners + 1),
        "cloud": circle * (0.75 + 0.3 * bumps),
        "drop": circle.imag * (0.5 + 0.5 * circle.real) - 1j * circle.real,
        "half": np.append(_arc(0.5), 1),
    }
    return _choose(rng, list(shapes.values()))


def _open(rng: random.Random) -> Path:
    turns, x = _choose(rng, (2, 3, 4, 5)), np.linspace(-1, 1, 97)
    shapes = {
        "line": np.array([-1, 1], complex),
        "arc": _arc(0.5) + 0.2j,
        "zigzag": np.linspace(-1, 1, turns + 2) + 1j * np.resize([-0.4, 0.4], turns + 2),
        "wave": x + 0.35j * np.sin(x * np.pi * turns / 2),
        "spiral": _arc(turns / 2) * np.linspace(0.1, 1, 97),
        "hook": np.append(-1.5j, _arc(0.5) - 0.5) * 0.7,
    }
    return _choose(rng, list(shapes.values()))


def _any_shape(rng: random.Random, low: float, high: float) -> Path:
    shape = _closed(rng) if rng.random() < 0.5 else _open(rng)
    return _centered(shape) * rng.uniform(low, high)


def _row(rng: random.Random, most: int) -> NDArray[np.float64]:
    """One to `most` places, evenly spaced in [-1, 1]."""
    count = 1 + int(rng.random() * most)
    return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)


def _inside(rng: random.Random, rx: float, ry: float) -> list[Path]:
    places = _row(rng, 3)
    # The more there are, the smaller each is, though not so small that they all fit.
    shape = _any_shape(rng, 0.3, 0.5) / len(places) ** 0.8
    height = 1j * ry * rng.uniform(-0.35, 0.35)
    return [shape + 0.5 * x * rx + height for x in places]


def _across(rng: random.Random, rx: float, ry: float) -> list[Path]:
    line, places = np.array([-0.9, 0.9]), _row(rng, 3) * 0.4 + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.5:
        return [line * rx + 1j * y * ry for y in places]
    return [x * rx + 1j * line * ry for x in places]


def _above(rng: random.Random, rx: float, ry: float) -> list[Path]:
    places = _row(rng, 4) * rng.uniform(0.4, 0.8)
    legs = complex(0, 0.5) * np.array([1, -1]) * rng.uniform(0.4, 1)
    shape = legs if rng.random() < 0.5 else _any_shape(rng, 0.4, 0.8) / len(places) ** 0.8
    return [shape + x * rx - 1j * (0.9 * ry + _radii(shape)[1]) for x in places]


def _below(rng: random.Random, rx: float, ry: float) -> list[Path]:
    return [stroke.conj() for stroke in _above(rng, rx, ry)]  # upside down


def _sides(rng: random.Random, rx: float, ry: float) -> list[Path]:
    shape = _any_shape(rng, 0.25, 0.6) * _unit(rng.uniform(-0.2, 0.2))
    right = shape + 0.9 * rx + _radii(shape)[0] + 1j * ry * rng.uniform(-0.8, 0.6)
    return [right, -right.conj()]  # its mirror image on the left


def _ring(rng: random.Random, rx: float, ry: float) -> list[Path]:
    ray = np.array([1.1, 1.1 + rng.uniform(0.3, 0.7)])
    directions = _arc(1, 6 + int(rng.random() * 3))[:-1]
    return [ray * complex(d.real * rx, d.imag * ry) for d in directions]


def _tail(rng: random.Random, rx: float, ry: float) -> list[Path]:
    tail = _open(rng)
    tail = (tail - tail[0]) / np.abs(tail - tail[0]).max() * _unit(rng.uniform(-0.15, 0.15))
    tail = tail + 0.95 * rx + 1j * ry * rng.uniform(-0.4, 0.4)
    return [_choose(rng, (tail, -tail.conj()))]


# Listed twice is chosen twice as often.
_DETAILS = (_inside, _inside, _across, _above, _above, _below, _below, _sides, _ring, _tail)
_MAX_INKINESS = 6  # which few of Google's drawings exceed
