"""Comparisons of runs, against formulas written out and scikit-learn's figures."""

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig
from tests.trained import make_run
from tests.trainer.results.test_metrics import make_predictions, names_of, random_case
from trainer.report import page
from trainer.results import comparison, comparison_tables, metrics
from trainer.results.comparison import Interval


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_the_interval_of_a_share_is_wilsons(hits):
    n, p, z = len(hits), np.mean(hits), stats.norm.ppf(0.975)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = comparison.share_interval(np.array(hits))
    assert found == pytest.approx((middle - reach, middle + reach), abs=1e-9)


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says():
    samples = np.random.default_rng(0).exponential(2.0, (4000, 300)).astype(np.float32)
    found = [comparison.mean_interval(values) for values in samples]
    assert np.mean([low <= 2.0 <= high for low, high in found]) == pytest.approx(0.95, abs=0.02)
    assert comparison.mean_interval(np.ones(1)) == Interval(-math.inf, math.inf)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999), st.integers(1, 60))
def test_mcnemars_test_is_exact(seed, count):
    probabilities, labels = random_case(seed, 5, count)
    first = make_predictions(probabilities, labels)
    second = make_predictions(random_case(seed + 1, 5, count)[0], labels)
    pair = comparison.compare(first, second)
    table = sklearn_metrics.confusion_matrix(first.is_right, second.is_right, labels=[True, False])
    assert (pair.only_first, pair.only_second) == (table[0, 1], table[1, 0])
    n, least = pair.only_first + pair.only_second, min(pair.only_first, pair.only_second)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    assert pair.p_value == pytest.approx(min(1, 2 * tail))
    accuracies = [np.mean(found.is_right) for found in (first, second)]
    assert pair.accuracy_difference == pytest.approx(accuracies[1] - accuracies[0])
    low, high = pair.loss_interval
    assert low <= pair.loss_difference <= high


def test_of_many_drawings_it_is_that_of_chi_squared():
    """The usual approximation, with its correction for continuity."""
    right = np.array([True] * 5000 + [False] * 4700)
    first = make_predictions(np.where(right[:, None], [0.9, 0.1], [0.1, 0.9]), np.zeros(9700, int))
    second = make_predictions(np.where(right[:, None], [0.1, 0.9], [0.9, 0.1]), np.zeros(9700, int))
    statistic = (abs(5000 - 4700) - 1) ** 2 / 9700
    pair = comparison.compare(first, second)
    assert pair.p_value == pytest.approx(stats.chi2.sf(statistic, df=1), rel=0.01)
    assert comparison.compare(first, first).p_value == 1


def test_classes_are_matched_by_name_and_need_drawings_in_all_runs():
    names = names_of(4)
    found = [
        metrics.compute(make_predictions(*random_case(seed, 4, 300, missing=missing)), order)
        for seed, missing, order in ((1, None, names), (2, 0, names[::-1]))
    ]
    changes = comparison.changed_classes(found, 10)
    # In the second run label 0, which has no drawings, is class 3.
    assert {change.name for change in changes} <= set(names[:3])
    differences = [change.difference for change in changes]
    assert differences == sorted(differences, reverse=True)
    for change in changes:
        label = names.index(change.name)
        rows = (found[0].classes[label], found[1].classes[3 - label])
        assert change.recalls == tuple(row.recall for row in rows)
        assert change.supports == tuple(row.support for row in rows)


@pytest.fixture
def runs_on_one_data_set(tmp_path, data_dir) -> dict:
    return {name: make_run(tmp_path / name, data_dir, seed=ord(name)) for name in "ab"}


def test_runs_on_other_drawings_have_intervals_only(runs_on_one_data_set, tmp_path, pool):
    source = SyntheticSource(("cat", "moon"))
    converter.convert(source, tmp_path / "data", ConvertConfig(per_class=20), pool=pool)
    other = make_run(tmp_path / "c", tmp_path / "data")
    compared = comparison.gather({**runs_on_one_data_set, "c": other}, "test")
    by_name = {(a.name, b.name): pair for a, b, pair in compared.pairs}
    assert by_name.keys() == {("a", "b"), ("a", "c"), ("b", "c")}
    assert [name for name, pair in by_name.items() if pair] == [("a", "b")]
    assert {change.name for change in compared.classes} <= {"cat"}
    text = comparison_tables.to_text(compared)
    assert "a -> c: their data sets differ" in text
    for candidate in compared.candidates:
        for name, (low, high) in candidate.intervals.items():
            assert low <= candidate.results.metrics.headline()[name] <= high
            assert f"[{low:.4f}, {high:.4f}]" in text


def test_the_page_shows_the_comparison(runs_on_one_data_set, tmp_path, data_dir, open_page):
    first = runs_on_one_data_set["a"]
    unfinished = make_run(tmp_path / "c", data_dir)
    (unfinished.directory / "history.csv").unlink()
    compared = comparison.gather({"a": first, "<b>$x$": unfinished}, "test")
    path = tmp_path / "compare.html"
    path.write_text(page.render_comparison(compared))
    tab = open_page(path, width=390)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert "a → <b>$x$" in tab.locator("main").inner_text()
    assert tab.locator("figure.plot").count() == 3
    (pair,) = (pair for *_, pair in compared.pairs)
    assert f"{pair.p_value:.2g}" in tab.get_by_role("region", name="Pairs").inner_text()
    table = tab.locator("#class-table")
    table.locator("thead th button").first.click()
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted((change.name for change in compared.classes), key=str.lower)


def test_runs_without_a_finished_epoch_have_no_curves(tmp_path, data_dir):
    found = {name: make_run(tmp_path / name, data_dir) for name in "ab"}
    for run in found.values():
        (run.directory / "history.csv").unlink()
    assert "Curves" not in page.render_comparison(comparison.gather(found, "test"))


def _compare(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "trainer.commands.compare", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_needs_no_data_set_once_runs_are_evaluated(tmp_path, data_dir):
    data = shutil.copytree(data_dir, tmp_path / "data")
    found = {name: make_run(tmp_path / name, data, seed=ord(name)) for name in "ab"}
    expected = comparison_tables.to_text(comparison.gather(found, "validation"))
    shutil.rmtree(data)
    html = tmp_path / "c.html"
    run_dirs = f"--run_dirs={tmp_path}/a,{tmp_path}/b"
    done = _compare(run_dirs, "--split=validation", f"--html={html}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{expected}\n\nwith curves: {html}\n"
    assert html.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("run_dirs", ["{0}", "{0},{0}/../a", "{0}/.."])
def test_one_run_is_no_comparison(run_dirs, tmp_path, data_dir):
    run_dirs = run_dirs.format(make_run(tmp_path / "a", data_dir).directory)
    done = _compare(f"--run_dirs={run_dirs}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --run_dirs={run_dirs}: must name two run directories")


def test_a_run_that_was_stopped_is_named(runs_on_one_data_set):
    compared = comparison.gather(runs_on_one_data_set, "test")
    name = compared.candidates[0].name
    assert (
        f"\n{name}: was stopped early, after 3 of at most 9 epochs.\n"
        in comparison_tables.to_text(compared)
    )
    assert "was stopped early, after 3 of at most 9 epochs." in page.render_comparison(compared)
