"""Metrics against scikit-learn's, from what is on the whole given of every drawing."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from trainer.results import metrics
from trainer.results.predictions import TOP, Predictions


def make_predictions(probabilities: np.ndarray, labels: np.ndarray) -> Predictions:
    """What is kept of float64[n, classes] probabilities; rows are numbered from 0."""
    classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    best = np.take_along_axis(probabilities, classes, axis=1)
    missing = [(0, 0), (0, TOP - classes.shape[1])]
    return Predictions(
        labels=labels.astype(np.int32),
        source_rows=np.arange(len(labels)),
        classes=np.pad(classes, missing, constant_values=-1).astype(np.int32),
        probabilities=np.pad(best, missing).astype(np.float32),
        losses=-np.log(probabilities[np.arange(len(labels)), labels]).astype(np.float32),
    )


def random_case(
    seed: int, num_classes: int, count: int, *, missing: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right more often than not, and labels, none of them `missing`."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, count)
    if missing is not None:
        labels[labels == missing] = (missing + 1) % num_classes
    logits = generator.normal(size=(count, num_classes))
    logits[np.arange(count), labels] += generator.normal(1.5, 1, count)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, labels


def names_of(num_classes: int) -> list[str]:
    return [f"class {label}" for label in range(num_classes)]


cases = st.builds(
    random_case,
    seed=st.integers(0, 2**32),
    num_classes=st.sampled_from([2, 3, 5, 6, 29, 345]),
    count=st.integers(1, 300),
    missing=st.sampled_from([None, 0, 1]),
)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_the_headline_is_that_of_scikit_learn(case):
    probabilities, labels = case
    count, classes = probabilities.shape
    found = metrics.compute(make_predictions(probabilities, labels), names_of(classes))
    assert found.count == count
    log_loss = sklearn_metrics.log_loss(labels, probabilities, labels=range(classes))
    assert found.loss == pytest.approx(log_loss, rel=1e-6)
    for k, value in ((1, found.top1), (3, found.top3), (5, found.top5)):
        expected = 1.0
        if k < classes and classes > 2:
            expected = sklearn_metrics.top_k_accuracy_score(
                labels, probabilities, k=k, labels=range(classes)
            )
        elif k < classes:
            expected = sklearn_metrics.accuracy_score(labels, probabilities.argmax(axis=1))
        assert value == expected


@settings(max_examples=60, deadline=None)
@given(cases)
def test_the_table_is_that_of_scikit_learn(case):
    probabilities, labels = case
    names = names_of(probabilities.shape[1])
    found = metrics.compute(make_predictions(probabilities, labels), names)
    expected = sklearn_metrics.classification_report(
        labels,
        probabilities.argmax(axis=1),
        labels=range(len(names)),
        target_names=names,
        zero_division=math.nan,
        output_dict=True,
    )
    assert found.top1 == expected["accuracy"]
    for row in (*found.classes, found.macro_average, found.weighted_average):
        values = (row.precision, row.recall, row.f1, row.support)
        values = [math.nan if value is None else value for value in values]
        np.testing.assert_equal(values, list(expected[row.name].values()))
    np.testing.assert_array_equal(
        found.confusion,
        sklearn_metrics.confusion_matrix(
            labels, probabilities.argmax(axis=1), labels=range(len(names))
        ),
    )


@settings(max_examples=60, deadline=None)
@given(cases)
def test_calibration_is_that_of_scikit_learn(case):
    predictions = make_predictions(*case)
    found = metrics.calibrate(predictions)
    accuracy, confidence = calibration_curve(
        predictions.is_right, predictions.probabilities[:, 0], n_bins=metrics.CALIBRATION_BINS
    )
    used = found.counts > 0
    np.testing.assert_allclose(found.accuracy[used], accuracy)
    np.testing.assert_allclose(found.confidence[used], confidence, rtol=1e-6)
    weights = found.counts[used] / len(predictions)
    assert found.error == pytest.approx(weights @ np.abs(accuracy - confidence), abs=1e-6)


def test_overconfidence_is_measured():
    probabilities = np.tile([0.9, 0.1], (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    assert metrics.calibrate(make_predictions(probabilities, labels)).error == pytest.approx(0.3)


def test_a_class_without_drawings_has_no_recall_and_is_left_out_of_the_mean():
    probabilities, labels = random_case(1, 4, 200, missing=2)
    probabilities[0, 2] = 2  # one drawing is taken for it
    found = metrics.compute(make_predictions(probabilities, labels), names_of(4))
    assert (found.classes[2].recall, found.classes[2].support) == (None, 0)
    assert found.classes[2].precision == 0
    recalls = [row.recall for row in found.classes if row.recall is not None]
    assert found.macro_average.recall == pytest.approx(np.mean(recalls))


def test_text_csv_and_json_tell_the_same():
    probabilities, labels = random_case(5, 3, 90, missing=1)
    predictions, names = make_predictions(probabilities, labels), ["a,b", 'say "c"', "é"]
    found = metrics.compute(predictions, names)
    facts = json.loads(json.dumps(metrics.to_json(found), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(metrics.to_csv(found))))
    assert [row["class"] for row in rows] == [*names, "accuracy", "macro avg", "weighted avg"]
    assert [row["label"] for row in rows] == ["0", "1", "2", "", "", ""]
    for row in rows[:3] + rows[4:]:
        expected = facts["classes"].get(row["class"]) or facts[row["class"]]
        for name, value in expected.items():
            assert row[name] == ("" if value is None else str(value))
    assert float(rows[3]["f1-score"]) == facts["accuracy"] == found.top1
    assert facts["classes"]['say "c"']["recall"] is None
    text = metrics.to_text(predictions, names)
    assert f"{found.classes[0].precision:.4f}" in text
    assert "nan" in text
