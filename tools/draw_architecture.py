"""Draws the packages of this project and the imports between them, as an SVG.

    python -m tools.draw_architecture --svg=docs/architecture.svg

An arrow runs from a package to one that imports it. Packages stand in columns so that every arrow
runs to the right; where there is a circle of imports there is no such picture, and none is drawn.
An arrow that follows from two others (A -> B -> C makes A -> C redundant) is left out.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import cli
from tools import package_graph
from tools.package_graph import LANES, Graph

ROOT = Path(__file__).parents[1]

# Where a drawing goes, in order; the picture numbers these packages.
WAY = (
    "quickdraw_tfrecords.sources",
    "quickdraw_tfrecords.writing",
    "quickdraw_tfrecords.format",
    "quickdraw_tfrecords.reading",
    "trainer.training",
    "trainer.run_directory",
    "trainer.results",
    "trainer.report",
)

# All in units of the picture, which are pixels at its natural size.
_BOX_WIDTH, _BOX_HEIGHT = 100, 30
_COLUMN_WIDTH, _ROW_HEIGHT, _BEND_HEIGHT = 126, 46, 22
_MARGIN, _LANE_TITLE = 14, 26


@dataclasses.dataclass(frozen=True, order=True)
class Stop:
    """A box, or a bend of an arrow on its way past a column.

    Attributes:
      lane: The top-level package beside whose name it is drawn.
      column: Its column, from 0.
      name: The package; of a bend, the one that its arrow comes from.
      is_bend: Whether it is a bend.
    """

    lane: str
    column: int
    name: str
    is_bend: bool = False


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a stop is drawn: its left edge and its middle. All are equally wide."""

    x: float
    y: float


def main() -> None:
    """Draws as the flags say."""
    Path(flags.FLAGS.svg).write_text(draw(package_graph.read_imports(ROOT)))


def draw(graph: Graph) -> str:
    """The picture as the text of an SVG file; the same graph gives the same text."""
    column = package_graph.columns(graph)
    routes = [
        _route(source, target, column)
        for target, imported in sorted(package_graph.without_shortcuts(graph).items())
        for source in sorted(imported)
    ]
    places, lane_tops, height = _place(column, routes)
    width = 2 * _MARGIN + max(column.values()) * _COLUMN_WIDTH + _BOX_WIDTH
    body = [
        *(_lane(name, top, width) for name, top in lane_tops.items()),
        *(_arrow([places[stop] for stop in route]) for route in routes),
        *(_box(stop.name, places[stop]) for stop in sorted(places) if not stop.is_bend),
    ]
    return _SVG.format(width=width, height=height, body="\n".join(body))


def _route(source: str, target: str, column: Mapping[str, int]) -> list[Stop]:
    """The ends of an arrow, and between them a bend in each column that it passes.

    Arrows from one package to one lane share their bends, like the wires of a cable.
    """
    between = range(column[source] + 1, column[target])
    return [
        Stop(_lane_of(source), column[source], source),
        *(Stop(_lane_of(target), number, source, is_bend=True) for number in between),
        Stop(_lane_of(target), column[target], target),
    ]


def _place(
    column: Mapping[str, int], routes: list[list[Stop]]
) -> tuple[dict[Stop, Place], dict[str, float], float]:
    """Where every stop is drawn, the top of each lane, and the height of the picture."""
    before: dict[Stop, set[Stop]] = {
        Stop(_lane_of(name), number, name): set() for name, number in column.items()
    }
    for route in routes:
        for stop, following in itertools.pairwise(route):
            before.setdefault(following, set()).add(stop)
    places: dict[Stop, Place] = {}
    lane_tops: dict[str, float] = {}
    top = bottom = float(_MARGIN)
    for lane in LANES:
        lane_tops[lane] = top
        for number in range(max(column.values()) + 1):
            members = [stop for stop in before if (stop.lane, stop.column) == (lane, number)]
            # Beside what comes before it, so that arrows are short and seldom cross.
            members.sort(key=lambda stop: (_mean_y(before[stop], places), stop))
            y = top + _LANE_TITLE
            for stop in members:
                room = _BEND_HEIGHT if stop.is_bend else _ROW_HEIGHT
                places[stop] = Place(_MARGIN + number * _COLUMN_WIDTH, y + room / 2)
                y += room
            bottom = max(bottom, y)
        top = bottom + _MARGIN
    return places, lane_tops, top


def _mean_y(stops: set[Stop], places: Mapping[Stop, Place]) -> float:
    ys = [places[stop].y for stop in stops if stop in places]  # lower lanes are placed later
    return statistics.fmean(ys) if ys else 0.0


def _lane_of(package: str) -> str:
    return package.partition(".")[0]


def _lane(name: str, top: float, width: float) -> str:
    y = top + 14
    line = f'<line class="lane" x1="{_MARGIN}" x2="{width - _MARGIN}" y1="{y + 5}" y2="{y + 5}"/>'
    return f'<text class="lane" x="{_MARGIN}" y="{y:g}">{name}/</text>{line}'


def _arrow(places: list[Place]) -> str:
    path = [f"M{places[0].x:g} {places[0].y:g}"]
    for place, following in itertools.pairwise(places):
        x = place.x + _BOX_WIDTH  # straight past its column; a box hides this
        middle = (x + following.x) / 2
        path.append(
            f"H{x:g}C{middle:g} {place.y:g} {middle:g} {following.y:g} {following.x:g} "
            f"{following.y:g}"
        )
    return f'<path d="{"".join(path)}" marker-end="url(#head)"/>'


def _box(package: str, place: Place) -> str:
    lane, _, name = package.partition(".")
    label = name or (lane if lane == "tools" else "public API")
    x, y = place.x, place.y - _BOX_HEIGHT / 2
    size = f'width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}"'
    parts = [
        f'<rect class="{lane}" x="{x:g}" y="{y:g}" {size} rx="5"/>',
        f'<text x="{x + _BOX_WIDTH / 2:g}" y="{place.y + 4.5:g}" text-anchor="middle">'
        f"{label}</text>",
    ]
    if package in WAY:
        parts.append(f'<circle cx="{x + 3:g}" cy="{y + 2:g}" r="9"/>')
        number = WAY.index(package) + 1
        parts.append(f'<text class="way" x="{x + 3:g}" y="{y + 6:g}">{number}</text>')
    return "".join(parts)


_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" \
width="{width:g}" height="{height:g}" role="img" aria-label="Packages and their imports">
<style>
text {{ font: 13px system-ui, sans-serif; fill: #1f2328 }}
text.lane {{ font-weight: 600; fill: #59636e }}
text.way {{ font-size: 11px; font-weight: 600; fill: #fff; text-anchor: middle }}
line.lane {{ stroke: #d1d9e0 }}
path {{ fill: none; stroke: #818b98; stroke-width: 1.2 }}
marker path {{ fill: #818b98; stroke: none }}
circle {{ fill: #b35900 }}
rect {{ stroke: #818b98 }}
rect.quickdraw_tfrecords {{ fill: #ddf4ff }}
rect.trainer {{ fill: #dafbe1 }}
rect.tools {{ fill: #f6f8fa }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #f0f6fc }}
  text.lane {{ fill: #9198a1 }}
  line.lane {{ stroke: #3d444d }}
  rect.quickdraw_tfrecords {{ fill: #10304f }}
  rect.trainer {{ fill: #123d22 }}
  rect.tools {{ fill: #21262d }}
}}
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" \
orient="auto"><path d="M0 0L8 4L0 8Z"/></marker></defs>
{body}
</svg>
"""


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("svg", None, "File to draw to.", required=True)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
