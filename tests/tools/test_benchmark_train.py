"""The training benchmark: both sides do the same work, and the figures are what they say."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from quickdraw_tfrecords.base.errors import UsageError
from tools import benchmark_train
from tools.benchmark_train import BARS, Case, choose_cases
from tools.train_contenders import CustomLoop, KerasFit, Trial, training_flops
from trainer import models


def test_both_sides_train_to_the_same_weights(data_dir):
    loop, fit = CustomLoop(data_dir, "tiny", 16, "float32"), KerasFit(data_dir, "tiny", 16)
    initial = loop.model.get_weights()
    for steps in (1, 7):
        for side in (loop, fit):
            trial = side.run(steps)
            assert trial.secs > trial.input_secs >= 0
        for ours, theirs in zip(loop.model.get_weights(), fit.model.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    assert not np.allclose(loop.model.get_weights()[0], initial[0], atol=1e-3)


def test_training_flops_are_those_that_tensorflow_counts():
    # A side that the strides divide: TensorFlow rounds down in its count of gradients.
    model = models.get("compact_cnn")(side=32, num_classes=7, dropout=None)

    @tf.function(input_signature=[tf.TensorSpec([1, 32, 32, 1])])
    def gradients(images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
        return tape.gradient(logits, [variable.value for variable in model.trainable_variables])

    graph = gradients.get_concrete_function().graph
    types = {"MatMul", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"}
    needed = [
        op
        for op in graph.get_operations()
        # The gradient of the images is in the graph, but nothing takes it, so it does not run.
        if op.type in types and (op.type != "Conv2DBackpropInput" or op.outputs[0].consumers())
    ]
    counts = [ops.get_stats_for_node_def(graph, op.node_def, "flops").value for op in needed]
    assert training_flops(model) == sum(counts)


@pytest.mark.slow
def test_a_run_gives_all_figures(data_dir):
    case = Case("tiny", "float32", batch_size=16, steps=3)
    (result,) = benchmark_train.benchmark(data_dir, [case], rounds=2)
    assert json.loads(json.dumps(result)) == result
    assert len(result["ratios"]) == 2
    assert min(result["ratios"]) > 0
    assert result["loop_compile_secs"] > 0
    assert result["fit_compile_secs"] > 0
    assert 0 <= result["input_share"] < 1
    assert 0 < result["matmul_share"] < 1
    assert result["bar"] is None
    assert "tiny, float32, batch 16" in benchmark_train.text([result])


def _turns(loop_secs: list[float], fit_secs: list[float]) -> list[dict]:
    return [
        {"loop": Trial(loop, loop / 10), "fit": Trial(fit), "matmul": 2e6}
        for loop, fit in zip(loop_secs, fit_secs, strict=True)
    ]


def test_figures_are_medians_and_ratios_are_within_rounds():
    case = Case("study_cnn", "float32", batch_size=1024, steps=4)
    turns = _turns([1, 10, 4], [2, 11, 8])
    first_secs = {"loop": 3.0, "fit": 5.0}
    result = benchmark_train.summarize(case, "float32", first_secs, turns, flops=1000)
    assert result["ratios"] == [2, 1.1, 2]
    assert result["ratio"] == 2
    assert result["loop_examples_per_sec"] == 1024
    assert result["fit_examples_per_sec"] == 512
    assert result["loop_compile_secs"] == 3 - 4 / 4
    assert result["fit_compile_secs"] == 5 - 8 / 4
    assert result["input_share"] == pytest.approx(0.1)
    assert result["matmul_share"] == pytest.approx(1024 * 1000 / 2e6)


@pytest.mark.parametrize(
    ("precision", "policy", "fit_secs", "verdict"),
    [
        ("float32", "float32", 1.06, "at least 1.05: met"),
        ("float32", "float32", 1.04, "at least 1.05: missed"),
        ("auto", "mixed_bfloat16", 1.6, "at least 1.5: met"),
        ("auto", "float32", 1.1, None),
    ],
)
def test_bars_hold_where_they_are_promised(precision, policy, fit_secs, verdict):
    case = Case("study_cnn", precision, batch_size=1024, steps=8)
    first_secs = {"loop": 3.0, "fit": 3.0}
    result = benchmark_train.summarize(case, policy, first_secs, _turns([1], [fit_secs]), 1)
    table = benchmark_train.text([result])
    assert (verdict in table) if verdict else ("at least" not in table)


def test_cases_are_those_with_bars_or_of_one_model():
    assert choose_cases(None) == list(BARS)
    assert choose_cases("tiny") == [case for case in BARS if case.model == "tiny"]
    other = choose_cases("compact_cnn", batch_size=256, steps=9)
    assert other == [
        Case("compact_cnn", precision, batch_size=256, steps=9) for precision in ("float32", "auto")
    ]
    assert BARS.keys().isdisjoint(other)
    with pytest.raises(UsageError, match="--model=nope: must be one of"):
        choose_cases("nope")


def test_a_batch_that_the_data_set_cannot_fill_is_refused(data_dir):
    case = Case("tiny", "float32", batch_size=721, steps=1)
    with pytest.raises(UsageError, match="--batch_size=721 is more than the 720 drawings"):
        benchmark_train.benchmark(data_dir, [case], rounds=1)


def test_flags_of_the_trainer_that_it_does_not_vary_are_refused(data_dir):
    command = [sys.executable, "-m", "tools.benchmark_train", f"--data_dir={data_dir}"]
    run = subprocess.run([*command, "--optimizer=sgd"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("error: --optimizer: ")
