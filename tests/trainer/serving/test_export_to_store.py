"""An export on its way to a bucket, killed after each change there: nobody takes it for whole."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from quickdraw_tfrecords.base.stores import open_store
from tests.object_store import ObjectStore
from tests.trained import make_run
from trainer.run_directory import runs
from trainer.run_directory.runs import TrainedRun
from trainer.run_directory.working_copy import WorkingCopy
from trainer.serving import exporter
from trainer.serving.web import runtime

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated"),
]

# What each export is found by, within "export/".
HEADS = {
    "keras": ("model.keras",),
    "saved_model": ("saved_model/20/saved_model.pb",),
    "tflite": ("model.tflite", "model_int8.tflite"),
    "onnx": ("model.onnx",),
    "web": ("web/index.html",),
}

Objects = dict[str, bytes]


class KilledError(Exception):
    """Instead of a signal."""


class MortalStore:
    """Whoever changes it is killed after some changes."""

    def __init__(self, objects: Objects, lives: int) -> None:
        self.objects, self._lives = dict(objects), lives

    def entries(self) -> Objects:
        return self.objects

    def write(self, name: str, data: bytes) -> None:
        self._change()
        self.objects[name] = data

    def delete(self, name: str) -> None:
        self._change()
        self.objects.pop(name, None)

    def _change(self) -> None:
        if not self._lives:
            raise KilledError
        self._lives -= 1


@pytest.fixture(scope="module")
def runtime_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runtime")
    for name in runtime.FILES:
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory, data_dir) -> list[TrainedRun]:
    """Runs of the same steps whose weights differ."""
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / str(seed), data_dir, seed=seed) for seed in range(2)]


def files(folder: Path) -> Objects:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def push(objects: Objects, into: Objects, lives: int) -> tuple[Objects, bool]:
    """What is in a bucket after a push by a process that is killed; and whether it was not."""
    store = MortalStore(into, lives)
    copy = WorkingCopy(store)
    for name, data in objects.items():
        path = copy.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    try:
        copy.push()
    except KilledError:
        return store.objects, False
    return store.objects, True


@pytest.mark.parametrize("name", HEADS)
def test_what_is_found_is_whole(name, both, runtime_dir, tmp_path):
    versions = []
    for run in both:
        exporter.export(run, name, runtime_dir=runtime_dir)
        exported = files(run.directory / "export")
        kept = {"README.md", *(n for n in exported if n.startswith(HEADS[name][0].split("/")[0]))}
        versions.append({f"export/{n}": exported[n] for n in {*kept, *HEADS[name]}})
    old, new = versions
    assert old != new
    for before in ({}, old):
        for lives in itertools.count():
            found, is_done = push(new, before, lives)
            for head in (f"export/{head}" for head in HEADS[name]):
                require_whole(found, head, versions)
            if is_done:
                assert found == new
                break
        assert lives >= len(new)
    if name == "saved_model":
        with pytest.raises(OSError, match="SavedModel file does not exist"):
            load_saved_model(push(new, old, len(new))[0], tmp_path)


def require_whole(found: Objects, head: str, versions: list[Objects]) -> None:
    """Whether the head is missing, or all that belongs to it is of one version."""
    folder = head.removesuffix("saved_model.pb").removesuffix("index.html")
    present = {name: data for name, data in found.items() if name.startswith(folder)}
    wholes = [{n: d for n, d in one.items() if n.startswith(folder)} for one in versions]
    assert head not in found or present in wholes


def load_saved_model(objects: Objects, folder: Path) -> None:
    for name, data in objects.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    images = tf.constant(np.zeros([1, 28, 28, 1], np.uint8))
    tf.saved_model.load(str(folder / "export/saved_model/20")).signatures["serving_default"](images)


def test_the_readme_tells_of_all_that_the_bucket_holds(object_store: ObjectStore, both):
    store = open_store(f"{object_store.url}/runs/1")
    for name, data in files(both[0].directory).items():
        if not name.startswith("export/"):
            store.write(name, data)
    store.write("export/saved_model/10/variables/variables.index", b"of a push that was killed")
    for name in ("keras", "tflite"):
        run = runs.open_run(store)
        exporter.export(run, name)
        run.publish()
    text = store.read("export/README.md").decode()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Keras", "## LiteRT, on phones"]
