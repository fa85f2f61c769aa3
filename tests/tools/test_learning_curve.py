"""The learning curve: what it trains, and what it concludes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import learning_curve
from tools.learning_curve import Curve
from trainer.report.findings import STUDY

SIZES = (250.0, 500.0, 1000.0, 2880.0)


def _power_law(title: str, scale: float, exponent: float) -> Curve:
    return Curve(title, SIZES, tuple(1 - scale * size**exponent for size in SIZES))


def test_a_power_law_is_projected_as_it_goes_on():
    curves = [_power_law("study", 1.0, -0.3), _power_law("better", 0.8, -0.35)]
    found = learning_curve.project(curves, 4644, tests=23_200)
    for each, (scale, exponent) in zip(found, [(1.0, -0.3), (0.8, -0.35)], strict=True):
        middle, low, high = each.top1
        assert middle == pytest.approx(1 - scale * 4644**exponent)
        assert low < middle < high
    assert found[0].study_top1 == pytest.approx([STUDY["top1"]] * 3)  # it is its own measure
    middle, low, high = found[1].study_top1
    here = [top1 / (1 - top1) for top1 in (found[1].top1[0], found[0].top1[0], middle)]
    assert here[2] / (STUDY["top1"] / (1 - STUDY["top1"])) == pytest.approx(here[0] / here[1])
    assert STUDY["top1"] < low < middle < high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng, law = np.random.default_rng(1), _power_law("any", 1.0, -0.3)
    truth, hits = 1 - 4644**-0.3, 0
    for _ in range(200):
        top1 = rng.binomial(5000, law.top1) / 5000
        _, low, high = learning_curve.project([Curve("any", SIZES, tuple(top1))], 4644, tests=5000)[
            0
        ].top1
        hits += low <= truth <= high
    assert 165 <= hits <= 193  # 180, give or take three standard deviations


def test_even_a_faultless_contender_is_projected():
    curve = Curve("perfect", SIZES, (1.0,) * 4)
    (found,) = learning_curve.project([curve], 4644, tests=1000)
    assert 0.99 < found.top1[0] < 1


def test_the_table_and_the_chart(tmp_path: Path):
    curves = [_power_law("study", 1.0, -0.3), _power_law("better", 0.8, -0.35)]
    projections = learning_curve.project(curves, 4644, tests=23_200)
    said = learning_curve.text(curves, projections, 4644)
    assert "2,880" in said
    assert f"{curves[1].top1[-1]:.4f}" in said
    assert f"{projections[1].study_top1[0]:.3f} (" in said
    learning_curve.chart(curves, 4644, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert len(set(image.convert("L").getdata())) > 10


@pytest.mark.parametrize(
    ("per_class", "said"),
    [("144,20", "--per_class=144: must be less than the 144"), ("20,ten", "--per_class=20,ten")],
)
def test_sizes_that_cannot_be_are_refused(data_dir: Path, per_class: str, said: str):
    done = subprocess.run(
        [sys.executable, "-m", "tools.learning_curve", f"--data_dir={data_dir}",
         f"--per_class={per_class}"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
