"""Differences between two encoders and means over tasks, recomputed from the replicates."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from evaluate.stored import make_clips, make_segments, make_texts
from uniwhisper.errors import ReportError
from uniwhisper.evaluate.bootstrap import interval, replicate, replicate_pair
from uniwhisper.evaluate.compare import compare, means, weighted_means
from uniwhisper.evaluate.predictions import write_predictions
from uniwhisper.evaluate.results import EncoderInfo, ProbeScore, Results, TaskResult

# name -> domain, metric, weight, kNN weight, maker
TASKS = {
    "esc50": ("sound", "accuracy", 400.0, 400.0, make_clips),
    "fsdkaggle2018": ("sound", "map", 1600.0, None, lambda **o: make_clips(ranked=True, knn=False, **o)),
    "desed": ("sound", "segment_f1", 1153.0, None, make_segments),
    "librispeech_100h": ("speech", "iwer", 10000.0, None, make_texts),
    "gtzan": ("music", "accuracy", 100.0, 100.0, make_clips),
    "mine": ("", "accuracy", None, None, make_clips),
}


def make_task(folder, name, seed, skill):
    domain, metric, weight, knn_weight, maker = TASKS[name]
    p = maker(seed=seed, skill=skill)
    write_predictions(folder / f"{name}.parquet", p)
    drawn = replicate(p, metric=metric)
    per_seed = tuple(p.probe_scores(metric))
    knn = p.knn_score(metric)
    probe = interval(float(np.mean(per_seed)), drawn.probe)
    return drawn, TaskResult(
        name=name,
        title=name,
        domain=domain,
        kind=p.kind,
        data_sha256="0",
        key="",
        num_clips=len(p.ids),
        num_test_clips=len(p.ids),
        num_classes=4,
        num_folds=1,
        scheme="train/test",
        metric=metric,
        chance=None,
        majority=None,
        resampling_unit="clip",
        weight=weight,
        knn_weight=knn_weight,
        knn=None if knn is None or drawn.knn is None else interval(knn, drawn.knn),
        probe=ProbeScore(**asdict(probe), per_seed=per_seed, learning_rates=()),
        other={},
        predictions=f"{name}.parquet",
        predictions_digest=p.digest(),
        contamination=None,
        notes=(),
    )


def make_results(folder, names=tuple(TASKS), seed=1, skill=0.6, protocol="strict"):
    folder.mkdir(exist_ok=True)
    made = {name: make_task(folder, name, seed, skill) for name in names}
    return {name: drawn for name, (drawn, _) in made.items()}, Results(
        encoder=EncoderInfo(name=folder.name, fingerprint="", dim=4),
        protocol={"name": protocol, "frames": folder.name},
        tasks=tuple(task for _, task in made.values()),
        means={},
        weighted={},
        failures=(),
        absent=(),
        environment={},
        folder=folder,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return make_results(folder / "a"), make_results(folder / "b", seed=2, skill=0.8)


def test_means_by_hand(pair):
    (drawn, results), _ = pair
    found = means(results.tasks, drawn)
    assert list(found) == ["all", "music", "sound", "speech"]
    assert found["all"].tasks == tuple(TASKS)
    assert found["all"].probe.score == pytest.approx(np.mean([task.probe.score for task in results.tasks]))
    rows = np.mean([one.probe for one in drawn.values()], axis=0)
    assert found["all"].probe.low == pytest.approx(np.percentile(rows, 2.5))
    with_knn = [task.knn.score for task in results.tasks if task.knn is not None]
    assert len(with_knn) == 3
    assert found["all"].knn is not None
    assert found["all"].knn.score == pytest.approx(np.mean(with_knn))
    assert found["speech"].knn is None
    # independent tasks: their widths are not added up
    assert found["all"].probe.half_width < 0.7 * np.mean([task.probe.half_width for task in results.tasks])


def test_weighted_means_by_hand(pair):
    (drawn, results), _ = pair
    found = weighted_means(results.tasks, drawn)
    assert found["all"].tasks == ("esc50", "fsdkaggle2018", "desed", "librispeech_100h", "gtzan")
    assert len(found["all"].missing) == 15
    assert found["sound"].missing == ("fsd50k", "urbansound8k", "vocal_imitation")
    weights = np.array([TASKS[name][2] for name in found["all"].tasks])
    scores = np.array([results.task(name).probe.score for name in found["all"].tasks])
    assert found["all"].probe.score == pytest.approx(weights @ scores / weights.sum())
    rows = weights @ np.stack([drawn[name].probe for name in found["all"].tasks]) / weights.sum()
    assert found["all"].probe.high == pytest.approx(np.percentile(rows, 97.5))
    assert found["all"].knn is not None
    esc50, gtzan = results.task("esc50").knn, results.task("gtzan").knn
    assert esc50 is not None
    assert gtzan is not None
    assert found["all"].knn.score == pytest.approx((400 * esc50.score + 100 * gtzan.score) / 500)


def test_missing_tasks_are_those_that_the_caller_wants(pair):
    (drawn, results), _ = pair
    found = weighted_means(results.tasks, drawn, missing=["ravdess", "a table of mine", "gtzan"])
    assert found["all"].missing == ("ravdess",)
    assert found["sound"].missing == ()
    assert weighted_means([results.task("mine")], drawn) == {}


def test_differences(pair):
    (_, a), (_, b) = pair
    comparison = compare(a, b)
    assert [delta.name for delta in comparison.tasks] == list(TASKS)
    for delta in comparison.tasks:
        first, second = a.task(delta.name), b.task(delta.name)
        assert delta.probe.score == pytest.approx(second.probe.score - first.probe.score)
        assert (delta.knn is None) == (first.knn is None)
        for found in (delta.probe, *([] if delta.knn is None else [delta.knn])):
            assert found.low < found.score < found.high
    esc50 = comparison.tasks[0]
    drawn = replicate_pair(make_clips(seed=1), make_clips(seed=2, skill=0.8))
    assert esc50.probe.low == pytest.approx(np.percentile(drawn[1].probe - drawn[0].probe, 2.5))
    assert comparison.means["all"].probe.low > 0
    assert comparison.weighted["speech"].tasks == ("librispeech_100h",)
    assert comparison.weighted["speech"].probe.score == pytest.approx(comparison.tasks[3].probe.score)


def test_the_other_way_round_changes_the_signs_only(pair):
    (_, a), (_, b) = pair
    there, back = compare(a, b), compare(b, a)
    for one, other in zip(there.tasks, back.tasks, strict=True):
        assert one.probe.score == pytest.approx(-other.probe.score)
        assert one.probe.low == pytest.approx(-other.probe.high)
    assert there.means["all"].probe.low == pytest.approx(-back.means["all"].probe.high)


def test_what_only_one_has_is_named(pair, tmp_path):
    (_, a), (_, b) = pair
    comparison = compare(replace(a, tasks=a.tasks[:3]), replace(b, tasks=b.tasks[1:]))
    assert [delta.name for delta in comparison.tasks] == ["fsdkaggle2018", "desed"]
    assert comparison.only_a == ("esc50",)
    assert comparison.only_b == ("librispeech_100h", "gtzan", "mine")
    with pytest.raises(ReportError, match="tasks in common"):
        compare(replace(a, tasks=a.tasks[:1]), replace(b, tasks=b.tasks[1:]))


def test_other_protocols_metrics_and_clips_are_refused(pair):
    (_, a), (_, b) = pair
    with pytest.raises(ReportError, match="name: strict and xares"):
        compare(a, replace(b, protocol={"name": "xares", "frames": "b"}))
    other = replace(b.tasks[1], metric="accuracy")
    with pytest.raises(ReportError, match=r"one metric for task 'fsdkaggle2018', found map in .* and accuracy"):
        compare(a, replace(b, tasks=(other,)))
    swapped = replace(b.task("gtzan"), name="esc50", predictions="mine.parquet")
    with pytest.raises(ReportError, match=r"mine\.parquet"):
        compare(a, replace(b, tasks=(replace(swapped, predictions_digest="0"),)))
    texts = b.task("librispeech_100h")
    strange = replace(texts, name="esc50", metric="accuracy")
    with pytest.raises(ReportError, match=r"task 'esc50' of .*different 'kind'"):
        compare(a, replace(b, tasks=(strange,)))
