"""What a run leaves for people, read back as TensorBoard reads it."""

import csv
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from tests.trainer.training.test_steps import make_config
from trainer import models
from trainer.run_directory import event_files, runs
from trainer.run_directory.run_log import COLUMNS, RunLog
from trainer.run_directory.runs import TrainedRun

CHARTS = ("learning_rate", "gradient_norm", "loss_scale", "examples_per_second")
STEPS = 10  # of an epoch


def _row(epoch: int) -> dict[str, float]:
    return {**dict.fromkeys((*COLUMNS, "input_wait_share"), epoch / 8), "epoch": epoch}


def _make_run(run_dir: Path, **values: object) -> TrainedRun:
    return TrainedRun(
        directory=run_dir,
        config=make_config(run_dir=run_dir, model="compact_cnn", **values),
        precision="float32",
        devices="1 x CPU",
        class_names=("cat", "tree"),
        side=28,
        data_dir=Path("data"),
        fingerprint="0",
        num_examples={"train": 8},
        versions={},
        out_dir=run_dir,
    )


def _log_epochs(run_dir: Path, epochs: list[int], history: list[dict] = (), **values) -> None:
    """A process that begins after `history`, and logs epochs with a point at the end of each."""
    facts = {"improved": True, "weights": {}, **values}
    with RunLog(run_dir, enabled=True) as log:
        log.begin(
            _make_run(run_dir, seed=77),
            list(history),
            step=STEPS * len(history),
            epochs_end=STEPS * len(history),
        )
        for epoch in epochs:
            point = dict.fromkeys(("loss", "top1", "top3", *CHARTS), epoch / 8)
            log.add_point(STEPS * epoch, point)
            log.epoch(_row(epoch), step=STEPS * epoch, **facts)


def _events(run_dir: Path) -> EventAccumulator:
    path = run_dir / "tensorboard"
    sizes = {TENSORS: 0}
    accumulator = EventAccumulator(str(path), size_guidance=sizes, purge_orphaned_data=False)
    return accumulator.Reload()


def _points(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    # Files of one second are read by a counter in their names, in which 10 stands before 9.
    return sorted(
        (point.step, float(tf.make_ndarray(point.tensor_proto)))
        for point in _events(run_dir).Tensors(tag)
    )


def test_history_has_a_row_an_epoch(tmp_path):
    _log_epochs(tmp_path, [1, 2])
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [[float(value) for value in row] for row in rows[1:]] == [
        [_row(epoch)[name] for name in COLUMNS] for epoch in (1, 2)
    ]


def test_every_curve_is_of_one_entry(tmp_path):
    _log_epochs(tmp_path, [1, 2])
    assert [path.is_file() for path in (tmp_path / "tensorboard").iterdir()] == [True]
    for split in ("train", "validation"):
        for metric in ("loss", "top1", "top3"):
            assert _points(tmp_path, f"{metric}/{split}") == [(10, 0.125), (20, 0.25)]


def test_a_run_that_ends_in_its_first_epoch_has_a_curve(tmp_path):
    with RunLog(tmp_path, enabled=True) as log:
        log.begin(_make_run(tmp_path), [], step=0, epochs_end=0)
        log.add_point(3, {"loss": 0.5, "top1": 0.25, "top3": 0.25, "learning_rate": 0.125})
    assert _points(tmp_path, "loss/train") == [(3, 0.5)]
    assert _points(tmp_path, "optimizer/learning_rate") == [(3, 0.125)]


def test_the_graph_of_the_model_is_shown(tmp_path):
    model = models.get("compact_cnn")(side=28, num_classes=5, dropout=None)
    with RunLog(tmp_path, enabled=True) as log:
        log.begin(_make_run(tmp_path), [], step=0, epochs_end=0, model=model)
    ops = {node.name for node in _events(tmp_path).Graph().node}
    for layer in model.layers:
        if layer.name != "dropout":  # does nothing here
            assert any(layer.name in name for name in ops), layer.name


def test_train_and_validation_share_a_chart_among_the_custom_scalars(tmp_path):
    _log_epochs(tmp_path, [1])
    (layout,) = _events(tmp_path).Tensors(custom_scalars.CONFIG_SUMMARY_TAG)
    parsed = layout_pb2.Layout.FromString(tf.make_ndarray(layout.tensor_proto).item())
    charts = {chart.title: list(chart.multiline.tag) for chart in parsed.category[0].chart}
    assert charts.keys() == {"loss", "top1", "top3"}
    known = set(_events(tmp_path).Tags()["tensors"])
    for title, tags in charts.items():
        assert {f"{title}/train", f"{title}/validation"} == set(tags) <= known


def test_what_else_is_measured_is_drawn(tmp_path):
    _log_epochs(tmp_path, [1])
    for tag in (
        "optimizer/learning_rate",
        "optimizer/gradient_norm",
        "optimizer/loss_scale",
        "speed/examples_per_second",
        "speed/input_wait_share",
    ):
        assert _points(tmp_path, tag) == [(10, 0.125)]


def test_what_was_not_measured_is_left_out(tmp_path, capsys):
    row = _row(1)
    del row["input_wait_share"]
    with RunLog(tmp_path, enabled=True) as log:
        log.begin(_make_run(tmp_path), [], step=0, epochs_end=0)
        log.epoch(row, step=1, improved=True, weights={})
    assert "speed/input_wait_share" not in _events(tmp_path).Tags()["tensors"]
    assert "input wait" not in capsys.readouterr().out


def test_histograms_of_weights(tmp_path):
    _log_epochs(tmp_path, [1], weights={"conv1/kernel": np.arange(10, dtype=np.float32)})
    (point,) = _events(tmp_path).Tensors("weights/conv1/kernel")
    buckets = tf.make_ndarray(point.tensor_proto)
    assert buckets[:, 2].sum() == 10
    assert (buckets[0, 0], buckets[-1, 1]) == (0, 9)


def test_flags_are_shown_as_a_flagfile(tmp_path):
    for _ in range(2):  # a second process shows its flags in place of the first's
        _log_epochs(tmp_path, [1])
    (text,) = _events(tmp_path).Tensors("flags")
    markdown = tf.make_ndarray(text.tensor_proto).item().decode()
    lines = [line.removeprefix("    ") for line in markdown.splitlines()]  # a code block
    assert lines == (tmp_path / "flags.txt").read_text().splitlines()
    assert any(line.startswith("--optimizer=") for line in lines)


def test_the_run_can_be_opened_again(tmp_path):
    _log_epochs(tmp_path, [1])
    run = runs.open_run(tmp_path)
    assert run == _make_run(tmp_path, seed=77)
    assert run.config.to_flagfile() == (tmp_path / "flags.txt").read_text()
    assert len(run.history()) == 1


def _table_of_runs(directory: Path) -> dict[str, tuple[dict, dict]]:
    """Hyperparameters and metrics of runs, as the tab HParams of TensorBoard finds them."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(directory)).Reload()
    provider = MultiplexerDataProvider(runs, str(directory))
    table = list_session_groups.Handler(
        RequestContext(),
        backend_context.Context(TBContext(data_provider=provider)),
        "",
        api_pb2.ListSessionGroupsRequest(
            allowed_statuses=[api_pb2.STATUS_UNKNOWN], slice_size=9, include_metrics=True
        ),
    ).run()
    return {
        group.name: (
            {name: value.WhichOneof("kind") for name, value in group.hparams.items()},
            {(v.name.group, v.name.tag): v.value for v in group.metric_values},
        )
        for group in table.session_groups
    }


def test_runs_are_compared(tmp_path):
    for name, epochs in (("one", [1]), ("two", [1, 2])):
        _log_epochs(tmp_path / name, epochs)
    table = _table_of_runs(tmp_path)
    assert table.keys() == {f"one in {tmp_path}", f"two in {tmp_path}"}
    for name, last in (("one", 0.125), ("two", 0.25)):
        hyperparameters, metrics = table[f"{name} in {tmp_path}"]
        assert hyperparameters["learning_rate"] == "number_value"
        assert hyperparameters["augment"] == "string_value"
        for split in ("train", "validation"):
            assert metrics["", f"top1/{split}"] == last


@pytest.mark.parametrize("done", [0, 1, 3])
def test_epochs_that_are_trained_again_are_drawn_once(tmp_path, done):
    """A process that logged 3 epochs was killed; the next resumes after `done` of them."""
    _log_epochs(tmp_path, [1, 2, 3])
    _log_epochs(tmp_path, [*range(done + 1, 5)], [_row(epoch) for epoch in range(1, done + 1)])
    for split in ("train", "validation"):
        assert _points(tmp_path, f"loss/{split}") == [
            (STEPS * epoch, epoch / 8) for epoch in range(1, 5)
        ]
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows[1:]] == ["1", "2", "3", "4"]


def test_an_event_cut_short_by_a_kill_is_dropped(tmp_path):
    _log_epochs(tmp_path, [1, 2])
    for path in (tmp_path / "tensorboard").rglob("*.v2"):
        path.write_bytes(path.read_bytes()[:-3])
    _log_epochs(tmp_path, [2, 3], [_row(1)])
    assert _points(tmp_path, "top3/validation") == [(10, 0.125), (20, 0.25), (30, 0.375)]


def test_a_second_test_replaces_the_first(tmp_path):
    for loss in (0.5, 0.75):
        with RunLog(tmp_path, enabled=True) as log:
            log.end({"loss": loss, "top1": 0.5, "top3": 0.5}, step=20, weights="the best")
    assert _points(tmp_path, "loss/test") == [(20, 0.75)]


def test_an_epoch_is_one_plain_line_where_there_is_no_terminal(tmp_path, capsys):
    _log_epochs(tmp_path, [1])
    with RunLog(tmp_path, enabled=True).bar("epoch 2", initial=0, total=5) as bar:
        bar.update(5)
    captured = capsys.readouterr()
    assert captured.out.startswith("epoch   1  loss 0.1250")
    assert captured.out.count("\n") == 1
    assert captured.out.rstrip().endswith("best")
    assert captured.err == ""


def test_other_workers_than_the_chief_leave_nothing(tmp_path, capsys):
    with RunLog(tmp_path / "run", enabled=False) as log:
        log.begin(_make_run(tmp_path / "run"), [], step=0, epochs_end=0)
        log.add_point(5, {"loss": 1, "top1": 1, "top3": 1})
        log.epoch(_row(1), step=10, improved=True, weights={})
        log.end({"loss": 1, "top1": 1, "top3": 1}, step=10, weights="the best")
        log.say("something")
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out == ""


def test_pictures_of_a_report_replace_older_ones_and_no_curve(tmp_path):
    _log_epochs(tmp_path, [1])
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (2, 2)).save(buffer, format="PNG")
    for _ in range(2):
        event_files.write_pictures(
            tmp_path / "tensorboard", {"guesses": buffer.getvalue()}, step=10
        )
    assert len(_events(tmp_path).Tensors("report/guesses")) == 1
    assert _points(tmp_path, "loss/train") == [(10, 0.125)]


def test_an_epoch_that_was_trained_but_not_validated_keeps_its_points(tmp_path):
    """A process was killed as it saved epoch 2; the next resumes before its validation."""
    _log_epochs(tmp_path, [1, 2])
    with RunLog(tmp_path, enabled=True) as log:
        log.begin(_make_run(tmp_path), [_row(1)], step=20, epochs_end=10)
    assert [step for step, _ in _points(tmp_path, "loss/train")] == [10, 20]
    assert [step for step, _ in _points(tmp_path, "loss/validation")] == [10]
