"""Metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from uniwhisper.evaluate.metrics import accuracy, macro_f1, mean_average_precision, weighted_mean_average_precision


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_and_accuracy(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 6, 50), rng.integers(0, 7, 50)
    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert accuracy(truth, predicted) == pytest.approx(np.mean(truth == predicted))


@pytest.mark.parametrize("decimals", [8, 1])
def test_average_precision_with_and_without_ties(decimals):
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 6)) < 0.2).astype(np.uint8)
    scores = np.round(rng.random((80, 6)) + 0.2 * truth, decimals)
    expected = average_precision_score(truth, scores, average="macro")
    assert mean_average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_a_resample_equals_the_repeated_rows():
    rng = np.random.default_rng(1)
    truth = (rng.random((60, 5)) < 0.3).astype(np.uint8)
    scores = np.round(rng.random((60, 5)), 2)
    counts = rng.multinomial(60, np.full(60, 1 / 60), size=7)
    got = weighted_mean_average_precision(truth, scores, counts)
    for row, value in zip(counts, got, strict=True):
        drawn = np.repeat(np.arange(60), row)
        present = truth[drawn].any(axis=0)
        expected = average_precision_score(truth[drawn][:, present], scores[drawn][:, present], average="macro")
        assert value == pytest.approx(expected, abs=1e-12)


def test_a_class_without_positives_is_left_out():
    truth = np.array([[1, 0], [0, 0]], dtype=np.uint8)
    assert mean_average_precision(truth, np.array([[0.9, 0.5], [0.1, 0.5]])) == 1.0
