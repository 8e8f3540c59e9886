"""The fast bootstrap against a loop over clips, its seeds, its units and its pairing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.bootstrap import interval, replicate, replicate_pair, resampling_units
from uniwhisper.evaluate.predictions import Predictions, read_predictions, write_predictions


def make(num_clips=120, num_folds=2, num_seeds=3, num_groups=0, multilabel=False, seed=0, skill=0.6):
    rng = np.random.default_rng(seed)
    fold = np.arange(num_clips) % num_folds
    unit = fold * 1000 + rng.integers(0, num_groups, num_clips) if num_groups else np.arange(num_clips)
    truth_rng = np.random.default_rng(99)
    if multilabel:
        truth = (truth_rng.random((num_clips, 3)) < 0.4).astype(np.uint8)
        knn = np.round(rng.random((num_clips, 3)) + skill * truth, 2)
        probe = rng.random((num_seeds, num_clips, 3)).astype(np.float32) + skill * truth.astype(np.float32)
    else:
        truth = truth_rng.integers(0, 4, num_clips)
        guess = np.where(rng.random((num_seeds + 1, num_clips)) < skill, truth, (truth + 1) % 4)
        knn, probe = guess[0], guess[1:]
    ids = np.array([f"{i}.wav" for i in range(num_clips)])
    return Predictions(
        ids=ids, classes=np.array(["a", "b", "c", "d"]), truth=truth, fold=fold, unit=unit, knn=knn, probe=probe
    )


def brute_force(p, num_replicates, seed):
    """Return replicates by the definition: units drawn in every fold, then seeds, all seeds on the same clips."""
    rng = np.random.default_rng(seed)
    knn, probe = [], []
    for _ in range(num_replicates):
        per_fold = []
        for f in np.unique(p.fold):
            units = np.unique(p.unit[p.fold == f])
            members = [np.flatnonzero((p.fold == f) & (p.unit == u)) for u in units]
            drawn = np.concatenate([members[i] for i in rng.integers(0, len(units), len(units))])
            per_fold.append([np.mean(g[drawn] == p.truth[drawn]) for g in (p.knn, *p.probe)])
        scores = np.mean(per_fold, axis=0)
        knn.append(scores[0])
        probe.append(np.mean(scores[1:][rng.integers(0, p.num_seeds, p.num_seeds)]))
    return np.array(knn), np.array(probe)


@pytest.mark.parametrize("num_groups", [0, 8])
def test_same_distribution_as_the_loop(num_groups):
    p = make(num_clips=60, num_groups=num_groups)
    fast = replicate(p, num_replicates=20_000)
    for got, expected in zip((fast.knn, fast.probe), brute_force(p, 3000, seed=1), strict=True):
        assert got.mean() == pytest.approx(expected.mean(), abs=0.006)
        assert got.std() == pytest.approx(expected.std(), rel=0.06)
        np.testing.assert_allclose(np.percentile(got, [2.5, 97.5]), np.percentile(expected, [2.5, 97.5]), atol=0.02)


def test_width_of_one_seed_is_the_binomial_width_and_more_seeds_do_not_hide_the_sampling_of_clips():
    p = make(num_clips=800, num_folds=1, num_seeds=5)
    p = replace(p, probe=np.repeat(p.knn[None], 5, axis=0))
    fast = replicate(p, num_replicates=8000)
    share = np.mean(p.knn == p.truth)
    expected = np.sqrt(share * (1 - share) / 800)
    assert fast.knn.std() == pytest.approx(expected, rel=0.05)
    assert fast.probe.std() == pytest.approx(expected, rel=0.05)


def test_multilabel_replicates_centre_on_the_score():
    p = make(multilabel=True, num_clips=200)
    fast = replicate(p, num_replicates=300)
    assert fast.knn.mean() == pytest.approx(p.score(p.knn), abs=0.02)
    assert 0.005 < fast.knn.std() < 0.06


def test_two_readers_get_the_same_bounds(tmp_path):
    p = make(num_groups=8)
    write_predictions(tmp_path / "toy.npz", p)
    first, second = (read_predictions(tmp_path / "toy.npz") for _ in range(2))
    assert first.digest() == second.digest() == p.digest()
    np.testing.assert_array_equal(replicate(first).probe, replicate(second).probe)
    assert interval(0.5, replicate(first).knn) == interval(0.5, replicate(p).knn)


@pytest.mark.parametrize("name", ["ids", "classes", "truth", "fold", "unit", "knn", "probe"])
def test_digest_sees_every_array(name):
    p = make()
    array = getattr(p, name).copy()
    array[0] = "x" if array.dtype.kind == "U" else array[0] + 1
    assert replace(p, **{name: array}).digest() != p.digest()


@pytest.mark.parametrize("multilabel", [False, True])
def test_pairs_share_their_draws(multilabel):
    a, b = make(seed=1, multilabel=multilabel), make(seed=2, skill=0.8, multilabel=multilabel)
    num = 200 if multilabel else 2000
    first, second = replicate_pair(a, b, num_replicates=num)
    swapped_second, swapped_first = replicate_pair(b, a, num_replicates=num)
    np.testing.assert_array_equal(first.probe, swapped_first.probe)
    np.testing.assert_array_equal(second.knn, swapped_second.knn)
    same = replace(a, knn=a.knn.copy())
    for x, y in zip(*[(r.knn, r.probe) for r in replicate_pair(a, same, num_replicates=num)], strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_pair_that_differs_on_few_clips_has_a_narrow_difference():
    a = make(num_clips=400)
    knn = a.knn.copy()
    knn[:4] = a.truth[:4]
    first, second = replicate_pair(a, replace(a, knn=knn))
    assert (second.knn - first.knn).std() < 0.2 * first.knn.std()


def test_pairs_must_be_on_the_same_clips():
    a = make()
    with pytest.raises(ReportError, match="different 'truth'"):
        replicate_pair(a, replace(a, truth=(a.truth + 1) % 4))


def test_units():
    fold = np.arange(40) % 2
    unit, kind = resampling_units([f"g{i // 2 % 10}{i % 2}" for i in range(40)], fold)
    assert kind == "group"
    assert len(np.unique(unit)) == 20
    for groups in (None, ["one"] * 40, [f"g{i % 4}" for i in range(40)]):
        unit, kind = resampling_units(groups, fold)
        assert kind == "clip"
        np.testing.assert_array_equal(unit, np.arange(40))


def test_damaged_predictions_are_named(tmp_path):
    with pytest.raises(ReportError, match=r"expected stored predictions in .*none\.npz"):
        read_predictions(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ReportError, match=r"bad\.npz"):
        read_predictions(tmp_path / "bad.npz")
    np.savez(tmp_path / "short.npz", ids=np.array(["a"]))
    with pytest.raises(ReportError, match=r"short\.npz.*classes"):
        read_predictions(tmp_path / "short.npz")
