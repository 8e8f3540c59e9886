"""Metrics against scikit-learn, and their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.metrics import (
    accuracy,
    classes_without_positives,
    equal_error_rate,
    f1_of_counts,
    inverse_wer,
    macro_f1,
    mean_average_precision,
    normalise_score,
)

SEEDS = st.integers(0, 2**16)


@given(seed=SEEDS, num_clips=st.integers(1, 60), num_classes=st.integers(1, 7))
def test_accuracy_and_macro_f1_equal_sklearn(seed, num_clips, num_classes):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, num_classes, (2, num_clips))
    assert accuracy(truth, predicted) == pytest.approx(accuracy_score(truth, predicted))
    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))


@given(seed=SEEDS, num_clips=st.integers(2, 60), decimals=st.sampled_from([0, 1, 8]))
def test_average_precision_equals_sklearn_class_by_class(seed, num_clips, decimals):
    rng = np.random.default_rng(seed)
    truth = (rng.random((num_clips, 5)) < 0.2).astype(np.uint8)
    scores = np.round(rng.random((num_clips, 5)) + 0.2 * truth, decimals)
    present = [c for c in range(5) if truth[:, c].any()]
    expected = [average_precision_score(truth[:, c], scores[:, c]) for c in present] or [0.0]
    assert mean_average_precision(truth, scores) == pytest.approx(np.mean(expected), abs=1e-12)
    assert classes_without_positives(truth).tolist() == [c for c in range(5) if c not in present]


@given(seed=SEEDS, num_segments=st.integers(1, 60), average=st.sampled_from(["macro", "micro"]))
def test_f1_of_counts_equals_sklearn(seed, num_segments, average):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.random((2, num_segments, 4)) < rng.random(4)
    counts = np.stack([(predicted & truth).sum(0), (predicted & ~truth).sum(0), (~predicted & truth).sum(0)], axis=1)
    expected = f1_score(truth, predicted, average=average, zero_division=0)  # pyright: ignore[reportArgumentType]
    assert float(f1_of_counts(counts, average=average)) == pytest.approx(expected, abs=1e-12)


def test_an_absent_class_counts_zero_in_macro_f1():
    # one class always right, one never found, one that neither occurs nor is predicted
    assert float(f1_of_counts(np.array([[5, 0, 0], [0, 0, 3], [0, 0, 0]]))) == pytest.approx(1 / 3)


def test_equal_error_rate():
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert equal_error_rate(truth, np.arange(8.0)) == 0.0
    assert equal_error_rate(truth, -np.arange(8.0)) == 1.0
    # one of four on each side is wrong
    assert equal_error_rate(truth, np.array([0, 1, 2, 6, 3, 5, 7, 8.0])) == pytest.approx(0.25)
    # nothing but ties: the line between (0, 1) and (1, 0) crosses at a half
    assert equal_error_rate(truth, np.zeros(8)) == pytest.approx(0.5)
    with pytest.raises(ReportError, match="positives and negatives"):
        equal_error_rate(np.ones(3), np.arange(3.0))


@given(seed=SEEDS)
def test_equal_error_rate_lies_where_both_rates_cross(seed):
    rng = np.random.default_rng(seed)
    truth = np.append(rng.integers(0, 2, 40), [0, 1])
    scores = rng.normal(size=42) + truth
    rate = equal_error_rate(truth, scores)
    thresholds = np.append(np.sort(scores), np.inf)
    missed = np.array([np.mean(scores[truth == 1] < t) for t in thresholds])
    alarms = np.array([np.mean(scores[truth == 0] >= t) for t in thresholds])
    assert np.minimum(missed, alarms).max() - 1e-12 <= rate <= np.maximum(missed, alarms).min() + 1e-12


def test_inverse_wer():
    np.testing.assert_allclose(inverse_wer(np.array([1, 30, 0, 2]), np.array([10, 10, 0, 0])), [0.9, 0.0, 1.0, 0.0])


def test_normalised_scores_run_from_worst_to_best():
    assert normalise_score("accuracy", 0.3) == 0.3
    assert normalise_score("wer", 0.25) == 0.75
    assert normalise_score("wer", 1.5) == 0.0
    assert normalise_score("eer", 0.1) == pytest.approx(0.9)
    with pytest.raises(ReportError, match="expected a metric out of accuracy"):
        normalise_score("bleu", 0.3)
