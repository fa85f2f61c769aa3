"""The step as XLA gets it: nothing in it that a GPU is slow at."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.processes import ChildProcess
from tests.trainer.training.test_steps import make_config
from tools import gpu_program
from trainer import models
from trainer.config import AUGMENTATIONS

_OPERATION = re.compile(r"(?:stablehlo|chlo|mhlo)\.(\w+)")
_SLOW = {"sort", "scatter", "select_and_scatter", "top_k", "topk", "custom_call"}


def operations(
    model: str, policy: str, *, augment: tuple[str, ...] = (), batch_size: int = 8
) -> set[str]:
    config = make_config(model=model, augment=augment, label_smoothing=0.1)
    train_steps = gpu_program.make_steps(config, policy)
    program = gpu_program.export(train_steps, batch_size=batch_size)
    return set(_OPERATION.findall(program.text))


@pytest.mark.parametrize("augment", [(), AUGMENTATIONS], ids=["plain", "augmented"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("model", models.names())
def test_a_step_neither_sorts_nor_scatters(model, policy, augment):
    found = operations(model, policy, augment=augment)
    assert "convolution" in found
    assert not found & _SLOW


def check_deterministic() -> None:
    tf.config.experimental.enable_op_determinism()
    for model in models.names():
        assert not operations(model, "mixed_bfloat16", augment=AUGMENTATIONS) & _SLOW


@pytest.mark.slow
def test_a_deterministic_step_neither_sorts_nor_scatters(tmp_path):
    process = ChildProcess(check_deterministic, output=tmp_path / "process")
    assert process.wait() == 0, process.stderr


def test_what_is_slow_would_be_found():
    """Pooling by TensorFlow's op, and `top_k`."""

    @tf.function(jit_compile=True)
    def step(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(tf.nn.max_pool2d(images, 2, 2, "VALID"))
        return tape.gradient(total, images), tf.math.top_k(images).values

    text = step.experimental_get_compiler_ir(tf.ones([2, 4, 4, 1]))(stage="stablehlo")
    assert len(_SLOW & set(_OPERATION.findall(text))) >= 2


def test_arguments_and_results_are_the_variables(tmp_path: Path):
    config = make_config(model="compact_cnn")
    train_steps = gpu_program.make_steps(config, "float32", classes=7)
    program = gpu_program.export(train_steps, batch_size=4)
    assert program.arguments[:2] == (((4, 28, 28, 1), "uint8"), ((4,), "int32"))
    variables = {tuple(value.shape) for value in program.values}
    assert ((96, 7)) in variables
    assert len(program.arguments) == 2 + len(program.values)
    # Each result is the new value of an argument, and no argument has two.
    assert len(set(program.outputs)) == len(program.outputs)
    main = program.text[program.text.index("@main(") :].partition("{\n")[0]
    assert main.partition("->")[2].count("tensor<") == len(program.outputs)
    program.write(tmp_path)
    assert (tmp_path / "step.mlir").read_text() == program.text


def test_values_are_those_of_now():
    config = make_config(model="compact_cnn")
    train_steps = gpu_program.make_steps(config, "float32", classes=7)
    train_steps.step.assign(41)
    values = gpu_program.export(train_steps, batch_size=4).values
    assert any(value.dtype == tf.int64 and np.all(value == 41) for value in values)
