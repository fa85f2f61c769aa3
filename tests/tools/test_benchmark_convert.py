"""Tests of tools.benchmark_convert, on little data: what it prints, not how fast that is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def bitmaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bitmaps")
    for seed, name in enumerate(("cat", "tree")):
        images = np.random.default_rng(seed).integers(0, 256, (60, 784), np.uint8)
        np.save(path / f"{name}.npy", images)
    return path


def run(bitmaps: Path, scratch: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.benchmark_convert", f"--source_dir={bitmaps}"]
    command += [f"--scratch_dir={scratch}", "--per_class=50", "--workers=1", "--rounds=1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [*command, *flags], env=environment, capture_output=True, text=True, check=False
    )


def figures(output: str) -> dict[str, float]:
    return {
        name: float(figure)
        for name, figure in re.findall(
            r"^(\S.*?) +(\d+\.\d\d)(?: s| GB|   \(median.*)$", output, re.M
        )
    }


def test_a_conversion_is_compared_with_a_copy(bitmaps, tmp_path):
    result = run(bitmaps, tmp_path / "scratch")
    assert result.returncode == 0, result.stderr
    found = figures(result.stdout)
    assert len(found) == len(result.stdout.splitlines()) == 6
    assert 0 < found["first shard after"] <= found["conversion"]
    assert found["CPU"] > 0
    assert found["peak memory (PSS)"] > 0.01
    assert "conversion / copy" in found
    assert not (tmp_path / "scratch").exists()


@pytest.mark.slow
def test_and_with_one_on_a_cluster(bitmaps, tmp_path):
    result = run(bitmaps, tmp_path / "scratch", "--nocopy", "--cluster")
    assert result.returncode == 0, result.stderr
    found = figures(result.stdout)
    assert len(found) == len(result.stdout.splitlines()) == 9
    ratio = found["conversion"] / found["cluster: conversion"]
    assert found["pool / cluster"] == pytest.approx(ratio, abs=0.02)
    assert found["cluster: CPU"] > 0
    # What its workers hold is counted.
    assert found["cluster: peak memory (PSS)"] > 0.05


def test_a_folder_that_is_there_is_left_alone(bitmaps, tmp_path):
    result = run(bitmaps, tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"error: --scratch_dir={tmp_path}: already exists; name a new folder\n"


def test_a_conversion_that_fails_is_said(bitmaps, tmp_path):
    result = run(bitmaps, tmp_path / "scratch", "--per_class=99", "--nocopy")
    assert result.returncode == 1
    assert "the conversion failed: error: --per_class=99 is more than" in result.stderr
