"""Small data sets made once for all tests, from synthetic drawings."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import hypothesis
import pytest

from quickdraw_tfrecords.base import workers
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig
from tests.object_store import (  # noqa: F401, fixtures
    any_object_store,
    gcs_store,
    impatience,
    new_connections,
    object_store,
    web_server,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A shell ignores Ctrl-C for what it runs in the background, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast examples are made is the machine's affair.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

CLASS_NAMES = ("airplane", "cat", "The Mona Lisa", "tree", "zigzag")


@pytest.fixture(scope="session")
def pool():
    """Worker processes, shared by all conversions of the tests."""
    with workers.pool(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def threads() -> Iterator[str]:
    """The address of a Dask cluster of one worker, of three threads of this process."""
    from distributed import LocalCluster  # takes half a second to import

    with LocalCluster(
        n_workers=1, threads_per_worker=3, processes=False, dashboard_address=":0"
    ) as local:
        yield local.scheduler_address


@pytest.fixture(scope="session")
def source() -> SyntheticSource:
    return SyntheticSource(CLASS_NAMES, seed=7)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory, source: SyntheticSource, pool) -> Path:
    """1,000 drawings of 5 classes: 720 / 80 / 200, in 6 / 1 / 2 shards. Do not change it."""
    path = tmp_path_factory.mktemp("data")
    converter.convert(source, path, ConvertConfig(per_class=200, shards=6, seed=3), pool=pool)
    return path


@pytest.fixture(scope="session")
def real_bitmaps() -> Path:
    """Google's own drawings, where QUICKDRAW_REAL names a folder of them."""
    path = Path(os.environ.get("QUICKDRAW_REAL", "")) / "numpy_bitmap"
    if not path.is_dir():
        pytest.skip("needs real drawings: set QUICKDRAW_REAL to a folder with numpy_bitmap/")
    return path


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("needs the browser Chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: "Browser") -> "Iterator[Callable[..., Page]]":
    """Opens a page from disk, which must complain of nothing and ask for nothing to the end."""
    complaints, contexts = [], []

    def open_page(path: Path, *, width: int = 1200, **options: object) -> "Page":
        viewport = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=viewport, offline=True, **options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: complaints.append(request.url))
        tab.goto(path.as_uri())
        complaints.remove(path.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not [text for text in complaints if not re.match("data:", text)]


@pytest.fixture(scope="session")
def cairo() -> ModuleType:
    """What draws strokes, where the system has its library."""
    try:
        return rasterization.load_cairo()
    except DataError as error:
        pytest.skip(str(error))
