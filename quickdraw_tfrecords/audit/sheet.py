"""The worst that an audit found, drawn: what it looks like and where it is."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, ImageOps

from quickdraw_tfrecords.audit.catalogue import Catalogue
from quickdraw_tfrecords.audit.findings import MEANINGS, Findings, Twins

_GAP = 12  # pixels between cells, and around them
_LINE = 16  # pixels from one line of text to the next
_IMAGE = 84  # pixels a side of a drawing, about: whole pixels stay whole
_WIDTH = 1500
_PLACES = 4  # of one drawing that is there more than once; the others are counted
_PAPER, _INK, _EDGE = 255, 0, 200


class _Cell(NamedTuple):
    """A drawing, by its position in the catalogue, and what is written beside it."""

    position: int
    lines: Sequence[str]


def draw(catalogue: Catalogue, found: Findings, *, limit: int) -> Image.Image:
    """Draws up to `limit` drawings of each kind, the worst first.

    A drawing that is there more than once is drawn once, under the gravest of its kinds. The
    more often it is there the worse; else the less ink, or if it is overfull the more.
    """
    sections = list(_sections(catalogue, found, limit))
    pen = _Pen(catalogue, [cell for _, cells in sections for cell in cells])
    for title, cells in sections:
        pen.section(title, cells)
    if not sections:
        pen.section("nothing was found", [])
    return pen.sheet()


def _sections(
    catalogue: Catalogue, found: Findings, limit: int
) -> Iterator[tuple[str, list[_Cell]]]:
    """A title and the cells of every kind that there is."""
    shown: set[int] = set()
    for kind in ("leaked", "ambiguous", "duplicates"):
        groups = [group for group in _groups(found, kind) if group not in shown]
        shown.update(groups)
        cells = [_twins_cell(catalogue, found.twins, group) for group in groups[:limit]]
        if cells:
            yield _title(kind, len(cells), len(groups), of="different drawings"), cells
    for kind in ("overfull", "nearly_blank", "blank"):
        indices = np.flatnonzero(found.masks[kind])
        order = np.argsort(catalogue.ink[indices], kind="stable")
        worst = indices[order[:: -1 if kind == "overfull" else 1]][:limit]
        if len(worst):
            title = _title(kind, len(worst), len(indices), of="drawings")
            yield title, [_cell(catalogue, i) for i in worst]


def _title(kind: str, count: int, total: int, *, of: str) -> str:
    amount = f"{total:,}" if count == total else f"{count} of {total:,}"
    return f"{kind} ({amount} {of}): {MEANINGS[kind]}"


def _groups(found: Findings, kind: str) -> list[int]:
    """The groups of twins with a drawing of a kind, the largest first."""
    groups = np.unique(found.twins.groups[found.masks[kind][found.twins.members]])
    sizes = np.bincount(found.twins.groups)[groups]
    return groups[np.argsort(-sizes, kind="stable")].tolist()


def _twins_cell(catalogue: Catalogue, twins: Twins, group: int) -> _Cell:
    """A drawing and where it stands: each of its classes and splits before any comes again."""
    members = twins.members[twins.groups == group]
    kinds = catalogue.labels[members] * len(catalogue.manifest.splits) + catalogue.splits[members]
    firsts = np.sort(np.unique(kinds, return_index=True)[1])
    order = np.append(firsts, np.delete(np.arange(len(members)), firsts))[:_PLACES]
    lines = [" · ".join(_place(catalogue, index)) for index in members[order]]
    more = len(members) - len(order)
    return _Cell(int(members[0]), [*lines, f"and {more:,} more"] if more else lines)


def _cell(catalogue: Catalogue, index: int) -> _Cell:
    return _Cell(int(index), [*_place(catalogue, index), f"ink {catalogue.ink[index]:.2%}"])


def _place(catalogue: Catalogue, index: int) -> tuple[str, str, str]:
    entry = catalogue.entry(index)
    place = f"{entry['split']} {entry['position']:,}"
    return entry["class"], place, f"row {entry['source_row']:,}"


class _Pen:
    """Puts sections of cells under each other."""

    def __init__(self, catalogue: Catalogue, cells: Sequence[_Cell]) -> None:
        positions = np.unique([cell.position for cell in cells]).astype(np.int64)
        images = catalogue.images(positions) if len(positions) else ()
        self._images = dict(zip(positions.tolist(), images, strict=True))
        self._scale = max(1, round(_IMAGE / catalogue.manifest.layout.side))
        self._side = self._scale * catalogue.manifest.layout.side
        self._strips: list[Image.Image] = []

    def section(self, title: str, cells: Sequence[_Cell]) -> None:
        """A title, and below it as many rows of cells as they take."""
        text = max((_font().getlength(line) for cell in cells for line in cell.lines), default=0)
        width = self._side + math.ceil(text) + 3 * _GAP
        columns = max(1, (_WIDTH - _GAP) // width)
        rows = math.ceil(len(cells) / columns)
        height = max(self._side, _LINE * max((len(cell.lines) for cell in cells), default=0)) + _GAP
        strip = Image.new("L", (_WIDTH, 3 * _LINE + rows * height), _PAPER)
        ImageDraw.Draw(strip).text((_GAP, 2 * _LINE), title, _INK, _font(bold=True), anchor="ls")
        for place, cell in enumerate(cells):
            row, column = divmod(place, columns)
            self._cell(strip, cell, _GAP + column * width, 3 * _LINE - _GAP // 2 + row * height)
        self._strips.append(strip)

    def _cell(self, strip: Image.Image, cell: _Cell, x: int, y: int) -> None:
        image = Image.fromarray(_PAPER - self._images[cell.position])
        strip.paste(image.resize((self._side, self._side), Image.Resampling.NEAREST), (x, y))
        pen = ImageDraw.Draw(strip)
        pen.rectangle((x - 1, y - 1, x + self._side, y + self._side), outline=_EDGE)
        for number, line in enumerate(cell.lines):
            pen.text((x + self._side + _GAP, y + number * _LINE), line, _INK, _font())

    def sheet(self) -> Image.Image:
        """All sections, one below the other."""
        height = sum(strip.height for strip in self._strips)
        sheet, y = Image.new("L", (_WIDTH, height + _GAP), _PAPER), 0
        for strip in self._strips:
            sheet.paste(strip, (0, y))
            y += strip.height
        # Paper is inverted to 0, which counts as the outside of a box; titles are always there.
        _, _, right, bottom = ImageOps.invert(sheet).getbbox() or (0, 0, *sheet.size)
        return sheet.crop((0, 0, right + _GAP, bottom + _GAP))


@functools.cache
def _font(*, bold: bool = False) -> ImageFont.FreeTypeFont:
    style = font_manager.FontProperties("DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(style), 14 if bold else 12)
