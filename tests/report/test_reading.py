from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.compare import compare
from uniwhisper.evaluate.results import Contamination, read_results
from uniwhisper.report.reading import make_view, read_all
from uniwhisper.report.view import View

from .inputs import BEFORE, PAPER, make_paper, make_results


def view(*paths: Path) -> View:
    return make_view(read_all(paths))


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], View]:
    paths = make_paper(tmp_path_factory.mktemp("paper"))
    return paths, view(*paths)


def test_rows_are_by_domain_and_a_missing_knn_is_none(paper: tuple[list[Path], View]) -> None:
    _, found = paper
    assert [row.name for row in found.rows] == list(PAPER)
    asr = next(row for row in found.rows if row.kind == "asr")
    assert asr.scores["knn"] == (None, None, None)
    assert asr.deltas["knn"] == (None, None)
    assert asr.deltas["probe"][0] is not None
    assert (asr.title, asr.metric) == ("LibriSpeech-100h", "1 \u2212 WER")


def test_every_mean_covers_the_tasks_that_all_have_and_says_so(paper: tuple[list[Path], View]) -> None:
    paths, found = paper
    assert found.mean is not None
    assert found.mean.about == "18 tasks, kNN over 16"
    assert found.weighted[0].about == "weighted over 18 of 20 tasks, kNN over 15"
    assert found.weighted[0].missing == ("VocalSound", "FSD50k")
    assert found.coverage.endswith("missing: VocalSound, FSD50k.")
    results = [read_results(path) for path in paths]
    shared = [task for task in results[0].tasks if task.name not in ("vocalsound", "fsd50k")]
    weights = [task.weight or 0 for task in shared]
    by_hand = sum(w * task.probe.score for w, task in zip(weights, shared, strict=True)) / sum(weights)
    score = found.weighted[0].scores["probe"][0]
    assert score is not None
    assert score.value == pytest.approx(by_hand)
    assert score.low < score.value < score.high


def test_differences_are_those_of_the_pair_on_shared_and_on_other_tasks(paper: tuple[list[Path], View]) -> None:
    paths, found = paper
    expected = {delta.name: delta for delta in compare(read_results(paths[0]), read_results(paths[1])).tasks}
    for row in found.rows:
        delta = row.deltas["probe"][0]
        assert delta is not None
        wanted = expected[row.name].probe
        assert (delta.value, delta.low, delta.high) == (wanted.score, wanted.low, wanted.high)
        assert (row.deltas["probe"][1] is None) == (row.name in ("vocalsound", "fsd50k"))


def test_overlap_absence_and_failure_are_told_by_encoder(paper: tuple[list[Path], View]) -> None:
    _, found = paper
    urban = next(row for row in found.rows if row.name == "urbansound8k")
    states = [one.state if one else None for one in urban.overlaps]
    assert states == ["unknown", "overlap", "unknown"]
    assert urban.overlaps[1] is not None
    assert urban.overlaps[1].words == "urban_sed, 12 test clips by identifier, 3 test clips by fingerprint"
    esc = next(row for row in found.rows if row.name == "esc50")
    assert [one.state if one else None for one in esc.overlaps] == ["unknown", "none found", "unknown"]
    assert [(one.title, one.encoders) for one in found.absences] == [("FSD50k", ("facebook/wav2vec2-large",))]
    assert [(one.task, one.encoder) for one in found.failures] == [("VocalSound", "facebook/wav2vec2-large")]
    vocal = next(row for row in found.rows if row.name == "vocalsound")
    assert vocal.overlaps[2] is None


def test_looked_for_and_not_found_is_no_overlap(tmp_path: Path) -> None:
    clean = {"esc50": Contamination(corpora=(), clips={"hash": 0})}
    found = view(make_results(tmp_path / "a", {"esc50": (0.5, 0.5), "b": (0.5, 0.5)}, contamination=clean))
    states = {row.name: one.state for row in found.rows for one in row.overlaps if one}
    assert states == {"esc50": "none found", "b": "unknown"}


def test_tables_of_ones_own_have_no_weighted_average(tmp_path: Path) -> None:
    found = view(make_results(tmp_path / "a", BEFORE))
    assert found.weighted == ()
    assert found.coverage == ""
    assert found.means[0].title == "Mean"


def test_two_protocols_are_refused_together_and_shown_apart(tmp_path: Path) -> None:
    paths = [make_results(tmp_path / name, BEFORE, protocol=name) for name in ("strict", "xares")]
    with pytest.raises(ReportError, match=r"one protocol, found .*strict: strict; .*xares: xares.*one report for each"):
        read_all(paths)
    assert [view(path).protocol for path in paths] == ["strict", "xares"]


def test_results_without_any_task_are_shown(tmp_path: Path) -> None:
    found = view(make_results(tmp_path / "none", {}, failures=[("esc50", "no audio")], absent=("fsd50k",)))
    assert (found.rows, found.means, found.weighted) == ((), (), ())
    assert [one.task for one in found.failures] == ["ESC-50"]
