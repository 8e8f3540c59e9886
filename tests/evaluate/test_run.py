"""The whole line on toy files: what is written, reused, refused and compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tiny import tiny_whisper
from uniwhisper.cache import EmbeddingCache
from uniwhisper.embed import load
from uniwhisper.errors import ConfigError, EncoderError, ReportError
from uniwhisper.evaluate.asr import TINY
from uniwhisper.evaluate.compare import compare
from uniwhisper.evaluate.maps import read_map_clips
from uniwhisper.evaluate.mock import mock_tasks
from uniwhisper.evaluate.predictions import read_predictions
from uniwhisper.evaluate.probes import ProbeConfig
from uniwhisper.evaluate.render import render_table
from uniwhisper.evaluate.results import load_predictions, read_results
from uniwhisper.evaluate.run import Settings, evaluate
from uniwhisper.evaluate.wanted import from_tables

QUICK = ProbeConfig(learning_rates=(1e-2, 1e-1), batch_size=16, max_epochs=10)


def judge(encoder, tables, out, *, domains=None, seeds=2, **options):
    settings = Settings(seeds=seeds, probe=QUICK, **options)
    cache = EmbeddingCache(out.parent / "cache.sqlite")
    return evaluate(encoder, from_tables(tables, domains=domains), out, settings, cache=cache, progress=False)


@pytest.fixture
def tables(write_table, toy_rows) -> list[Path]:
    folds = write_table(toy_rows(120, [f"fold{i}" for i in range(4)], num_groups=6), name="eval_folds.csv")
    named = write_table(toy_rows(120, ["train", "test"]), name="named.csv")
    return [folds, named]


def test_scores_files_and_round_trip(encoder, tables, tmp_path):
    results = judge(encoder, tables, tmp_path / "out", domains={"folds": "speech", "named": "sound"})
    assert [task.name for task in results.tasks] == ["folds", "named"]
    assert not results.failures
    folds, named = results.tasks
    assert (folds.num_folds, folds.num_test_clips, folds.resampling_unit) == (4, 120, "group")
    assert (named.scheme, named.num_test_clips, named.resampling_unit) == ("train/test", 60, "clip")
    for task in results.tasks:
        assert task.chance == pytest.approx(1 / 3)
        assert len(task.probe.per_seed) == 2
        assert len(task.probe.learning_rates) == task.num_folds
        for score in (task.knn, task.probe):
            assert 0.45 < score.score <= 1.0
            assert score.low <= score.score <= score.high
    assert set(results.means) == {"all", "speech", "sound"}
    assert results.means["all"].knn.score == pytest.approx((folds.knn.score + named.knn.score) / 2)
    assert read_results(tmp_path / "out") == results
    assert results.protocol["name"] == "strict"
    assert json.loads((tmp_path / "out" / "results.json").read_text())["schema"] == "uniwhisper.results"
    stored = load_predictions(results, ["folds"])["folds"]
    assert np.mean(stored.probe_scores("accuracy")) == pytest.approx(folds.probe.score)


def test_every_file_is_embedded_once_and_in_absolute_paths(encoder, tables, tmp_path):
    judge(encoder, tables, tmp_path / "out")
    assert len(encoder.embedded) == len(set(encoder.embedded)) == 120
    assert all(path.is_absolute() for path in encoder.embedded)


def test_frames_are_recorded(encoder, tables, tmp_path):
    assert judge(encoder, tables[:1], tmp_path / "out", frames="encoder").protocol["frames"] == "encoder"


def test_the_same_run_writes_the_same_bytes(make_encoder, tables, tmp_path):
    for name in ("one", "two"):
        judge(make_encoder(), tables, tmp_path / name)
    for file in ("results.json", "predictions/folds.parquet", "embeddings.npz"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_changing_test_labels_changes_no_prediction(make_encoder, write_table, toy_rows, tmp_path):
    rows = toy_rows(120, ["train", "test"], num_groups=12)
    before = judge(make_encoder(), [write_table(rows, name="before.csv")], tmp_path / "before")
    for row in rows:
        if row["split"] == "test":
            row["label"] = {"a": "b", "b": "c", "c": "new"}[row["label"]]
    after = judge(make_encoder(), [write_table(rows, name="after.csv")], tmp_path / "after")
    first = read_predictions(tmp_path / "before" / before.tasks[0].predictions)
    second = read_predictions(tmp_path / "after" / after.tasks[0].predictions)
    np.testing.assert_array_equal(first.knn, second.knn)
    np.testing.assert_array_equal(first.probe, second.probe)
    assert first.truth.tolist() != second.truth.tolist()
    assert before.tasks[0].probe.learning_rates == after.tasks[0].probe.learning_rates


def test_a_failing_task_is_named_and_the_others_go_on(make_encoder, tables, write_table, toy_rows, tmp_path):
    asr = write_table([{"path": f"c{i}.txt", "label": f"t{i}", "split": "train"} for i in range(30)], name="asr.csv")
    broken = write_table(toy_rows(30, ["train", "test"], prefix="x"), name="broken.csv")
    (tmp_path / "x4.txt").write_text("not a number", encoding="utf-8")
    results = judge(make_encoder(), [asr, broken, *tables], tmp_path / "out")
    assert [task.name for task in results.tasks] == ["folds", "named"]
    assert [failure.task for failure in results.failures] == ["asr", "broken"]
    assert "transcripts or identifiers" in results.failures[0].error
    assert "ValueError" in results.failures[1].error
    assert results.means["all"].tasks == ("folds", "named")
    assert "failed: asr: " in render_table(results)


def test_all_tasks_failing_still_writes_results(encoder, write_table, toy_rows, tmp_path):
    table = write_table([{**row, "label": "a"} for row in toy_rows(30, ["train", "test"])], name="one.csv")
    results = judge(encoder, [table], tmp_path / "out")
    assert results.means == {}
    assert len(read_results(tmp_path / "out").failures) == 1


@pytest.mark.parametrize("bad", ["nan", "rows", "flat"])
def test_bad_embeddings_are_refused(tables, tmp_path, bad):
    class Bad:
        def embed(self, paths):
            values = np.ones((len(paths), 3), dtype=np.float32)
            if bad == "nan":
                values[1, 1] = np.nan
            return {"nan": values, "rows": values[1:], "flat": values[:, 0]}[bad]

    results = judge(Bad(), tables, tmp_path / "out")
    assert len(results.failures) == 2
    assert "expected" in results.failures[0].error
    assert EncoderError.__name__ not in results.failures[0].error


def test_overlap_is_a_failure_or_a_note(encoder, write_table, toy_rows, tmp_path):
    rows = toy_rows(60, ["train", "test"], num_groups=5)
    rows[0]["group"] = rows[3]["group"] = "both"
    table = write_table(rows)
    refused = judge(encoder, [table], tmp_path / "refused")
    assert "both in test and outside it: both" in refused.failures[0].error
    dropped = judge(encoder, [table], tmp_path / "dropped", overlap="drop")
    assert any("left out" in note for note in dropped.tasks[0].notes)
    assert dropped.protocol["overlap"] == "drop"


def test_a_second_run_reuses_what_has_not_changed(make_encoder, tables, write_table, toy_rows, tmp_path):
    first = judge(make_encoder(), tables, tmp_path / "out")
    again = make_encoder()
    second = judge(again, tables, tmp_path / "out", domains={"named": "music"})
    assert not again.embedded
    assert second.tasks[0] == first.tasks[0]
    assert second.task("named").domain == "music"
    assert [clips.task for clips in read_map_clips(tmp_path / "out")] == ["folds", "named"]
    (tmp_path / "c5.txt").write_text("1 2 3 4 ", encoding="utf-8")
    changed_file = make_encoder()
    judge(changed_file, tables, tmp_path / "out")
    assert [path.name for path in changed_file.embedded] == ["c5.txt"], "of the others the vectors are kept"
    other_weights = make_encoder(fingerprint="toy-2")
    judge(other_weights, tables, tmp_path / "out")
    assert other_weights.embedded
    nameless = make_encoder(fingerprint="")
    for _ in range(2):
        judge(nameless, tables, tmp_path / "out")
    assert len(nameless.embedded) == 480, "without a fingerprint nothing is kept, not even between two tasks"


def test_damaged_predictions_are_made_again(make_encoder, tables, tmp_path):
    first = judge(make_encoder(), tables, tmp_path / "out")
    (tmp_path / "out" / "predictions" / "folds.parquet").write_bytes(b"")
    again = judge(make_encoder(), tables, tmp_path / "out")
    assert again == first
    assert (
        read_predictions(tmp_path / "out" / "predictions" / "folds.parquet").digest()
        == first.tasks[0].predictions_digest
    )


def test_multilabel_task(encoder, write_table, toy_rows, tmp_path):
    rows = toy_rows(90, ["train", "valid", "test"])
    for row in rows[::5]:
        row["label"] += ";z"
    task = judge(encoder, [write_table(rows)], tmp_path / "out").tasks[0]
    assert (task.metric, task.majority) == ("map", None)
    assert task.probe.score > task.chance
    assert task.probe.low <= task.probe.score <= task.probe.high


def test_compare_and_render(make_encoder, tables, tmp_path):
    domains = {"folds": "speech", "named": "sound"}
    a = judge(make_encoder("a", scale=50.0), tables, tmp_path / "a", domains=domains)
    b = judge(make_encoder("b"), tables, tmp_path / "b", domains=domains)
    comparison, reverse = compare(a, b), compare(b, a)
    for delta, back in zip(comparison.tasks, reverse.tasks, strict=True):
        assert delta.knn.score == pytest.approx(b.task(delta.name).knn.score - a.task(delta.name).knn.score)
        assert delta.knn.low <= delta.knn.score <= delta.knn.high
        assert (delta.probe.low, delta.probe.high) == pytest.approx((-back.probe.high, -back.probe.low))
    assert set(comparison.means) == {"all", "speech", "sound"}
    assert comparison.means["all"].knn.score == pytest.approx(np.mean([t.knn.score for t in comparison.tasks]))
    same = compare(a, a)
    assert (same.means["all"].knn.low, same.means["all"].knn.high) == (0.0, 0.0)
    plain, paired = render_table(b), render_table(b, a)
    assert "mean, 2 tasks" in plain
    assert "delta" not in plain
    assert "delta kNN" in paired
    assert f"{100 * b.tasks[0].knn.score:.1f} [" in paired
    assert all(line.isascii() for line in paired.splitlines())


def test_compare_refuses_other_protocols_other_tasks_and_other_predictions(make_encoder, tables, tmp_path):
    a = judge(make_encoder(), tables, tmp_path / "a")
    with pytest.raises(ReportError, match=r"expected one protocol.*probe"):
        compare(a, judge(make_encoder(), tables, tmp_path / "b", seeds=1))
    only = judge(make_encoder(), tables[:1], tmp_path / "only")
    assert compare(a, only).only_a == ("named",)
    assert "only toy has: named" in render_table(only, a)
    with pytest.raises(ReportError, match="expected tasks in common"):
        compare(only, judge(make_encoder(), tables[1:], tmp_path / "rest"))
    predictions = tmp_path / "only" / only.tasks[0].predictions
    predictions.write_bytes((tmp_path / "a" / a.tasks[1].predictions).read_bytes())
    with pytest.raises(ReportError, match="expected the predictions that"):
        compare(a, only)


def test_bad_arguments(encoder, tables, tmp_path):
    with pytest.raises(ConfigError, match="no task"):
        judge(encoder, [], tmp_path / "out")
    with pytest.raises(ConfigError, match="different file names, found two called named"):
        judge(encoder, [tables[1], tables[1]], tmp_path / "out")
    with pytest.raises(ConfigError, match="expected domains and kinds for the tasks"):
        judge(encoder, tables, tmp_path / "out", domains={"esc": "sound"})
    with pytest.raises(ConfigError, match="expected a device that torch can use, found 'abacus'"):
        judge(encoder, tables, tmp_path / "out", device="abacus")
    with pytest.raises(ConfigError, match="expected overlap"):
        judge(encoder, tables, tmp_path / "out", overlap="ignore")


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot read results"), ("{", "cannot read results"), ("[]", "expected uniwhisper.results version 2"),
     ('{"schema": "uniwhisper.results", "version": 9}', "version 2, found"),
     ('{"schema": "uniwhisper.results", "version": 2}', "found a mismatch: 'encoder'")],
)  # fmt: skip
def test_unreadable_results(tmp_path, text, message):
    if text is not None:
        (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match=message):
        read_results(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["strict", "xares"])
def test_one_results_json_however_many_threads(tmp_path, monkeypatch, protocol):
    tasks = mock_tasks(tmp_path / "clips", protocol=protocol)
    encoder = load(tiny_whisper(tmp_path / "whisper", width=32, heads=2, layers=1))
    files = []
    for name, threads in (("one", "1"), ("two", "2"), ("again", "2")):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        place = tmp_path / name
        settings = Settings(protocol=protocol, seeds=2, asr=TINY)
        results = evaluate(
            encoder,
            tasks,
            place,
            settings,
            cache=EmbeddingCache(tmp_path / f"{name}.sqlite"),
            frames=tmp_path / f"{name}-frames",
            progress=False,
        )
        assert not results.failures
        assert {task.kind for task in results.tasks} == {"clip", "multilabel", "frame", "asr"}
        files.append({path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()})
    assert "results.json" in files[0]
    assert files[0] == files[1] == files[2]
