"""The page that any static host serves: its guesses are the sketchpad's, in a real browser."""

import functools
import http.server
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.bitmaps import rasterization
from tests.trained import make_run
from trainer.run_directory.runs import TrainedRun
from trainer.serving import exporter
from trainer.serving.classifier import Classifier
from trainer.serving.sketchpad import app
from trainer.serving.web import page as pages
from trainer.serving.web import runtime

GOLDEN = Path(__file__).parents[2] / "golden" / "drawings.ndjson"


# ---- what runs the model ----


def test_it_is_taken_from_a_folder(tmp_path):
    package = tmp_path / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    for name in runtime.FILES:
        (package / "dist" / name).write_text(name)
    runtime.write(tmp_path / "one", package)
    runtime.write(tmp_path / "two", package / "dist")
    for folder in ("one", "two"):
        files = {path.name: path.read_text() for path in (tmp_path / folder).iterdir()}
        assert files == {name: name for name in runtime.FILES}
    (package / "dist" / runtime.FILES[1]).unlink()
    with pytest.raises(UsageError, match=f"runtime_dir=.*has no {runtime.FILES[1]}; it must be"):
        runtime.write(tmp_path / "three", package)


def pretend_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))


def test_without_npm_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"web needs npm.*install Node\.js, or .*--runtime_dir"):
        runtime.write(tmp_path / "runtime")


def test_without_a_network_it_says_what_to_do(tmp_path, monkeypatch):
    pretend_npm(tmp_path, monkeypatch, "echo 'npm error code ENOTFOUND' >&2; exit 1")
    with pytest.raises(
        DataError, match=r"failed: npm error code ENOTFOUND\. Without .*runtime_dir"
    ):
        runtime.write(tmp_path / "runtime")


def test_another_file_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "other.tgz"
    with tarfile.open(package, "w:gz") as archive:
        archive.add(__file__, f"package/dist/{runtime.FILES[0]}")
    pretend_npm(tmp_path, monkeypatch, f'cp {package} "${{3#*=}}"/package.tgz')
    with pytest.raises(DataError, match="npm got another file than the one with sha512-"):
        runtime.write(tmp_path / "runtime")


# ---- in a browser ----


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> TrainedRun:
    return make_run(tmp_path_factory.mktemp("runs") / "a run", data_dir)


@pytest.fixture(scope="module")
def address(run) -> Iterator[str]:
    """Where a host of static files has the page."""
    if not shutil.which("npm"):
        pytest.skip("needs npm")
    try:
        exporter.export(run, "web")
    except DataError as error:
        if "Without a network" in str(error):
            pytest.skip(str(error))
        raise
    handler = functools.partial(_Quiet, directory=run.directory / "export" / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    """The page, which must complain of nothing and ask nobody else."""
    page, complaints = browser.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert [text for text in complaints if not text.startswith((address, "data:"))] == []


def real_or_golden() -> list[list]:
    """100 real drawings, where there are any; or a few of ours."""
    folder = Path(os.environ.get("QUICKDRAW_REAL", ""), "strokes")
    files = sorted(folder.glob("*.ndjson"))[::3][:100] or [GOLDEN]
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    chosen = lines[:: len(lines) // 100 or 1]
    return [rasterization.parse(line)["drawing"] for line in chosen]


@pytest.mark.slow
@pytest.mark.usefixtures("cairo")
def test_its_guesses_are_the_sketchpad_s(page, run):
    classifier = Classifier.of(run)
    for drawing in real_or_golden():
        found = page.evaluate("async (drawing) => (await guess(drawing)).guesses", drawing)
        wanted = app.guess(classifier, drawing)["guesses"]
        assert found[0]["class"] == wanted[0]["class"]
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours["probability"] == pytest.approx(theirs["probability"], abs=0.01)


@pytest.mark.slow
def test_one_draws_on_it_and_sees_the_guesses(page):
    expect(page.locator("#verdict")).to_have_text("Waiting for the first stroke.")
    box = page.locator("#paper").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150, steps=5)
    page.mouse.up()
    expect(page.locator("#verdict")).to_contain_text("I see")
    expect(page.locator("#guesses li")).to_have_count(5)
    expect(page.locator("#bitmap")).to_be_visible()
    assert "synthetic" in page.locator("body").inner_text()


@pytest.mark.slow
def test_a_model_that_is_gone_is_told(browser, address):
    page = browser.new_page()
    page.route("**/model.onnx", lambda route: route.abort())
    page.goto(address)
    box = page.locator("#paper").bounding_box()
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    expect(page.locator("#verdict")).to_contain_text("The model cannot be loaded")
    page.close()


@pytest.mark.slow
@pytest.mark.usefixtures("address")
def test_opened_from_disk_it_says_that_it_wants_a_server(browser, run):
    page = browser.new_page()
    page.goto((run.directory / "export" / "web" / "index.html").as_uri())
    expect(page.locator("#verdict")).to_contain_text("by way of a web server")
    page.close()


@pytest.mark.slow
def test_the_model_of_the_page_is_the_run_s(run, address):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    predict = pages.load(run.directory / "export" / "web")
    np.testing.assert_allclose(predict(images), Classifier.of(run)(images), atol=1e-5)
