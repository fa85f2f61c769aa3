import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.reading import chunks
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig
from tools import benchmark_input, benchmark_report, input_trial, shuffle_quality
from tools.input_peers import BATCH_SIZE, CONTENDERS, Contender, Split
from tools.input_trial import InputTrial

QUICK = benchmark_input.InputBenchmark(
    contenders=("numpy",), rounds=1, secs=0.01, cold=False, windows_mib=(1,)
)
PEERS = [name for name in CONTENDERS if CONTENDERS[name].requires]


@pytest.fixture(scope="module")
def directory(tmp_path_factory, source, pool) -> Path:
    """2,160 training drawings in 6 shards: two batches and a bit."""
    path = tmp_path_factory.mktemp("bench")
    return converter.convert(source, path, ConvertConfig(per_class=600, shards=6), pool=pool)


@pytest.fixture(scope="module")
def info(directory) -> DatasetInfo:
    return qt.open_dataset(directory)


@pytest.fixture(scope="module")
def split(info, tmp_path_factory) -> Split:
    copies = tmp_path_factory.mktemp("bench") / "copies"
    return Split.create(info, copies, window_mib=0.5)


@pytest.fixture(scope="module")
def labels(split) -> np.ndarray:
    return np.array(split.arrays()[1])


@pytest.fixture(scope="module")
def stand_in(info, labels, tmp_path_factory) -> Split:
    path = tmp_path_factory.mktemp("bench")
    found = shuffle_quality.write_stand_in(info, labels, path / "stand_in")
    return Split.create(found, path / "copies", window_mib=0.05)


def in_order(split: Split):
    """A contender that does not shuffle; module-level, so that it can be pickled."""
    images, labels = split.arrays()
    while True:
        for start in range(0, len(labels), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            yield images[rows], labels[rows]


def fail(split: Split) -> None:
    raise RuntimeError("out of\norder")


def test_the_stand_in_is_the_data_set_with_positions_for_pixels(stand_in, info, labels):
    tfds = pytest.importorskip("tensorflow_datasets")
    dataset = tfds.builder_from_directory(stand_in.directory).as_dataset(
        split="train", read_config=tfds.ReadConfig(interleave_cycle_length=1)
    )
    rows = list(dataset.as_numpy_iterator())
    positions = np.concatenate([row["image"].reshape(4) for row in rows]).view("<u4")
    np.testing.assert_array_equal(positions, np.arange(len(labels)))
    np.testing.assert_array_equal([row["label"] for row in rows], labels)
    records = [shard.records for shard in info.manifest.splits["train"]]
    found = qt.open_dataset(stand_in.directory).manifest
    assert [shard.records for shard in found.splits["train"]] == records


LOOPS = ("resident_loop", "streaming_loop")


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name not in (*PEERS, *LOOPS)])
def test_contenders_deliver_the_drawings_of_the_split(name, split):
    assert_delivers(name, split)


@pytest.mark.parametrize("name", LOOPS)
def test_a_compiled_loop_takes_every_drawing(name, split):
    images, taken = map(np.array, next(CONTENDERS[name].open(split)))
    assert images.dtype == np.uint8
    assert images.shape[1:] == (split.side, split.side, 1)
    epochs = len(taken) // split.examples
    assert epochs >= 2
    found = np.bincount(taken[: epochs * split.examples])
    np.testing.assert_array_equal(found, epochs * np.bincount(split.arrays()[1]))


@pytest.mark.parametrize("name", PEERS)
def test_peers_deliver_the_drawings_of_the_split(name, split):
    contender = CONTENDERS[name]
    if contender.missing:
        pytest.skip(f"not installed: {', '.join(contender.missing)}")
    if contender.prepare:
        input_trial.in_fresh_process(contender.prepare, split)
    input_trial.in_fresh_process(assert_delivers, name, split)


def assert_delivers(name: str, split: Split) -> None:
    """Two epochs' worth of drawings: each twice, with its label, in batches of uint8."""
    batches, images, labels, count = CONTENDERS[name].open(split), [], [], 0
    while count < 2 * split.examples:
        batch = [np.array(values) for values in next(batches)]  # its memory may be used again
        assert batch[0].dtype == np.uint8
        assert len(batch[0]) == len(batch[1]) <= BATCH_SIZE
        images.append(batch[0].reshape(len(batch[0]), -1))
        labels.append(batch[1])
        count += len(batch[1])
    found = np.column_stack([np.concatenate(labels), np.concatenate(images)])
    expected = np.column_stack([*split.arrays()[::-1]])
    epochs = found[: 2 * split.examples]
    assert sorted(map(bytes, epochs.astype(np.uint16))) == sorted(
        2 * list(map(bytes, expected.astype(np.uint16)))
    )
    first = found[: split.examples]
    assert np.array_equal(first, expected) != CONTENDERS[name].shuffles


def test_class_balance_is_the_chi_square_of_scipy():
    labels = np.random.default_rng(0).integers(7, size=3 * BATCH_SIZE + 5)
    expected = np.bincount(labels) / len(labels) * BATCH_SIZE
    without_replacement = (len(labels) - BATCH_SIZE) / (len(labels) - 1)
    wanted = [
        stats.chisquare(np.bincount(labels[i * BATCH_SIZE :][:BATCH_SIZE]), expected).statistic
        for i in range(3)
    ]
    found = shuffle_quality.class_balance(labels)
    np.testing.assert_allclose(found, np.array(wanted) / 6 / without_replacement)


def test_class_balance_of_permutations_is_1_on_average():
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 500)
    found = np.concatenate(
        [shuffle_quality.class_balance(generator.permutation(labels)) for _ in range(200)]
    )
    assert abs(found.mean() - 1) < 4 * found.std() / np.sqrt(len(found))


@pytest.mark.parametrize("name", ["numpy", "resident", "streaming"])
def test_a_permutation_looks_like_one(name, stand_in, labels):
    everything = dataclasses.replace(stand_in, window_mib=1)
    quality = shuffle_quality.examine(name, everything, labels)
    assert quality.complete == 1
    assert quality.epochs == 5
    assert 0.5 < quality.balance < 1.5
    assert quality.correlation < 4 / np.sqrt(len(labels))


def test_no_shuffle_looks_like_none(stand_in, labels, monkeypatch):
    monkeypatch.setitem(CONTENDERS, "in_order", Contender("in order", in_order))
    quality = shuffle_quality.examine("in_order", stand_in, labels)
    assert quality.correlation == pytest.approx(1)
    assert quality.complete == 1


def test_drawings_that_never_come_are_noticed(stand_in, labels, monkeypatch):
    monkeypatch.setitem(
        CONTENDERS, "half", Contender("half", lambda s: itertools.repeat(next(in_order(s))))
    )
    quality = shuffle_quality.examine("half", stand_in, labels)
    assert quality.complete == pytest.approx(BATCH_SIZE / len(labels))


def test_a_window_of_the_stand_in_has_as_many_drawings(info, tmp_path, monkeypatch):
    seen = {}

    def examine(name: str, split: Split, labels: np.ndarray) -> None:
        seen[split.window_mib] = chunks.ChunkShape.of(
            split.side, BATCH_SIZE, mib=split.window_mib
        ).rows

    monkeypatch.setattr(input_trial, "in_fresh_process", lambda function, *args: function(*args))
    monkeypatch.setattr(shuffle_quality, "examine", examine)
    settings = dataclasses.replace(QUICK, contenders=("streaming",), windows_mib=(24, 6.5, 96))
    benchmark_input._Comparison(info, tmp_path, settings).examine_all()
    expected = [chunks.ChunkShape.of(28, BATCH_SIZE, mib=mib).rows for mib in (24, 6.5, 96)]
    assert list(seen.values()) == expected


def test_cold_stops_where_the_epoch_ends(split, monkeypatch):
    taken = []

    def counted(split: Split):
        for batch in in_order(split):
            taken.append(len(batch[1]))
            yield batch

    monkeypatch.setitem(CONTENDERS, "counted", Contender("counted", counted))
    trial = input_trial.measure("counted", split, 60.0, True, started=0.0)
    assert sum(taken) == split.examples
    assert trial.examples_per_sec > 0
    assert trial.peak_bytes > 2**20


def test_a_contender_that_delivers_something_else_is_refused(split, monkeypatch):
    monkeypatch.setitem(
        CONTENDERS, "floats", Contender("floats", lambda s: ((x / 1, y) for x, y in in_order(s)))
    )
    with pytest.raises(RuntimeError, match="floats: gave images float64"):
        input_trial.measure("floats", split, 0.01, False, started=0.0)


def test_what_a_contender_prints_stays_out_of_standard_output(capfd):
    input_trial.in_fresh_process(print, "chatter")
    out, err = capfd.readouterr()
    assert out == ""
    assert "chatter" in err


def test_ratios_are_taken_within_a_round():
    limits = [InputTrial(rate, 0, 0, 0) for rate in (10, 100, 1000)]
    trials = [InputTrial(rate, 1, 2, 3) for rate in (5, 20, 800)]
    found = benchmark_input._summary(trials, limits)
    assert found["ratio"] == 0.5  # of 0.5, 0.2 and 0.8
    assert found["examples_per_sec"] == 20


@pytest.mark.slow
def test_a_comparison_end_to_end(directory, tmp_path, monkeypatch):
    missing = Contender("Missing", fail, requires=("no_such_package",))
    broken = Contender("Broken", in_order, prepare=fail, requires=("json",))
    monkeypatch.setitem(CONTENDERS, "missing", missing)
    monkeypatch.setitem(CONTENDERS, "broken", broken)
    names = ("numpy", "streaming", "missing", "broken")
    settings = dataclasses.replace(QUICK, contenders=names)
    result = benchmark_input.compare(directory.parents[1], settings)
    assert json.loads(json.dumps(result)) == result
    assert [row["name"] for row in result["throughput"]] == ["numpy", "streaming"]
    assert result["throughput"][0]["ratio"] == 1
    assert [row["complete"] for row in result["shuffle_quality"]] == [1, 1]
    assert result["absent"] == {
        "missing": "not installed: no_such_package",
        "broken": "RuntimeError: out of",
    }
    assert [(bar["of"], bar["to"]) for bar in result["bars"]] == [("streaming", "numpy")]
    text = benchmark_report.text(result)
    assert "2,160 drawings" in text
    assert "quickdraw-tfrecords, streaming, 1 MiB" in text
    assert "not installed: no_such_package" in text
    benchmark_report.chart(result, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as chart:
        assert chart.format == "PNG"


@pytest.mark.slow
def test_what_is_promised_of_the_page_cache_is_not_asked_of_a_disk(directory):
    settings = dataclasses.replace(QUICK, contenders=("numpy", "files", "streaming"), cold=True)
    result = benchmark_input.compare(directory, settings)
    assert [(bar["of"], bar["to"]) for bar in result["bars"]] == [("streaming", "files")]
    assert "cold page cache" in benchmark_report.text(result)


def test_our_own_failure_is_not_passed_over(directory, monkeypatch):
    monkeypatch.setitem(CONTENDERS, "ours", Contender("Ours", in_order, prepare=fail))
    with pytest.raises(DataError, match="Ours: out of"):
        benchmark_input.compare(directory, dataclasses.replace(QUICK, contenders=("ours",)))


def test_the_default_window_is_timed():
    assert benchmark_input.WINDOWS_MIB[0] == chunks.WINDOW_MIB


def test_a_data_set_smaller_than_a_batch_is_refused(data_dir):
    with pytest.raises(UsageError, match="720 training drawings are too few"):
        benchmark_input.compare(data_dir, QUICK)


@pytest.mark.parametrize(
    ("flag", "code", "line"),
    [
        ("--contenders=tfds,dali", 2, "--contenders=dali: must be of numpy, "),
        ("--windows_mib=large", 2, "--windows_mib=large: must be numbers above 0"),
        ("--json", 1, "no_such_directory"),
    ],
)
def test_mistakes_are_one_line(flag, code, line):
    command = [sys.executable, "-m", "tools.benchmark_input", "--data_dir=no_such_directory", flag]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert line in ended.stderr
    assert ended.stderr.count("\n") == 1
