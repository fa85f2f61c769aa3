"""Hits by rank, against `tf.math.top_k`."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.training.totals import TOP_K, Totals


def _hits(labels: np.ndarray, logits: np.ndarray, *, jit_compile: bool) -> tuple[float, float]:
    """How many drawings are in the top 1 and the top 3."""
    totals = Totals("test")
    add = tf.function(
        lambda labels, logits: totals.add(tf.zeros_like(logits[:, 0]), labels, logits),
        jit_compile=jit_compile,
    )
    add(tf.constant(labels), tf.constant(logits))
    means = totals.means()
    return tuple(means[name] * len(labels) for name in ("top1", "top3"))


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(TOP_K, 12),
    levels=st.sampled_from([1, 2, 3, 100]),
    seed=st.integers(0, 9999),
)
def test_hits_are_those_of_top_k_with_ties_too(classes, levels, seed):
    generator = np.random.default_rng(seed)
    logits = generator.integers(0, levels, [50, classes]).astype(np.float32)
    labels = generator.integers(0, classes, 50, np.int32)
    found = _hits(labels, logits, jit_compile=False)
    for k, hits in zip((1, TOP_K), found, strict=True):
        first = tf.math.top_k(logits, k).indices.numpy()
        assert hits == pytest.approx(np.sum(first == labels[:, np.newaxis]))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_hits_are_the_same_under_xla(dtype):
    generator = np.random.default_rng(0)
    logits = generator.integers(0, 4, [200, 9]).astype(np.float32)
    labels = generator.integers(0, 9, 200).astype(dtype)
    compiled = _hits(labels, logits, jit_compile=True)
    assert compiled == _hits(labels, logits, jit_compile=False)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_what_is_not_a_number_is_no_hit(jit_compile):
    logits = np.array([[np.nan, 1, 2, 0], [3, np.nan, np.nan, np.nan]], np.float32)
    labels = np.array([0, 0], np.int32)
    top1, _ = _hits(labels, logits, jit_compile=jit_compile)
    assert top1 == 0
