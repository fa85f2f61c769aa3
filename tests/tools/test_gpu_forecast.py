"""The forecast, with a compiler that was asked before, and where there is JAX with the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quickdraw_tfrecords.base.errors import DataError, UsageError
from tests.tools.test_gpu_roofline import PROGRAM
from tests.trainer.training.test_steps import make_config
from tools import gpu_forecast
from tools.gpu_forecast import Forecast, Split
from tools.gpu_roofline import CARDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compiler(tmp_path: Path) -> str:
    """A program that takes the place of a Python with JAX, and writes what JAX would."""
    path = tmp_path / "python"
    facts = json.dumps({"temporary_bytes": 243_000_000, "argument_bytes": 97_000_000})
    path.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "script, folder, card, options = sys.argv[1:]\n"
        "assert script.endswith('gpu_compiler.py') and 'Tesla T4' in card\n"
        "folder = pathlib.Path(folder)\n"
        "assert 'stablehlo.convolution' in (folder / 'step.mlir').read_text()\n"
        f"(folder / 'step.hlo').write_text({PROGRAM!r}.replace('bf16', 'f16'))\n"
        f"(folder / 'compiled.json').write_text({facts!r})\n"
    )
    path.chmod(0o755)
    return str(path)


def test_the_forecast_says_what_it_is_and_what_it_found(compiler):
    config = make_config(model="compact_cnn", batch_size=16)
    split = Split(classes=5, train=1600, validation=480)
    found = gpu_forecast.forecast(config, CARDS["t4"], "mixed_float16", split, compiler)
    text = gpu_forecast.text(found, config, split)
    assert "Tesla T4, compact_cnn, mixed_float16, batch 16: a forecast" in text
    assert "launches 5, sorts 0, scatters 0" in text
    assert "memory 243 MB for a step, and 97 MB" in text
    assert "which the input has to give" in text
    assert "study_cnn_1/conv1b_1/convolution" in text
    assert found.step_secs > 5 * 3e-6
    assert f"step {found.step_secs * 1e3:.2f} ms" in text


def test_the_dearest_ten_come_first():
    operations = gpu_forecast.gpu_roofline.operations(PROGRAM) * 4
    found = Forecast(CARDS["h100"], "float32", operations, 0, 0)
    config = make_config()
    lines = gpu_forecast.text(found, config, Split()).splitlines()
    times = [float(line.split()[0]) for line in lines[-10:]]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(("secs", "expected"), [(73.6, "74 s"), (600, "10 min"), (10_000, "2.8 h")])
def test_durations_have_the_unit_that_suits_them(secs, expected):
    assert gpu_forecast._duration(secs) == expected


def test_a_compiler_that_fails_is_quoted(tmp_path):
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\necho Traceback >&2; echo 'ImportError: no jax' >&2; exit 1\n")
    path.chmod(0o755)
    with pytest.raises(DataError, match=r"could not compile the step.*ImportError: no jax"):
        gpu_forecast._compile(str(path), "folder", "card", "{}")
    with pytest.raises(UsageError, match="--python=/no/python: No such file"):
        gpu_forecast._compile("/no/python", "folder", "card", "{}")


def test_without_jax_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gpu_forecast.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'jax\[cuda13\]"):
        gpu_forecast.find_python(None)
    assert gpu_forecast.find_python("jax-env/bin/python") == "jax-env/bin/python"


def _run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.gpu_forecast", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_a_card_without_bfloat16_is_not_asked_for_it():
    result = _run("--gpu=t4", "--precision=mixed_bfloat16", "--python=/no/python")
    assert result.returncode == 2
    assert "Tesla T4 has no bfloat16: use mixed_float16" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("gpu", CARDS)
@pytest.mark.parametrize("deterministic", ["false", "true"])
def test_the_studys_step_is_compiled_for_every_card(gpu, deterministic):
    python = os.environ.get("JAX_PYTHON")
    if not python:
        pytest.skip("needs JAX for CUDA: set JAX_PYTHON to a Python that has it")
    result = _run(
        f"--gpu={gpu}", "--flagfile=study_2019", f"--python={python}",
        f"--deterministic={deterministic}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "sorts 0, scatters 0" in result.stdout
    moved, memory = (
        float(next(line for line in result.stdout.splitlines() if line.startswith(word)).split()[1])
        for word in ("moved", "memory")
    )
    assert moved <= 1.7
    assert memory <= 275
