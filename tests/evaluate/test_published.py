"""The paper's tables: their averages recomputed from their scores, and agreement with our declarations."""

from __future__ import annotations

import pytest

from uniwhisper.evaluate.averages import weighted_average
from uniwhisper.evaluate.published import published_averages, published_scores, published_tasks, published_weights
from uniwhisper.evaluate.tasks import get_task


def averages(method):
    return {
        model: weighted_average({task: entry[method] for task, entry in tasks.items()}, published_weights(method))
        for model, tasks in published_scores().items()
    }


def test_table_3s_averages_follow_from_its_scores():
    off = {}
    for method in ("probe", "knn"):
        for model, average in averages(method).items():
            assert average.score is not None
            printed = published_averages()[model][method]
            if round(average.score, 2) != printed:
                off[model, method] = (round(average.score, 2), printed)
    # 18 of 20 to two decimals; these two by what their inputs were rounded to
    assert off == {("whisper-large-v3", "probe"): (64.15, 64.16), ("whisper-uni-3", "knn"): (47.05, 47.04)}


def test_averages_to_four_decimals():
    probe, knn = averages("probe"), averages("knn")
    assert probe["uniwhisper"].score == pytest.approx(80.8772, abs=5e-5)
    assert probe["whisper-large-v3"].score == pytest.approx(64.1546, abs=5e-5)
    assert knn["uniwhisper"].score == pytest.approx(60.3816, abs=5e-5)
    assert knn["whisper-uni-3"].score == pytest.approx(47.0455, abs=5e-5)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("uniwhisper", {"speech": 87.45, "music": 71.00, "sound": 62.13}),
        ("whisper-large-v3", {"speech": 73.80, "music": 50.00, "sound": 36.54}),
    ],
)
def test_domain_averages(model, expected):
    for domain, score in expected.items():
        weights = {task.name: task.probe for task in published_tasks() if task.domain == domain}
        found = weighted_average({name: e["probe"] for name, e in published_scores()[model].items()}, weights)
        assert round(found.score or 0, 2) == score


def test_weights():
    assert len(published_tasks()) == 20
    assert sum(task.probe for task in published_tasks()) == 37_642
    assert sum(task.knn or 0 for task in published_tasks()) == 22_889
    assert sum(task.knn is not None for task in published_tasks()) == 16
    assert [sum(task.domain == d for task in published_tasks()) for d in ("speech", "music", "sound")] == [11, 3, 6]


def test_a_printed_zero_without_a_knn_is_no_score():
    for task in ("desed", "fsdkaggle2018", "fsd50k", "librispeech_100h"):
        assert published_scores()["clap-uni"][task]["knn"] is None
    assert all(score["probe"] is not None for tasks in published_scores().values() for score in tasks.values())


@pytest.mark.parametrize("task", published_tasks(), ids=lambda task: task.name)
def test_declarations_agree(task):
    spec = get_task(task.name)
    assert (spec.domain, spec.metric, spec.weight, spec.knn_weight) == (task.domain, task.metric, task.probe, task.knn)
