"""Loss scaling, and which precision is chosen."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.training import precision
from trainer.training.precision import LossScale


class KerasScale:
    """The scale of Keras' LossScaleOptimizer, step by step."""

    def __init__(self, growth_steps: int) -> None:
        self._variable = keras.Variable(0.0)
        self._optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(), dynamic_growth_steps=growth_steps
        )
        self._optimizer.build([self._variable])

    def update(self, finite: bool) -> None:
        self._optimizer.apply([tf.constant(1.0 if finite else np.inf)], [self._variable])

    @property
    def scale(self) -> float:
        return float(self._optimizer.dynamic_scale)


@settings(max_examples=15, deadline=None)
@given(growth_steps=st.integers(1, 4), finite=st.lists(st.booleans(), max_size=14))
def test_the_scales_are_those_of_keras(growth_steps, finite):
    ours, theirs = LossScale("mixed_float16", growth_steps), KerasScale(growth_steps)
    assert float(ours.scale) == theirs.scale
    for value in finite:
        ours.update(tf.constant(value))
        theirs.update(value)
        assert float(ours.scale) == theirs.scale


def test_the_scale_does_not_go_below_1():
    scale = LossScale("mixed_float16")
    for _ in range(20):
        scale.update(tf.constant(False))
    assert float(scale.scale) == 1


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_only_float16_is_scaled(policy):
    scale = LossScale(policy)
    scale.update(tf.constant(False))
    assert not scale.is_dynamic
    assert float(scale.scale) == 1


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (7, 5)], "mixed_float16"),
        ([(7, 0)], "mixed_float16"),
        ([(6, 1)], "float32"),
    ],
)
def test_the_weakest_gpu_decides(monkeypatch, capabilities, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: capabilities)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu}
    )
    assert precision.choose("auto", agree=float)[0] == expected


@pytest.mark.parametrize(
    ("cpu_flags", "speedup", "expected"),
    [
        ({"avx2", "avx512_bf16"}, 1.9, "mixed_bfloat16"),
        ({"avx512_bf16", "amx_bf16"}, 7, "mixed_bfloat16"),
        ({"avx2", "avx512_bf16"}, 0.6, "float32"),
        ({"avx2"}, 7, "float32"),
        (set(), 7, "float32"),
    ],
)
def test_a_cpu_needs_bfloat16_instructions_and_to_gain_by_them(
    monkeypatch, cpu_flags, speedup, expected
):
    def matmul_rate(policy: str, **_: float) -> float:
        return {"mixed_bfloat16": speedup, "float32": 1.0}[policy] * 1e11

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(precision, "_cpu_flags", lambda: cpu_flags)
    monkeypatch.setattr(precision, "matmul_rate", matmul_rate)
    policy, reason = precision.choose("auto", agree=float)
    assert policy == expected
    assert "no GPU" in reason
    if "avx512_bf16" in cpu_flags:
        assert f"multiplied at {speedup:.1f} times the rate of float32" in reason


@pytest.mark.parametrize("cpu_flags", [{"amx_bf16"}, set()])
@pytest.mark.parametrize(("agreed", "expected"), [(1.3, "mixed_bfloat16"), (1.2, "float32")])
def test_workers_choose_alike(monkeypatch, cpu_flags, agreed, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(precision, "_cpu_flags", lambda: cpu_flags)
    assert precision.choose("auto", agree=lambda _: agreed)[0] == expected


@pytest.mark.parametrize(
    ("cpu_flags", "expected"), [({"avx512_bf16"}, "mixed_bfloat16"), ({"avx2"}, "float32")]
)
@pytest.mark.parametrize("speedup", [0.5, 2.0])
def test_what_else_a_cpu_does_decides_nothing_of_a_deterministic_run(
    monkeypatch, cpu_flags, expected, speedup
):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(precision, "_cpu_flags", lambda: cpu_flags)
    monkeypatch.setattr(precision, "_bfloat16_speedup", lambda: speedup)
    policy, reason = precision.choose("auto", agree=float, deterministic=True)
    assert policy == expected
    assert "times the rate" not in reason


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_rate_of_products_is_measured_in_the_precision_of_the_policy(monkeypatch, policy):
    dtypes, matmul = set(), tf.matmul

    def spy(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        dtypes.update((left.dtype, right.dtype))
        return matmul(left, right)

    monkeypatch.setattr(tf, "matmul", spy)
    assert 1e5 < precision.matmul_rate(policy, side=64, secs=0.01) < 1e14
    assert dtypes == {tf.as_dtype(policy.removeprefix("mixed_"))}


def test_what_is_asked_for_is_used():
    assert precision.choose("mixed_float16", agree=float)[0] == "mixed_float16"
