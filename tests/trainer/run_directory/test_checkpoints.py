"""Checkpoints appear atomically, and are never taken for another model's."""

import contextlib
import io
import os
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.json_values import JsonValue
from trainer.run_directory import checkpoints
from trainer.run_directory.checkpoints import CheckpointFiles

ARRAYS = {
    "conv1/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "adam/iteration": np.int64(2**40),
    "totals": np.array([0.1, np.nan, np.inf]),
}
STATE = {"epoch": 3, "best": 0.1 + 0.2, "history": [{"loss": 1e-300}], "none": None}


class Variable:
    """What restore() needs of a variable."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.value = shape, None

    def assign(self, value: np.ndarray) -> None:
        self.value = value


@pytest.fixture
def files(tmp_path) -> CheckpointFiles:
    return CheckpointFiles(tmp_path / "latest", keep=2)


def _assert_equal(arrays, state):
    assert state == STATE
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_what_is_saved_is_read(files):
    _assert_equal(*checkpoints.read(files.save(7, ARRAYS, STATE)))


def test_numpy_reads_it_too(files):
    with np.load(files.save(7, ARRAYS, STATE)) as file:
        assert {*file.files} == {"state", *ARRAYS}


def test_prune_keeps_the_newest(files):
    for step in (9, 10, 100_000):
        files.save(step, ARRAYS, STATE)
    files.prune()
    assert [path.stem for path in files.paths()] == ["step-0000000010", "step-0000100000"]
    assert files.newest() == files.paths()[-1]


def test_delete_after_deletes_later_steps_only(files):
    for step in (9, 10, 11):
        files.save(step, ARRAYS, STATE)
    files.delete_after(10)
    assert [path.stem for path in files.paths()] == ["step-0000000009", "step-0000000010"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_failure_while_saving_leaves_the_old_one(files, monkeypatch, moment):
    files.save(1, ARRAYS, STATE)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(OSError, match="No space"):
        files.save(1, ARRAYS, {"epoch": 4})
    monkeypatch.undo()
    assert len(list(files.newest().parent.iterdir())) == 1
    _assert_equal(*checkpoints.read(files.newest()))


def test_what_a_kill_left_is_swept_and_never_read(files, monkeypatch):
    files.save(1, ARRAYS, STATE)
    leftover = files.newest().parent / ".step-0000000002.npz.99.tmp"
    leftover.write_bytes(b"half")
    assert files.newest().stem == "step-0000000001"
    files.save(2, ARRAYS, STATE)
    assert not leftover.exists()


@st.composite
def _damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A cut or a changed byte, half of the time in the archive's directory, at its end."""
    place, mask = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 255))
    at_end = draw(st.booleans())

    def damage(content: bytes) -> bytes:
        start = content.index(b"PK\1\2") if at_end else 0
        position = start + int(place * (len(content) - start))
        changed = bytes([content[position] ^ mask]) + content[position + 1 :] if mask else b""
        return content[:position] + changed

    return damage


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[CheckpointFiles, bytes]:
    """Two checkpoints, and what the newer one holds."""
    files = CheckpointFiles(tmp_path_factory.mktemp("two"), keep=2)
    files.save(1, {"weights": np.arange(5)}, {"epoch": 1})
    return files, files.save(2, ARRAYS, STATE).read_bytes()


@settings(max_examples=500, deadline=None)
@given(damage=_damages())
def test_damage_is_found_and_an_older_checkpoint_is_taken(two, damage):
    """A damaged checkpoint is skipped, or is damaged where it does not matter."""
    files, content = two
    older, newest = files.paths()
    newest.write_bytes(damage(content))
    warnings = []
    path, arrays, state = files.read_newest(warnings.append, lambda state: None)
    if path == newest:
        _assert_equal(arrays, state)
        assert not warnings
    else:
        assert (path, state, arrays["weights"].tolist()) == (older, {"epoch": 1}, [*range(5)])
        (warning,) = warnings
        assert str(newest) in warning
        assert older.name in warning


def _write(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, data in members:
            archive.writestr(name, data)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


SAVED_STATE = ("state.npy", _npy(np.array("{}")))
DAMAGES: dict[str, Callable[[Path], object]] = {
    "a directory": lambda path: (path / "of somebody").mkdir(parents=True),
    "a FIFO": os.mkfifo,
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a name twice": lambda path: _write(path, [SAVED_STATE, SAVED_STATE]),
    "no state": lambda path: _write(path, [("a.npy", _npy(np.ones(3)))]),
    "a state that is a list": lambda path: _write(path, [("state.npy", _npy(np.array("[]")))]),
    "a state nested deeply": lambda path: _write(
        path, [("state.npy", _npy(np.array('{"a":' + "[" * 100_000)))]
    ),
    "2**60 floats": lambda path: _write(path, [SAVED_STATE, ("a.npy", _header("(1 << 60,)"))]),
    "2**60 floats, written out": lambda path: _write(
        path, [SAVED_STATE, ("a.npy", _header(f"({2**60},)"))]
    ),
    "2**62 numbers of no bytes": lambda path: _write(
        path, [SAVED_STATE, ("a.npy", _header(f"({2**62},)").replace(b"<f4", b"|V0"))]
    ),
    "a zip bomb": lambda path: _write(
        path, [SAVED_STATE, ("a.npy", _header("(25000000,)") + bytes(10**8))], zipfile.ZIP_DEFLATED
    ),
    "a pickle": lambda path: np.savez(path, state=np.array([print], object)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_in_place_of_the_newest_the_one_before_is_taken(files, damage):
    older = files.save(1, ARRAYS, STATE)
    newest = older.with_name("step-0000000002.npz")
    DAMAGES[damage](newest)
    lines: list[str] = []
    tracemalloc.start()
    path, arrays, state = files.read_newest(lines.append, lambda state: None)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path == older
    _assert_equal(arrays, state)
    assert len(lines) == 1
    assert str(newest) in lines[0]
    assert peak_bytes < 10**7
    files.delete_after(1)
    assert files.save(2, ARRAYS, STATE) == newest
    _assert_equal(*checkpoints.read(newest))


def test_a_state_that_cannot_be_is_as_bad_as_damage(files):
    older, newest = (files.save(step, ARRAYS, STATE | {"epoch": step}) for step in (1, 2))
    lines: list[str] = []

    def require(state: JsonValue) -> None:
        state["epoch"].whole(0, 1)

    assert files.read_newest(lines.append, require)[0] == older
    assert len(lines) == 1
    assert f"{newest}: epoch is 2, must be whole, up to 1" in lines[0]


@pytest.mark.parametrize("name", ["step-abc.npz", "step-.npz", "step-12.npz.bak", "step-1e9.npz"])
def test_what_is_not_named_as_a_checkpoint_is_left_alone(files, name):
    path = files.save(5, ARRAYS, STATE)
    stray = path.with_name(name)
    stray.write_bytes(b"mine")
    assert files.paths() == [path]
    files.delete_after(-1)
    assert stray.read_bytes() == b"mine"


def test_every_byte_of_the_directory_counts_or_does_not_matter(files):
    path = files.save(1, ARRAYS, STATE)
    content = path.read_bytes()
    for position in range(content.index(b"PK\1\2"), len(content)):
        for mask in (1, 16, 128, 255):
            damaged = bytearray(content)
            damaged[position] ^= mask
            path.write_bytes(damaged)
            with contextlib.suppress(DataError):
                _assert_equal(*checkpoints.read(path))


def test_where_all_are_damaged_the_newest_is_named_with_the_remedy(files):
    for step in (1, 2):
        path = files.save(step, ARRAYS, STATE)
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=f"^{path}: not a whole checkpoint.*--resume=never"):
        files.read_newest(pytest.fail, lambda state: None)


@pytest.mark.parametrize("content", [b"", b"PK", b"step"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "step-0000000001.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a whole checkpoint"):
        checkpoints.read(path)


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "step-0000000001.npz"
    np.savez(path, state=np.array([print], dtype=object))
    with pytest.raises(DataError, match="not a whole checkpoint"):
        checkpoints.read(path)


def test_restore_assigns_by_name(tmp_path):
    variables = {"a": Variable((2,)), "b": Variable((3,))}
    checkpoints.restore(variables, {"b": np.ones(3), "a": np.zeros(2)}, tmp_path)
    assert variables["b"].value.tolist() == [1, 1, 1]
    assert variables["a"].value.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(2), "b": np.zeros(1)}, "'b' is not in the model"),
        ({}, "'a' is not in the checkpoint"),
        ({"a": np.zeros(3)}, r"'a' is \(3,\), the model's is \(2,\)"),
    ],
)
def test_restore_refuses_another_model(tmp_path, arrays, message):
    variable = Variable((2,))
    with pytest.raises(DataError, match=message):
        checkpoints.restore({"a": variable}, arrays, tmp_path / "step-0000000001.npz")
    assert variable.value is None


def test_every_difference_is_named(tmp_path):
    found = {"--model": "study_cnn", "--batch_size": 64, "--seed": 0}
    wanted = {"--model": "compact_cnn", "--batch_size": 32, "--seed": 0}
    with pytest.raises(UsageError) as caught:
        checkpoints.require_same(tmp_path, found, wanted)
    message = str(caught.value)
    assert "--model was 'study_cnn', is 'compact_cnn'" in message
    assert "--batch_size was 64, is 32" in message
    assert "--seed" not in message


def test_find_prefers_the_best(tmp_path):
    with pytest.raises(UsageError, match="no checkpoint"):
        checkpoints.find(tmp_path)
    latest = checkpoints.latest(tmp_path, keep=1).save(9, ARRAYS, STATE)
    assert checkpoints.find(tmp_path) == latest
    best = checkpoints.best(tmp_path, keep=1).save(4, ARRAYS, STATE)
    assert checkpoints.find(tmp_path) == best
    assert checkpoints.find(latest.parent) == latest
    assert checkpoints.find(latest) == latest
