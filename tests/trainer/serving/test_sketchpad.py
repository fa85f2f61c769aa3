"""The sketchpad, by its requests and in a real browser."""

import base64
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import flask
import numpy as np
import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Page, expect

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.bitmaps import rasterization
from tests.trained import make_run
from trainer.run_directory import runs
from trainer.serving import classifier as classifiers
from trainer.serving.classifier import Classifier
from trainer.serving.sketchpad import app
from trainer.serving.sketchpad import server as servers

pytestmark = pytest.mark.usefixtures("cairo")

# Within 0 to 1, as shares of the paper.
ZIGZAG = [(0.2, 0.3), (0.8, 0.3), (0.2, 0.7), (0.8, 0.7)]
LINE = [(0.5, 0.1), (0.5, 0.9)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_dir) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "first run", data_dir).directory


@pytest.fixture(scope="module")
def classifier(run_dir) -> Classifier:
    return Classifier.of(runs.open_run(run_dir))


@pytest.fixture(scope="module")
def client(classifier, run_dir) -> FlaskClient:
    return app.create_app(classifier, run_dir).test_client()


def test_a_guess_is_the_models_of_the_published_bitmap(client, classifier):
    drawing = [[[10, 300, 310], [700, 20, 600]], [[5], [5]]]
    answer = client.post("/guess", json={"strokes": drawing})
    assert answer.status_code == 200
    bitmap = rasterization.rasterize([drawing], 28, raw=True).reshape(1, 28, 28)
    assert base64.b64decode(answer.json["bitmap"]) == bitmap.tobytes()
    found = [(each["class"], each["probability"]) for each in answer.json["guesses"]]
    best = classifiers.best(classifier(bitmap)[0], classifier.class_names, 5)
    assert [name for name, _ in found] == [name for name, _ in best]
    assert [value for _, value in found] == pytest.approx([value for _, value in best])


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("{", 400, ""),
        ("", 400, ""),
        ("[]", 400, "JSON object with the key 'strokes'"),
        ('{"strokes": []}', 400, "it has no strokes"),
        ('{"strokes": "cat"}', 400, "must be a list of strokes"),
        ('{"strokes": {"0": 1}}', 400, "must be a list of strokes"),
        ('{"strokes": [[[1, 2], [1]]]}', 400, "x has 2 numbers, y has 1"),
        ('{"strokes": [[[1, "2"], [1, 2]]]}', 400, "finite numbers"),
        ('{"strokes": [[[1, NaN], [1, 2]]]}', 400, "finite numbers"),
        ('{"strokes": [[[1, 1e999], [1, 2]]]}', 400, "finite numbers"),
        ('{"strokes": [[[1, -1e300], [1, 2]]]}', 400, "within 100000 of 0"),
        ('{"strokes": [[[], []]]}', 400, "stroke 1: is empty"),
        ('{"strokes": ' + "[" * 100_000, 400, "nested too deeply"),
        (json.dumps({"strokes": [[[1] * 20_001] * 2]}), 413, "20,001 points"),
        (json.dumps({"strokes": [[[0, 9] * 400, [0, 7] * 400]]}), 413, "more than 500 times"),
        (" " * (app.MAX_BYTES + 1), 413, ""),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_bad_request_is_told_and_harms_nothing(client, body, code, said):
    answer = client.post("/guess", data=body, content_type="application/json")
    assert answer.status_code == code
    assert said in answer.json["error"]
    assert answer.json["error"]
    assert client.post("/guess", json={"strokes": [[[1, 2], [1, 2]]]}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/guess", 405),
        ("PUT", "/", 405),
        ("GET", "/../run.json", 404),
        ("POST", "/guess", 415),
    ],
)
def test_a_wrong_address_or_method_is_told(client, method, path, code):
    answer = client.open(path, method=method)
    assert answer.status_code == code
    assert answer.json["error"]


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost:8765", 200),
        ("LocalHost", 200),
        ("127.0.0.1:8765", 200),
        ("[::1]:8765", 200),
        ("192.168.1.7", 200),
        ("drawing-board.local:1", 200),
        ("evil.example", 403),
        ("evil.example:8765", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.0.0.1@evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_name_is_told_nothing(classifier, run_dir, host, code):
    """DNS rebinding: a page elsewhere lets its own name point to this machine."""
    client = app.create_app(classifier, run_dir, "Drawing-Board.local").test_client()
    for path, call in (("/", client.get), ("/guess", client.post)):
        options = {"json": {"strokes": [[[1, 2], [1, 2]]]}} if path == "/guess" else {}
        answer = call(path, headers={"Host": host}, **options)
        assert answer.status_code == code
        assert code == 200 or answer.json.keys() == {"error"}


def test_the_page_may_load_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "http" not in answer.text.replace("http-equiv", "")


def test_only_this_machine_is_listened_to_and_a_taken_port_is_told():
    with servers.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port={port}: cannot be listened on: .*in use"):
            servers.listen("127.0.0.1", port)
    with pytest.raises(UsageError, match=r"--host=no\.such\.host\.invalid"):
        servers.listen("no.such.host.invalid", 0)


@pytest.mark.slow
def test_the_command_says_where_to_draw_and_ends_when_interrupted(run_dir):
    words = [sys.executable, "-m", "trainer.commands.sketchpad", f"--run_dir={run_dir}", "--port=0"]
    root = Path(__file__).parents[3]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=root, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            line = process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
            with urllib.request.urlopen(address) as page:
                assert "first run" in page.read().decode()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()  # or the end of `with` waits for it, whatever went wrong
    assert process.returncode == 0
    assert "Traceback" not in errors


# ---- in a browser ----


@contextlib.contextmanager
def serving(application: flask.Flask) -> Iterator[str]:
    server = servers.make_local_server(application, servers.listen("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def server(classifier, run_dir) -> Iterator[str]:
    with serving(app.create_app(classifier, run_dir)) as address:
        yield address


HOSTILE = (
    "<img src=x onerror=alert(1)>", '"><script>alert(1)</script>', "</script><b>", "{{ 7 * 7 }}",
    "' onmouseover='alert(1)", "&lt;i&gt;", "javascript:alert(1)", "naïve 日本語 🐈",
)  # fmt: skip


class Guesser:
    """A classifier of hostile names, which finds all of them equally probable."""

    class_names, side = HOSTILE, 28

    def __call__(self, bitmaps: np.ndarray) -> np.ndarray:
        return np.full((len(bitmaps), len(HOSTILE)), 1 / len(HOSTILE), np.float32)


@pytest.fixture
def hostile_server(tmp_path) -> Iterator[str]:
    with serving(app.create_app(Guesser(), tmp_path / HOSTILE[0])) as address:
        yield address


def test_clients_that_say_nothing_do_not_keep_others_out(classifier, run_dir, monkeypatch):
    monkeypatch.setattr(servers, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(servers._RequestHandler, "timeout", 1)
    with serving(app.create_app(classifier, run_dir)) as address:
        place = "127.0.0.1", urllib.parse.urlsplit(address).port
        silent = [socket.create_connection(place, timeout=60) for _ in range(3)]
        with socket.create_connection(place, timeout=60) as fourth:
            assert fourth.recv(1) == b""  # closed at once
        assert [each.recv(1) for each in silent] == [b""] * 3  # closed after a second
        assert urllib.request.urlopen(address).status == 200
        for each in silent:
            each.close()


Open = Callable[..., Page]


@pytest.fixture
def open_sketchpad(browser, server) -> Iterator[Open]:
    """Opens the page; at the end it must have complained of nothing and asked nobody else."""
    contexts, complaints, own = [], [], []

    def open_sketchpad(address: str = server, **options: object) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(address)
        own.append(address)
        return page

    yield open_sketchpad
    for context in contexts:
        context.close()
    assert [text for text in complaints if not text.startswith(tuple(own))] == []


def places(page: Page, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points in shares of the paper's side, as pixels of the page."""
    box = page.locator("#paper").bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]


def draw(page: Page, points: Sequence[tuple[float, float]]) -> None:
    """Draws a stroke with the mouse, and waits until its guesses are there."""
    first, *others = places(page, points)
    page.mouse.move(*first)
    page.mouse.down()
    for place in others:
        page.mouse.move(*place, steps=3)
    page.mouse.up()
    settle(page)


def settle(page: Page) -> None:
    page.wait_for_function("() => request === null && timer === null")


def guesses(page: Page) -> list[str]:
    return page.locator("#guesses .name").all_inner_texts()


def seen(page: Page) -> np.ndarray:
    """The bitmap that is shown as what the model sees, uint8[28, 28]."""
    pixels = page.evaluate(
        """() => { const canvas = document.getElementById("bitmap");
        return [...canvas.getContext("2d").getImageData(0, 0, 28, 28).data]; }"""
    )
    return 255 - np.array(pixels, np.uint8).reshape(28, 28, 4)[..., 0]


def require_shown(page: Page, classifier: Classifier, drawing: Sequence[Sequence]) -> None:
    """Whether the page shows the guesses of the bitmap of strokes of (x, y)."""
    bitmap = seen(page)
    best = classifiers.best(classifier(bitmap[np.newaxis])[0], classifier.class_names, 5)
    assert guesses(page) == [name for name, _ in best]
    expect(page.locator("#verdict")).to_contain_text(f"I see {best[0][0]}")
    pixels = [list(zip(*places(page, stroke), strict=True)) for stroke in drawing]
    lists = [[list(axis) for axis in stroke] for stroke in pixels]
    wanted = rasterization.rasterize([lists], 28, raw=True).reshape(28, 28).astype(int)
    assert np.abs(bitmap - wanted).sum() < 0.05 * wanted.sum()


def test_hostile_names_are_shown_as_they_are_and_never_become_markup(
    open_sketchpad, hostile_server
):
    page = open_sketchpad(hostile_server)
    draw(page, ZIGZAG)
    assert guesses(page) == list(HOSTILE[:5])
    expect(page.locator("#verdict")).to_contain_text(f"I see {HOSTILE[0]}")
    for name in HOSTILE:
        assert page.get_by_text(name, exact=True).count() >= 1
    assert page.locator("img, b, i").count() == 0
    assert page.locator("script").count() == page.locator("script[src]").count()


def test_strokes_change_the_guesses_and_are_undone(open_sketchpad, classifier):
    page = open_sketchpad()
    expect(page.locator("#verdict")).to_have_text("Waiting for the first stroke.")
    draw(page, ZIGZAG)
    require_shown(page, classifier, [ZIGZAG])
    percents = page.locator("#guesses .percent").all_inner_texts()
    draw(page, LINE)
    require_shown(page, classifier, [ZIGZAG, LINE])
    assert page.locator("#guesses .percent").all_inner_texts() != percents
    page.get_by_role("button", name="Undo").click()
    settle(page)
    require_shown(page, classifier, [ZIGZAG])
    draw(page, LINE)
    page.keyboard.press("Control+z")
    settle(page)
    require_shown(page, classifier, [ZIGZAG])
    page.get_by_role("button", name="Clear").click()
    assert guesses(page) == []
    assert page.get_by_role("button", name="Undo").is_disabled()
    assert page.locator("#seen").is_hidden()


def test_guesses_come_within_a_stroke(open_sketchpad):
    page = open_sketchpad()
    first, *others = places(page, ZIGZAG)
    page.mouse.move(*first)
    page.mouse.down()
    for place in others:
        page.mouse.move(*place, steps=3)
    expect(page.locator("#guesses li")).to_have_count(5)
    page.mouse.up()


def test_a_finger_draws(open_sketchpad, classifier):
    page = open_sketchpad(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    session = page.context.new_cdp_session(page)
    for kind, place in zip(
        ["touchStart", *["touchMove"] * 3, "touchEnd"], [*places(page, ZIGZAG), None], strict=True
    ):
        touches = [{"x": place[0], "y": place[1]}] if place else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    settle(page)
    require_shown(page, classifier, [ZIGZAG])
    assert page.evaluate("scrollY") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_keyboard_draws(open_sketchpad, classifier):
    page = open_sketchpad()
    page.locator("#paper").focus()
    for key, count in (("Space", 1), ("ArrowRight", 12), ("ArrowDown", 12), ("Space", 1)):
        for _ in range(count):
            page.keyboard.press(key)
    settle(page)
    require_shown(page, classifier, [[(0.5, 0.5), (0.8, 0.5), (0.8, 0.8)]])
    page.keyboard.press("Delete")
    assert guesses(page) == []


def test_the_paper_is_dark_in_the_dark(open_sketchpad):
    shades = {}
    for scheme in ("light", "dark"):
        page = open_sketchpad(color_scheme=scheme)
        draw(page, [(0.2, 0.5), (0.8, 0.5)])
        middle = """() => { const c = document.getElementById("paper");
            return c.getContext("2d").getImageData(c.width / 2, c.height / 2, 1, 1).data[0]; }"""
        paper = """() => getComputedStyle(document.getElementById("paper")).backgroundColor"""
        shades[scheme] = page.evaluate(middle), page.evaluate(paper)
    assert shades["light"][0] < 60 < 200 < shades["dark"][0]
    assert shades["light"][1] == "rgb(255, 255, 255)" != shades["dark"][1]


def test_a_server_that_is_gone_is_told(browser, server):
    page = browser.new_page()
    page.goto(server)
    page.context.set_offline(True)
    draw(page, LINE)
    expect(page.locator("#verdict")).to_contain_text("The server does not answer")
    page.context.set_offline(False)
    draw(page, ZIGZAG)
    expect(page.locator("#verdict")).to_contain_text("I see")
    page.close()


def test_a_real_drawing_is_seen_as_google_has_it(open_sketchpad, classifier, real_bitmaps):
    """Google's own strokes, drawn by hand of the browser, give nearly Google's own bitmaps."""
    page = open_sketchpad(viewport={"width": 1200, "height": 1000})
    wanted = np.load(real_bitmaps / "The Mona Lisa.npy")[0].reshape(28, 28).astype(int)
    with open(real_bitmaps.parent / "strokes" / "The Mona Lisa.ndjson", "rb") as file:
        drawing = rasterization.parse(file.readline())["drawing"]
    shares = [[(0.1 + x / 320, 0.1 + y / 320) for x, y in zip(*s, strict=True)] for s in drawing]
    for stroke in shares:
        draw(page, stroke)
    assert np.abs(seen(page) - wanted).sum() < 0.15 * wanted.sum()
    require_shown(page, classifier, shares)
