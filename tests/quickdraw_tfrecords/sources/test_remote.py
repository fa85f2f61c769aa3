"""Sources whose files are in an object store or behind a web server."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.stores import open_store
from quickdraw_tfrecords.sources import Source, bitmap_files
from quickdraw_tfrecords.sources.download.http_ranges import RemoteFile
from quickdraw_tfrecords.sources.download.provenance import Provenance, journal_path
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.sources.registry import SourceConfig, open_source
from tests.object_store import ObjectStore, WebServer

CLASSES = ("cat", "The Mona Lisa")
GOLDEN = Path(__file__).parents[2] / "golden" / "drawings.ndjson"


def save_bitmaps(folder: Path) -> None:
    generator = np.random.default_rng(3)
    for number, name in enumerate(CLASSES):
        pixels = generator.integers(0, 256, (300 + number, 784), np.uint8)
        np.save(folder / f"{name}.npy", pixels)


def save_strokes(folder: Path) -> None:
    for name in CLASSES:
        shutil.copy(GOLDEN, folder / f"{name}.ndjson")


def save_npz(folder: Path) -> None:
    drawing = np.array([[10, 10, 0], [50, 0, 0], [0, 50, 1]], np.int16)
    drawings = np.empty(3, object)
    drawings[:] = [drawing, drawing * [2, 1, 1], drawing * [1, 3, 1]]
    for end, name in zip((".npz", ".full.npz"), CLASSES, strict=True):
        np.savez(folder / f"{name}{end}", train=drawings, valid=drawings[:1], test=drawings[:1])


def save_pictures(folder: Path) -> None:
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for row in range(3):
            image = Image.new("L", (28, 28), 40 * row + number)
            image.save(folder / name / f"{row}.png")


SAVE: dict[str, Callable[[Path], None]] = {
    "numpy_bitmap": save_bitmaps,
    "strokes": save_strokes,
    "npz": save_npz,
    "image_folder": save_pictures,
}


def put(folder: Path, url: str) -> None:
    store = open_store(url)
    for path in folder.rglob("*"):
        if path.is_file():
            store.write(str(path.relative_to(folder)), path)


def open_it(source: str, place: str, pool, **settings: object) -> Source:
    config = SourceConfig(source=source, source_dir=place, **settings)
    return open_source(config, data_dir=Path("unused"), per_class=None, seed=0, pool=pool)


def facts(source: Source) -> object:
    """What a source says of itself, but for which version of a file it read."""
    described = source.describe()
    for one in described.get("files", {}).values():
        one.pop("version", None)
    return described


@pytest.mark.parametrize("name", SAVE)
def test_a_bucket_gives_what_a_folder_does(
    name: str, tmp_path: Path, object_store: ObjectStore, pool, request: pytest.FixtureRequest
):
    if name in ("strokes", "npz"):
        request.getfixturevalue("cairo")
    SAVE[name](tmp_path)
    url = f"{object_store.url}/drawings"
    put(tmp_path, url)
    object_store.faults.unavailable = 3
    ours, theirs = open_it(name, url, pool), open_it(name, str(tmp_path), pool)
    assert (ours.class_names, ours.counts) == (theirs.class_names, theirs.counts)
    assert facts(ours) == facts(theirs)
    for label, count in enumerate(ours.counts):
        rows = np.arange(0, count, 2)
        np.testing.assert_array_equal(ours.read(label, rows), theirs.read(label, rows))
        wanted = theirs.source_rows(label, rows)
        np.testing.assert_array_equal(ours.source_rows(label, rows), wanted)


@pytest.mark.parametrize("name", ["numpy_bitmap", "strokes", "npz"])
def test_a_web_server_is_told_the_classes(name: str, web_server: WebServer, pool, cairo):
    SAVE[name](web_server.folder)
    with pytest.raises(UsageError, match="a web server does not list its files; name --classes"):
        open_it(name, web_server.url, pool)
    ours = open_it(name, web_server.url, pool, classes=CLASSES[1:])
    theirs = open_it(name, str(web_server.folder), pool, classes=CLASSES[1:])
    rows = np.arange(theirs.counts[0])
    np.testing.assert_array_equal(ours.read(0, rows), theirs.read(0, rows))
    with pytest.raises(UsageError, match="dog"):
        open_it(name, web_server.url, pool, classes=("cat", "dog"))


@pytest.mark.parametrize(("range_bytes", "gap_bytes"), [(784, 0), (4000, 2000), (2**21, 2**16)])
def test_any_rows_in_any_ranges(
    range_bytes: int, gap_bytes: int, web_server: WebServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bitmap_files, "_RANGE_BYTES", range_bytes)
    monkeypatch.setattr(bitmap_files, "_REMOTE_GAP_BYTES", gap_bytes)
    save_bitmaps(web_server.folder)
    pixels = np.load(web_server.folder / "cat.npy")
    source = NumpyBitmapSource.open(open_store(web_server.url), ["cat"])
    generator = np.random.default_rng(1)
    for count in (0, 1, 40):
        rows = generator.integers(0, 300, count)
        for chosen in (rows, np.sort(rows)):
            np.testing.assert_array_equal(source.read(0, chosen), pixels[chosen])


def test_only_what_is_wanted_is_asked_for(tmp_path: Path, object_store: ObjectStore):
    save_bitmaps(tmp_path)
    put(tmp_path, object_store.url)
    source = NumpyBitmapSource.open(open_store(object_store.url))
    object_store.requests.clear()
    source.read(0, np.array([3, 4, 299]))
    assert [request.path.rpartition("/")[2] for request in object_store.requests] == ["cat.npy"] * 2


def test_a_file_that_is_changed_meanwhile(tmp_path: Path, object_store: ObjectStore):
    save_bitmaps(tmp_path)
    put(tmp_path, object_store.url)
    store = open_store(object_store.url)
    source = NumpyBitmapSource.open(store)
    described = source.describe()
    store.write("cat.npy", store.read("cat.npy")[:-1] + b"\0")
    with pytest.raises(DataError, match=r"cat\.npy: has changed since it was opened"):
        source.read(0, np.arange(9))
    assert NumpyBitmapSource.open(store).describe() != described


def test_files_that_are_none(tmp_path: Path, object_store: ObjectStore, pool):
    store = open_store(object_store.url)
    with pytest.raises(UsageError, match=rf"--source_dir={store}: holds no .npy files"):
        NumpyBitmapSource.open(store)
    with pytest.raises(UsageError, match=rf"--source_dir={store}: holds no files"):
        open_it("image_folder", object_store.url, pool)
    store.write("cat.npy", b"no bitmaps")
    with pytest.raises(DataError, match=rf"{store}/cat.npy: not a .npy file"):
        NumpyBitmapSource.open(store)


def test_downloads_go_to_a_folder(object_store: ObjectStore, pool):
    with pytest.raises(UsageError, match="must be a folder on this machine"):
        open_it("download", object_store.url, pool, classes=("cat",))


def test_a_name_that_leads_elsewhere(object_store: ObjectStore, pool):
    store = open_store(object_store.url)
    store.write("a/../../b.png", b"")
    with pytest.raises(DataError, match=r"b\.png: cannot be the name of a file"):
        open_it("image_folder", object_store.url, pool)


def test_where_rows_of_a_fetched_file_come_from(tmp_path: Path, object_store: ObjectStore):
    save_bitmaps(tmp_path)
    provenance = Provenance(RemoteFile("u", "v", 784 * 1000 + 80), 1000, ((100, 400),))
    line = {"source": dataclasses.asdict(provenance.source), "drawings": 1000, "runs": [[100, 400]]}
    journal_path(tmp_path / "cat.npy").write_text(json.dumps(line) + "\n")
    put(tmp_path, object_store.url)
    local = NumpyBitmapSource.open(tmp_path, ["cat"])
    source = NumpyBitmapSource.open(open_store(object_store.url), ["cat"])
    assert source.provenances == local.provenances
    np.testing.assert_array_equal(source.source_rows(0, np.arange(3)), [100, 101, 102])
