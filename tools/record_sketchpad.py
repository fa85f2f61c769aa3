"""Records a moving picture of the sketchpad: a trained run guesses drawings while they are drawn.

    python -m tools.record_sketchpad --run_dir=runs/1 --strokes_dir=simplified --classes=cat,dog \
        --webp=docs/sketchpad.webp

Needs Chromium. Of each class, the first drawing is taken that the game recognized and the run does.
"""

import contextlib
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from PIL import Image

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.bitmaps import rasterization

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from trainer.serving.classifier import Classifier

_VIEW = (720, 430)  # of the browser, in pixels
_SIZE = (560, 334)  # of the picture, in pixels
_PAGE = "header, #keys, #classes, .buttons, #invitation { display: none !important }"
_RESTYLE = """(css) => {
  const sheet = new CSSStyleSheet();  // a style element is against the page's policy
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [sheet];
}"""
_POINTS_PER_FRAME = 3
_FRAME_MS, _LAST_FRAME_MS = 100, 1200
_MARGIN = 0.12  # of the paper, around a drawing
_EXTENT = 255


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("run_dir", None, "The run that guesses.", required=True)
    flags.DEFINE_string("strokes_dir", None, "Folder of <class>.ndjson files.", required=True)
    flags.DEFINE_list("classes", None, "Classes to draw, in this order.", required=True)
    flags.DEFINE_string("webp", None, "File to write.", required=True)


def main() -> None:
    """Records as the flags say."""
    from trainer.run_directory import runs  # imports TensorFlow
    from trainer.serving.classifier import Classifier

    args = flags.FLAGS
    classifier = Classifier.of(runs.open_run(Path(args.run_dir)))
    drawings = [choose(classifier, Path(args.strokes_dir), name) for name in args.classes]
    with serving(classifier, Path(args.run_dir)) as address, opened(address) as page:
        frames = [frame for drawing in drawings for frame in draw(page, drawing)]
    write(frames, Path(args.webp))


def choose(classifier: "Classifier", folder: Path, name: str) -> list[Any]:
    """The first drawing of a class that the game recognized and the run does.

    Raises:
      UsageError: There is none.
    """
    from trainer.serving.sketchpad import app

    path = folder / f"{name}.ndjson"
    for line in path.read_bytes().splitlines():
        record = rasterization.parse(line)
        guess = app.guess(classifier, record["drawing"])["guesses"][0]
        if record.get("recognized") and guess["class"] == name:
            drawing: list[Any] = record["drawing"]
            return drawing
    raise UsageError(f"{path}: has no drawing that the run recognizes; leave it out of --classes")


@contextlib.contextmanager
def serving(classifier: "Classifier", run_dir: Path) -> Iterator[str]:
    """The sketchpad's address, while it is served."""
    from trainer.serving.sketchpad import app
    from trainer.serving.sketchpad import server as servers

    application = app.create_app(classifier, run_dir)
    server = servers.make_local_server(application, servers.listen("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def opened(address: str) -> Iterator["Page"]:
    """The page in a browser, with the paper and the guesses alone."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox"],
        )
        width, height = _VIEW
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(address)
        page.evaluate(_RESTYLE, _PAGE)
        yield page
        browser.close()


def draw(page: "Page", drawing: list[Any]) -> Iterator[tuple[Image.Image, int]]:
    """Draws with the mouse; gives pictures of the page, each with how long it is shown in ms."""
    box = page.locator("#paper").bounding_box()
    assert box is not None
    page.evaluate("() => clear()")
    size = box["width"] * (1 - 2 * _MARGIN) / _EXTENT
    left, top = box["x"] + box["width"] * _MARGIN, box["y"] + box["height"] * _MARGIN
    for stroke in drawing:
        points = [(left + x * size, top + y * size) for x, y in zip(*stroke[:2], strict=True)]
        page.mouse.move(*points[0])
        page.mouse.down()
        for number, point in enumerate(points):
            page.mouse.move(*point, steps=3)
            if number % _POINTS_PER_FRAME == 0:
                yield photograph(page), _FRAME_MS
        page.mouse.up()
        page.wait_for_function("() => request === null && timer === null")
        yield photograph(page), _FRAME_MS
    yield photograph(page), _LAST_FRAME_MS


def photograph(page: "Page") -> Image.Image:
    """What the page shows."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return picture.resize(_SIZE, Image.Resampling.LANCZOS)


def write(frames: list[tuple[Image.Image, int]], path: Path) -> None:
    """Writes a moving picture that begins again at its end."""
    images, durations = zip(*frames, strict=True)
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        duration=list(durations),
        loop=0,
        quality=45,
        method=6,
    )
    print(f"{path}  {path.stat().st_size / 1e3:.0f} kB, {sum(durations) / 1e3:.0f} s")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
