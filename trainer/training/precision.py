"""Mixed precision: which arithmetic to use, and dynamic loss scaling."""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

# How many times as fast as in float32 a CPU has to multiply for bfloat16 to be worth its casts.
_WORTHWHILE = 1.25
_GROWTH_STEPS = 2000
_INITIAL_SCALE = 2.0**15


def choose(
    requested: str,
    agree: Callable[[float], float],
    *,
    resumed: str | None = None,
    deterministic: bool = False,
) -> tuple[str, str]:
    """The Keras dtype policy to use, and why.

    float16 needs a GPU of compute capability 7.0 (Volta), bfloat16 one of 8.0 (Ampere), or
    a CPU with AVX512-BF16 or AMX instructions that gains by them. Not all do: some multiply
    faster in float32, so this is tried.
    https://docs.nvidia.com/deeplearning/performance/mixed-precision-training

    Args:
      requested: The value of --precision.
      agree: Gives all workers the same value, made of those they call it with.
      resumed: The policy of the run that is resumed, which `auto` keeps to.
      deterministic: Whether a CPU's instructions alone decide: how fast it multiplies also depends
        on what else it does.
    """
    if requested != "auto":
        return requested, "as asked for"
    if resumed:
        return resumed, "as the run began"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        least = min(detail.get("compute_capability", (0, 0)) for detail in details)
        version = f"GPU compute capability {least[0]}.{least[1]}"
        if least >= (8, 0):
            return "mixed_bfloat16", version
        return ("mixed_float16" if least >= (7, 0) else "float32"), version
    found = ", ".join(sorted(_cpu_flags() & {"avx512_bf16", "amx_bf16"}))
    speedup = agree(_speedup(deterministic) if found else 0.0)
    policy = "mixed_bfloat16" if speedup >= _WORTHWHILE else "float32"
    if not found:
        return policy, "no GPU, and a CPU without bfloat16 instructions"
    if deterministic:
        return policy, f"no GPU, and a CPU with {found}, not tried because of --deterministic"
    rate = f"{speedup:.1f} times the rate of float32"
    return policy, f"no GPU, and with {found} bfloat16 matrices are multiplied at {rate}"


def _speedup(deterministic: bool) -> float:
    return _WORTHWHILE if deterministic else _bfloat16_speedup()


def _bfloat16_speedup() -> float:
    bfloat16, float32 = (
        matmul_rate(policy, side=2048, secs=0.2) for policy in ("mixed_bfloat16", "float32")
    )
    return bfloat16 / float32


def matmul_rate(policy: str, *, side: int, secs: float) -> float:
    """The best rate of a product of square matrices, in FLOP/s.

    Args:
      policy: Keras dtype policy, in whose precision to multiply.
      side: Rows and columns.
      secs: How long to try, after a first time that does not count.
    """
    dtype = keras.DTypePolicy(policy).compute_dtype
    generator = np.random.default_rng(0)
    left, right = (tf.cast(generator.random([side, side], np.float32), dtype) for _ in range(2))
    tf.matmul(left, right)[0, 0].numpy()
    end, best = time.perf_counter() + secs, math.inf
    while True:
        start = time.perf_counter()
        tf.matmul(left, right)[0, 0].numpy()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return 2 * side**3 / best


def _cpu_flags() -> set[str]:
    try:
        match = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return set()
    return set(match[1].split()) if match else set()


class LossScale:
    """Dynamic loss scaling: halve at an overflow, double after 2000 steps without one.

    Micikevicius et al., Mixed Precision Training, 2018 (arXiv:1710.03740). With a policy
    other than mixed_float16 the scale is 1 and stays so.

    Attributes:
      scale: float32 variable, what the loss is multiplied by.
      variables: The state, for checkpoints.
    """

    def __init__(self, policy: str, growth_steps: int = _GROWTH_STEPS) -> None:
        self.is_dynamic = policy == "mixed_float16"
        self._growth_steps = growth_steps
        # Without aggregation: each replica assigns its own, and all assign the same.
        initial = _INITIAL_SCALE if self.is_dynamic else 1.0
        self.scale = tf.Variable(initial, name="loss_scale", dtype=tf.float32, trainable=False)
        self._good_steps = tf.Variable(0, name="good_steps", dtype=tf.int64, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """The state, for checkpoints."""
        return [self.scale, self._good_steps]

    def update(self, finite: tf.Tensor) -> None:
        """Adapts the scale after a step.

        Args:
          finite: bool[], whether the reduced gradients were; the same on all replicas.
        """
        if not self.is_dynamic:
            return
        good_steps = tf.where(finite, self._good_steps + 1, 0)
        grow = good_steps >= self._growth_steps
        scale = tf.where(finite, tf.where(grow, self.scale * 2, self.scale), self.scale / 2)
        self.scale.assign(tf.maximum(scale, 1.0))
        self._good_steps.assign(tf.where(grow, tf.zeros_like(good_steps), good_steps))
