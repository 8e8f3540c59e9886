"""The fast bootstrap against a loop over clips, its seeds, its units and its pairing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from evaluate.stored import ALL_KINDS, make_clips, make_kind, make_segments, make_texts
from uniwhisper.errors import ReportError
from uniwhisper.evaluate.bootstrap import Interval, interval, replicate, replicate_pair, resampling, resampling_units
from uniwhisper.evaluate.bootstrap.precision import count_type, mean_precision_of_counts, rank_clips
from uniwhisper.evaluate.metrics import f1_of_counts
from uniwhisper.evaluate.predictions import read_predictions, write_predictions


def scores_of(p, counts, rows):
    """Return the score of the kNN (where there is one) and of every seed on the clips `rows`, by the definition."""
    if p.kind == "text":
        errors, words = counts
        return [max(1 - errors[s, rows].sum() / words[rows].sum(), 0.0) for s in range(p.num_seeds)]
    if p.kind == "segment":
        return [float(f1_of_counts(counts[s, rows].sum(axis=0))) for s in range(p.num_seeds)]
    knn, probe = p.answers(p.metrics[0])
    answers = [*([] if knn is None else [knn]), *probe]
    if p.multilabel:
        once = np.ones((len(rows), 1), dtype=np.uint16)  # equality with scikit-learn is a test of its own
        return [mean_precision_of_counts(rank_clips(p.truth[rows], answer[rows]), once)[0] for answer in answers]
    return [np.mean(answer[rows] == p.truth[rows]) for answer in answers]


def brute_force(p, num_replicates, seed):
    """Return replicates by the definition: units drawn in every fold, then seeds, all seeds on the same clips."""
    rng = np.random.default_rng(seed)
    counts = p.word_errors("iwer") if p.kind == "text" else p.counts() if p.kind == "segment" else None
    knn, probe = [], []
    for _ in range(num_replicates):
        per_fold = []
        for f in np.unique(p.fold):
            units = np.unique(p.unit[p.fold == f])
            members = [np.flatnonzero((p.fold == f) & (p.unit == u)) for u in units]
            drawn = np.concatenate([members[i] for i in rng.integers(0, len(units), len(units))])
            per_fold.append(scores_of(p, counts, drawn))
        scores = np.mean(per_fold, axis=0)
        seeds = scores[-p.num_seeds :]
        knn.append(scores[0])
        probe.append(np.mean(seeds[rng.integers(0, p.num_seeds, p.num_seeds)]))
    return np.array(knn), np.array(probe)


@pytest.mark.slow
@pytest.mark.parametrize("num_groups", [0, 8])
@pytest.mark.parametrize("kind", ["single", "multilabel", "segments", "texts"])
def test_same_distribution_as_the_loop(kind, num_groups):
    p = make_kind(kind, num_clips=60, num_groups=num_groups, num_folds=2)
    fast = replicate(p, num_replicates=6000)
    knn, probe = brute_force(p, 700, seed=1)
    pairs = [(fast.probe, probe)] + ([] if fast.knn is None else [(fast.knn, knn)])
    for got, expected in pairs:
        spread = expected.std()
        assert got.mean() == pytest.approx(expected.mean(), abs=0.2 * spread)
        assert got.std() == pytest.approx(spread, rel=0.1)
        bounds = np.percentile(got, [2.5, 97.5]), np.percentile(expected, [2.5, 97.5])
        np.testing.assert_allclose(*bounds, atol=0.3 * spread)


@given(
    seed=st.integers(0, 2**16),
    num_clips=st.integers(1, 40),
    decimals=st.sampled_from([0, 1, 8]),
    share=st.sampled_from([0.02, 0.3, 1.0]),
)
def test_average_precision_of_counts_equals_sklearn_on_the_repeated_rows(seed, num_clips, decimals, share):
    rng = np.random.default_rng(seed)
    truth = (rng.random((num_clips, 5)) < share).astype(np.uint8)
    scores = np.round(rng.random((num_clips, 5)), decimals)
    counts = rng.multinomial(num_clips, np.full(num_clips, 1 / num_clips), size=4).T
    got = mean_precision_of_counts(rank_clips(truth, scores), counts.astype(count_type(counts)))
    for drawn, value in zip(counts.T, got, strict=True):
        rows = np.repeat(np.arange(num_clips), drawn)
        present = [c for c in range(5) if truth[rows, c].any()]
        expected = [average_precision_score(truth[rows, c], scores[rows, c]) for c in present] or [0.0]
        assert value == pytest.approx(np.mean(expected), abs=1e-12)


def test_counts_beyond_16_bits():
    counts = np.full((4, 2), 2**15)
    assert count_type(counts) is np.uint32
    assert count_type(counts[:1]) is np.uint16
    ranked = rank_clips(np.array([[1], [0], [1], [0]]), np.array([[4.0], [3], [2], [1]]))
    np.testing.assert_allclose(mean_precision_of_counts(ranked, counts.astype(np.uint32)), (1 + 2 / 3) / 2)


@pytest.mark.parametrize("few_kinds", [0, 10_000])
def test_both_ways_of_drawing_kinds_agree(few_kinds, monkeypatch):
    p = make_texts(num_clips=80)
    usual = replicate(p, num_replicates=4000).probe
    monkeypatch.setattr(resampling, "_FEW_KINDS", few_kinds)
    monkeypatch.setattr(resampling, "_DRAWS_AT_ONCE", 1000)
    other = replicate(p, num_replicates=4000).probe
    assert other.mean() == pytest.approx(usual.mean(), abs=0.1 * usual.std())
    assert other.std() == pytest.approx(usual.std(), rel=0.06)


def test_width_of_one_seed_is_the_binomial_width_and_more_seeds_do_not_hide_the_sampling_of_clips():
    p = make_clips(num_clips=800, num_folds=1, num_seeds=5)
    p = replace(p, probe=np.repeat(p.knn[None], 5, axis=0))
    fast = replicate(p, num_replicates=8000)
    share = np.mean(p.knn == p.truth)
    expected = np.sqrt(share * (1 - share) / 800)
    assert fast.knn is not None
    assert fast.knn.std() == pytest.approx(expected, rel=0.05)
    assert fast.probe.std() == pytest.approx(expected, rel=0.05)


def test_groups_widen_the_interval_where_their_clips_share_a_fate():
    p = make_clips(num_clips=400, num_folds=1)
    group = np.arange(400) // 20
    p = replace(p, knn=np.where(group % 2, p.truth, (p.truth + 1) % 4))
    alone, grouped = replicate(p), replicate(replace(p, unit=group))
    assert alone.knn is not None
    assert grouped.knn is not None
    assert grouped.knn.std() > 3 * alone.knn.std()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_replicates_centre_on_the_score(kind):
    p = make_kind(kind, num_clips=200)
    fast = replicate(p, num_replicates=500)
    score = np.mean(p.probe_scores(p.metrics[0]))
    assert fast.probe.shape == (500,)
    assert abs(fast.probe.mean() - score) < 0.5 * fast.probe.std()
    assert 0.003 < fast.probe.std() < 0.06
    assert (fast.knn is None) == (kind in ("segments", "texts"))


def test_the_metric_that_counts_can_be_named():
    p = make_clips(ranked=True)
    by_map = replicate(p, metric="map", num_replicates=200)
    assert by_map.knn is not None
    assert by_map.knn.mean() == pytest.approx(p.knn_score("map"), abs=0.03)
    no_knn = replicate(make_clips(ranked=True, knn=False), metric="map", num_replicates=70)
    assert no_knn.knn is None
    raw = replicate(make_texts(), metric="iwer:raw-lower", num_replicates=200).probe
    assert raw.mean() < replicate(make_texts(), num_replicates=200).probe.mean() - 0.05
    with pytest.raises(ReportError, match="for an interval, found 'macro_f1'"):
        replicate(p, metric="macro_f1")
    with pytest.raises(ReportError, match="found 'bleu'"):
        replicate(p, metric="bleu")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_two_readers_get_the_same_bounds_on_any_number_of_threads(kind, tmp_path):
    p = make_kind(kind, num_groups=8)
    write_predictions(tmp_path / "toy.parquet", p)
    stored = read_predictions(tmp_path / "toy.parquet")
    metric = "map" if kind == "ranked" else None
    first = replicate(p, metric=metric, num_replicates=300, threads=1)
    second = replicate(stored, metric=metric, num_replicates=300, threads=2)
    np.testing.assert_array_equal(first.probe, second.probe)
    np.testing.assert_array_equal(first.knn, second.knn)
    assert interval(0.5, first.probe) == interval(0.5, second.probe)


def test_half_width_is_the_larger_side():
    assert Interval(score=0.5, low=0.4, high=0.7).half_width == pytest.approx(0.2)
    assert Interval(score=0.5, low=0.1, high=0.7).half_width == pytest.approx(0.4)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_pairs_share_their_draws(kind):
    metric = "map" if kind == "ranked" else None
    a, b = make_kind(kind, seed=1), make_kind(kind, seed=2, skill=0.8)
    first, second = replicate_pair(a, b, metric=metric, num_replicates=200)
    swapped_second, swapped_first = replicate_pair(b, a, metric=metric, num_replicates=200)
    np.testing.assert_array_equal(first.probe, swapped_first.probe)
    np.testing.assert_array_equal(second.probe, swapped_second.probe)
    np.testing.assert_array_equal(second.knn, swapped_second.knn)
    for x, y in zip(*[(r.knn, r.probe) for r in replicate_pair(a, a, metric=metric, num_replicates=200)], strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_pair_that_differs_on_few_clips_has_a_narrow_difference():
    a = make_clips(num_clips=400)
    knn = a.knn.copy()
    knn[:4] = a.truth[:4]
    first, second = replicate_pair(a, replace(a, knn=knn))
    assert first.knn is not None
    assert second.knn is not None
    assert (second.knn - first.knn).std() < 0.2 * first.knn.std()


def test_one_of_a_pair_may_lack_the_knn():
    first, second = replicate_pair(make_clips(seed=1), make_clips(seed=2, knn=False), num_replicates=100)
    assert first.knn is not None
    assert second.knn is None


def test_pairs_must_be_on_the_same_clips():
    a = make_clips()
    with pytest.raises(ReportError, match="different 'truth'"):
        replicate_pair(a, replace(a, truth=(a.truth + 1) % 4))
    with pytest.raises(ReportError, match="different 'kind'"):
        replicate_pair(a, make_segments(num_clips=120))
    with pytest.raises(ReportError, match="different 'reference'"):
        replicate_pair(make_texts(), replace(make_texts(), reference=["x"] * 50))
    with pytest.raises(ReportError, match="different 'normaliser'"):
        replicate_pair(make_texts(), make_texts(normaliser="raw-lower"))


def test_segments_counted_in_other_frames_can_be_compared():
    a = make_segments(seed=1)
    truth = a.truth.copy()
    truth[0] = 1 - truth[0]
    replicate_pair(a, replace(a, truth=truth), num_replicates=100)


def test_units():
    fold = np.arange(40) % 2
    unit, kind = resampling_units([f"g{i // 2 % 10}{i % 2}" for i in range(40)], fold)
    assert kind == "group"
    assert len(np.unique(unit)) == 20
    for groups in (None, ["one"] * 40, [f"g{i % 4}" for i in range(40)]):
        unit, kind = resampling_units(groups, fold)
        assert kind == "clip"
        np.testing.assert_array_equal(unit, np.arange(40))
