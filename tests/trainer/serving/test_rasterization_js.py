"""The browser's bitmaps against cairo's, which are those of the training data."""

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flask
import numpy as np
import pytest
from playwright.sync_api import Page

from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.bitmaps.polylines import Drawing
from trainer.serving import sketchpad
from trainer.serving.sketchpad import server as servers

pytestmark = pytest.mark.usefixtures("cairo")

STATIC = Path(sketchpad.__file__).parent / "static"
GOLDEN = Path(__file__).parents[2] / "golden" / "drawings.ndjson"
# A step of the 15 lines that cairo takes across a row of pixels, of 255.
MOST = 17


@pytest.fixture(scope="module")
def page(browser) -> Iterator[Page]:
    """A page with the functions `rasterize` and `draw` of the sketchpad's modules."""
    app = flask.Flask("modules", static_folder=STATIC, static_url_path="/")
    server = servers.make_local_server(app, servers.listen("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/icon.svg")
    page.evaluate("async () => Object.assign(globalThis, await import('/rasterization.js'))")
    yield page
    page.close()
    server.shutdown()
    thread.join()
    server.server_close()


def in_browser(page: Page, function: str, drawings: Sequence[Drawing], side: int) -> np.ndarray:
    """The drawings by a function of the page, int64[n, side * side]."""
    program = f"([all, side]) => all.map((drawing) => [...{function}(drawing, side)])"
    return np.array(page.evaluate(program, [drawings, side]))


def read(path: Path) -> list[dict[str, Any]]:
    return [rasterization.parse(line) for line in path.read_bytes().splitlines()]


def require_alike(found: np.ndarray, wanted: np.ndarray) -> None:
    differences = np.abs(found - wanted.astype(int))
    assert differences.max(initial=0) <= MOST
    assert (differences > 0).mean() < 0.004
    assert differences.mean() < 0.01


@pytest.mark.parametrize("side", [28, 64])
def test_drawings_are_inked_as_cairo_does(page, side):
    drawings = [record["drawing"] for record in read(GOLDEN)]
    found = in_browser(page, "draw", drawings, side)
    require_alike(found, rasterization.rasterize(drawings, side))


@pytest.mark.parametrize(
    "drawing",
    [
        [[[0], [0]]],
        [[[0, 255], [0, 0]]],
        [[[9, 9, 9], [0, 255, 100]]],
        [[[0, 255], [0, 255]]],
        [[[255, 0], [0, 60]]],
        [[[0, 100, 0], [0, 0, 100]]],
        [[[0, 0], [0, 0]], [[10, 10, 50], [50, 50, 50]]],
    ],
    ids=["dot", "line", "there and back", "diagonal", "flat", "corner", "repeated points"],
)
def test_simple_lines_are_the_same_to_the_pixel(page, drawing):
    wanted = rasterization.rasterize([drawing], 28)
    np.testing.assert_array_equal(in_browser(page, "draw", [drawing], 28), wanted)


def scribbles(count: int) -> list[Drawing]:
    """Drawings of any extent and density, as pointers make them."""
    chance = random.Random(5)
    drawings = []
    for _ in range(count):
        size, x, y = chance.choice([3, 90, 4000]), chance.randrange(500), chance.randrange(500)
        strokes = []
        for _ in range(chance.randint(1, 4)):
            points = [(x, y)]
            for _ in range(chance.choice([0, 1, 5, 60])):
                points.append(tuple(each + chance.randint(-size, size) for each in points[-1]))
            strokes.append([list(axis) for axis in zip(*points, strict=True)])
        drawings.append(strokes)
    return drawings


def test_strokes_as_drawn_are_simplified_and_inked_the_same(page):
    drawings = scribbles(200)
    found = in_browser(page, "rasterize", drawings, 28)
    require_alike(found, rasterization.rasterize(drawings, 28, raw=True))


@pytest.mark.slow
def test_real_drawings_are_as_googles_bitmaps(page, real_bitmaps):
    """Google's strokes against Google's bitmaps of the same drawings."""
    compared = 0
    for path in sorted(real_bitmaps.glob("*.npy")):
        records = read(real_bitmaps.parent / "strokes" / f"{path.stem}.ndjson")
        bitmaps = np.load(path, mmap_mode="r")[: len(records)]
        drawings = [record["drawing"] for record in records[: len(bitmaps)]]
        wanted = rasterization.rasterize(drawings, 28)
        pairs = np.flatnonzero((wanted == bitmaps).all(axis=1))  # rows of the same drawing
        if len(pairs):
            found = in_browser(page, "draw", [drawings[i] for i in pairs], 28)
            require_alike(found, bitmaps[pairs])
        compared += len(pairs)
    assert compared > 1000
