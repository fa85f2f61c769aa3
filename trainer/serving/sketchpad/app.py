"""The sketchpad's web application: a page, and guesses of what is drawn on it."""

import base64
import ipaddress
import urllib.parse
from pathlib import Path
from typing import Any

import flask
import numpy as np
from numpy.typing import NDArray
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, RequestEntityTooLarge

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.bitmaps.polylines import MAX_POINTS, Drawing, Polylines
from trainer.serving import classifier as classifiers
from trainer.serving.classifier import Classifier

GUESSES = 5

# Far beyond what a hand draws; more would keep the machine busy.
MAX_BYTES = 1 << 19
MAX_LENGTH = 500  # of the way the pen goes, in extents of the drawing
MAX_COORDINATE = 1e5

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def create_app(classifier: Classifier, run_dir: Path, host: str = "127.0.0.1") -> flask.Flask:
    """The application: `GET /` is the page, `POST /guess` takes strokes and gives guesses.

    Args:
      classifier: What guesses.
      run_dir: Where it is from; for the page's heading.
      host: What it listens on. By this name, by an address, and as `localhost` it may be called.

    Raises:
      DataError: cairo, which draws the strokes, is not installed.
    """
    app = flask.Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    guess(classifier, [[[0, 1], [0, 1]]])  # compiles the model, and tells if cairo is missing

    @app.before_request
    def require_own_name() -> None:
        if not is_own_name(flask.request.host, host):
            raise Forbidden(
                "not a name of the sketchpad: open its address, or start it with --host=NAME"
            )

    @app.get("/")
    def page() -> str:
        return flask.render_template(
            "index.html",
            folder=flask.url_for("static", filename=""),
            run=run_dir.resolve().name,
            class_names=sorted(classifier.class_names, key=str.casefold),
        )

    @app.post("/guess")
    def guess_strokes() -> dict[str, Any]:
        try:
            body = flask.request.get_json()
        except RecursionError:
            raise BadRequest("the body is nested too deeply") from None
        return guess(classifier, read_drawing(body))

    @app.errorhandler(HTTPException)
    def tell(error: HTTPException) -> tuple[dict[str, str], int]:
        return {"error": error.description or error.name}, error.code or 500

    @app.after_request
    def add_headers(response: flask.Response) -> flask.Response:
        response.headers.update(_HEADERS)
        return response

    return app


def is_own_name(requested: str, host: str) -> bool:
    """Whether a request's `Host` can be meant for this server.

    A page elsewhere may let its own name point to this machine (DNS rebinding), and would then
    be let read what we answer. It cannot be called by an address, though, or `localhost`.

    Args:
      requested: The header, with or without a port.
      host: The name or address that is listened on.
    """
    try:
        name = urllib.parse.urlsplit(f"//{requested}").hostname or ""
    except ValueError:
        return False
    return name in ("localhost", host.lower()) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def read_drawing(body: Any) -> Drawing:
    """The drawing in the JSON of a request, `{"strokes": [[[x, ...], [y, ...]], ...]}`.

    Raises:
      BadRequest: It is no drawing; says what is wrong.
      RequestEntityTooLarge: It has more points than a hand draws.
    """
    if not isinstance(body, dict) or "strokes" not in body:
        raise BadRequest("the body must be a JSON object with the key 'strokes'")
    drawing: Drawing = body["strokes"]
    try:
        polylines = Polylines.of([drawing])
    except DataError as error:
        raise BadRequest(f"strokes: {error}") from None
    _require_handmade(polylines.points)
    return drawing


def _require_handmade(points: NDArray[np.float64]) -> None:
    if len(points) > MAX_POINTS:
        raise RequestEntityTooLarge(
            f"strokes: {len(points):,} points, at most {MAX_POINTS:,} may be"
        )
    if np.abs(points).max() > MAX_COORDINATE:
        raise BadRequest(f"strokes: coordinates must be within {MAX_COORDINATE:g} of 0")
    length = np.hypot(*np.diff(points, axis=0).T).sum()
    if length > MAX_LENGTH * np.ptp(points, axis=0).max():
        raise RequestEntityTooLarge(
            f"strokes: the pen goes more than {MAX_LENGTH} times the drawing's extent"
        )


def guess(classifier: Classifier, drawing: Drawing) -> dict[str, Any]:
    """What a drawing is taken for.

    Args:
      classifier: What guesses.
      drawing: Strokes as drawn, of any extent; they are made into a bitmap as the training
        data's were.

    Returns:
      JSON values: `guesses`, each `class` and `probability`, best first; and what was looked
      at, `bitmap`, the base64 of uint8[side, side], and its `side`.
    """
    side = classifier.side
    bitmap = rasterization.rasterize([drawing], side, raw=True).reshape(1, side, side)
    best = classifiers.best(classifier(bitmap)[0], classifier.class_names, GUESSES)
    return {
        "guesses": [{"class": name, "probability": probability} for name, probability in best],
        "side": side,
        "bitmap": base64.b64encode(bitmap.tobytes()).decode(),
    }
