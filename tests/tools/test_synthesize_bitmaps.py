"""Tests of tools.synthesize_bitmaps, run as its users run it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quickdraw_tfrecords.sources.synthetic import SyntheticSource

PER_CLASS = 20


def run(out_dir, *arguments, classes="cat,tree") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.synthesize_bitmaps", f"--out_dir={out_dir}"]
    command += [f"--per_class={PER_CLASS}", f"--classes={classes}", "--workers=1", *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def bitmaps(path) -> np.ndarray:
    return np.load(path, allow_pickle=False)


def test_files_hold_what_the_source_reads(tmp_path):
    done = run(tmp_path, "--seed=3", classes="cat,my own")
    assert done.returncode == 0, done.stderr
    assert "synthetic" in done.stdout
    assert "drawings" in done.stderr
    source = SyntheticSource(("cat", "my own"), seed=3)
    for label, name in enumerate(source.class_names):
        images = bitmaps(tmp_path / f"{name}.npy")
        assert images.dtype == np.uint8
        assert images.shape == (PER_CLASS, 784)
        np.testing.assert_array_equal(images, source.read(label, np.arange(PER_CLASS)))
    assert {path.name for path in tmp_path.iterdir()} == {
        "cat.npy",
        "my own.npy",
        "SYNTHETIC.txt",
    }
    assert "not Google's" in (tmp_path / "SYNTHETIC.txt").read_text()


def test_a_second_run_keeps_whole_files_and_replaces_others(tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("cat\ntree\nhouse\n\n")
    out_dir = tmp_path / "new" / "bitmaps"
    assert run(out_dir, classes=classes).returncode == 0
    cat, tree, house = (out_dir / f"{name}.npy" for name in ("cat", "tree", "house"))
    before = {path: path.read_bytes() for path in (cat, tree, house)}
    os.utime(cat, ns=(1, 1))
    os.truncate(tree, len(before[tree]) - 1)
    house.write_bytes(b"x" + before[house][1:])
    done = run(out_dir, classes=classes)
    assert done.returncode == 0, done.stderr
    assert "kept 1 files" in done.stdout
    assert cat.stat().st_mtime_ns == 1
    assert {path: path.read_bytes() for path in before} == before


def test_another_number_of_drawings_replaces_files(tmp_path):
    run(tmp_path)
    assert run(tmp_path, "--per_class=7").returncode == 0
    assert bitmaps(tmp_path / "cat.npy").shape == (7, 784)


def test_drawings_of_another_seed_are_not_mixed_in(tmp_path):
    run(tmp_path)
    before = (tmp_path / "cat.npy").read_bytes()
    done = run(tmp_path, "--seed=1", "--per_class=7")
    assert done.returncode == 2
    assert "--out_dir" in done.stderr
    assert (tmp_path / "cat.npy").read_bytes() == before


def test_bitmaps_from_elsewhere_are_not_overwritten(tmp_path):
    (tmp_path / "cat.npy").write_bytes(b"Google's")
    done = run(tmp_path)
    assert done.returncode == 2
    assert "has other bitmaps" in done.stderr
    assert (tmp_path / "cat.npy").read_bytes() == b"Google's"


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--per_class=0", "per_class"),
        ("--per_class=131073", "per_class"),
        ("--workers=0", "workers"),
        ("--seed=-1", "seed"),
        ("--classes=cat,cat", "'cat' is listed more than once"),
        ("--classes=a/b", "'a/b' is not a class name"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(tmp_path, flag, named):
    done = run(tmp_path, flag)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    done = run(tmp_path / "file" / "out")
    assert done.returncode == 1
    assert str(tmp_path / "file" / "out") in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_import_no_tensorflow():
    program = "import sys, tools.synthesize_bitmaps; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False\n", done.stderr
