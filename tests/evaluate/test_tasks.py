"""What every declared task must fulfil; a new module in the folder is tested without being listed anywhere.

The toy corpora of tests/fixtures are converted in both layouts, the publisher's (`root`) and X-ARES's tars (`xares`).
"""

from __future__ import annotations

import ast
import csv
import importlib
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import uniwhisper.evaluate.tasks
from sources.conversion import LAYOUTS, convert_fixture
from uniwhisper.errors import ConfigError, TaskError
from uniwhisper.evaluate.task import PROTOCOLS, XaresSettings
from uniwhisper.evaluate.tasks import build_task, get_task, list_suites, list_tasks, suite
from uniwhisper.manifest import read_manifest
from uniwhisper.sources import get_source, list_sources
from uniwhisper.types import Annotation, Clip, Event

TASKS = list_tasks()
MODULES = sorted(
    path for path in Path(uniwhisper.evaluate.tasks.__file__).parent.glob("*.py") if not path.name.startswith("_")
)
UNUSUAL = {
    "asvspoof2015": {"batch_size": 64, "epochs": 5},
    "libricount": {"batch_size": 64},
    "librispeech_100h": {"batch_size": 4},
    "librispeech_mf": {"crop_s": 5.0},
    "speech_commands_v1": {"batch_size": 64},
    "voxceleb1": {"crop_s": 6.0},
    "voxlingua33": {"batch_size": 64, "crop_s": 10.0},
    "fma_small": {"epochs": 3, "crop_s": 10.0},
    "fsdkaggle2018": {"batch_size": 64, "epochs": 3},
    "fsd50k": {"batch_size": 64, "crop_s": 10.0},
    "vocal_imitation": {"epochs": 20},
}
"""Where X-ARES departs from batches of 32, 10 epochs and whole clips. Source: xares v0.1.3, src/tasks/*.py."""
TOO_SMALL = {
    ("nsynth_instruments", "root"): r"found test \(2\), valid \(1\)",
    ("ravdess", "root"): r"found fold1 \(2\)",
    ("urbansound8k", "root"): r"or folds, of urbansound8k, found fold5 \(3\)",
    ("urbansound8k", "xares"): r"at least two, found 1: ",
    ("voxlingua33", "xares"): r"at least two, found 1: ",
    ("fluent_speech_commands_intents", "xares"): r"expected one label, found none.*do not state them",
}
"""Toy corpora from which a task cannot be built, and what is said about it."""


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory):
    """Return a function that converts the fixture of a source once and returns its clips."""

    @cache
    def convert(source: str, layout: str) -> list[Clip]:
        folder = tmp_path_factory.mktemp(f"{source}-{layout}")
        return read_manifest(convert_fixture(source, folder, layout)[0].manifest)

    return convert


def clip(id: str, split: str, label: str = "a", *, source: str = "esc50", **fields) -> Clip:
    """Return a clip of 12 s."""
    values = {"path": f"/corpus/{id}.wav", "duration_s": 12.0, "domain": "sound"} | fields
    values.setdefault("annotation", Annotation(labels=(label,)))
    return Clip(id=id, source=source, split=split, **values)


def build(name: str, clips, protocol="strict"):
    return build_task(get_task(name), clips, protocol=protocol, where="corpus")


def test_every_module_is_registered() -> None:
    assert [path.stem for path in MODULES] == list(TASKS)
    assert len(TASKS) >= 21


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_declaration_is_a_small_declaration(path: Path) -> None:
    spec = get_task(path.stem)
    assert spec.name == path.stem
    module = importlib.import_module(f"uniwhisper.evaluate.tasks.{path.stem}")
    assert module.__all__ == ["SPEC"]
    text = path.read_text(encoding="utf-8")
    assert "Source:" in (ast.get_docstring(ast.parse(text)) or "")
    assert len(text.splitlines()) <= 90
    assert spec.source in list_sources()
    source = get_source(spec.source).SPEC
    assert "evaluation" in source.uses
    assert spec.num_test_clips <= source.num_clips
    if spec.kind == "clip" and spec.metric == "accuracy":
        assert spec.chance == 1 / spec.num_classes


def test_the_paper_suite_is_its_table(shared: Path) -> None:
    with (shared / "spec" / "paper_tables" / "table2_weights.csv").open(newline="") as file:
        rows = {row["task"]: row for row in csv.DictReader(file)}
    specs = {spec.name: spec for spec in suite("paper")}
    assert set(specs) == set(rows)
    for name, row in rows.items():
        spec = specs[name]
        assert (spec.domain, spec.metric) == (row["domain"], row["metric"])
        assert spec.weight == float(row["mlp_weight"])
        assert spec.knn_weight == (float(row["knn_weight"]) if row["knn_weight"] else None)
        assert spec.has_knn == bool(row["knn_weight"])


def test_suites() -> None:
    assert list_suites() == ("paper", "whisper_aut")
    paper = suite("paper")
    assert len(paper) == 20
    assert (sum(spec.weight or 0 for spec in paper), sum(spec.knn_weight or 0 for spec in paper)) == (37_642, 22_889)
    assert [spec.domain for spec in paper] == ["speech"] * 11 + ["music"] * 3 + ["sound"] * 6
    assert [spec.name for spec in suite("whisper_aut")] == ["speech_commands_v1", "gtzan", "esc50"]
    assert all(get_task(name).suites or get_task(name).weight is None for name in TASKS), "variants count nowhere"
    with pytest.raises(TaskError, match=r"expected one of the suites paper, whisper_aut; found 'papers'; did you mean"):
        suite("papers")


def test_an_unknown_task_is_answered_with_those_spelt_alike() -> None:
    with pytest.raises(TaskError, match=r"found 'gtzn'; did you mean gtzan\?"):
        get_task("gtzn")


@pytest.mark.parametrize("name", TASKS)
def test_settings_are_those_of_xares(name: str) -> None:
    assert get_task(name).xares == XaresSettings(**UNUSUAL.get(name, {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "ESC 50"}, "snake_case"),
        ({"about": ""}, "a non-empty about"),
        ({"domain": "noise"}, "a domain of"),
        ({"metric": "iwer"}, "distinct metrics of"),
        ({"other_metrics": ("accuracy",)}, "distinct metrics of"),
        ({"num_classes": 0}, "classes unless words"),
        ({"chance": 1.5}, r"chance in \[0, 1\)"),
        ({"keeps": "some"}, "keep and its description"),
        ({"kind": "frame", "metric": "segment_f1"}, "kNN for tasks with a label"),
        ({"weight": None}, "a kNN weight beside"),
        ({"suites": ("papers",)}, "suites of"),
    ],
)
def test_a_contradictory_declaration_is_refused(change, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(get_task("esc50"), **change)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TASKS)
def test_builds_from_both_layouts(toy, name: str, layout: str, protocol) -> None:
    spec = get_task(name)
    clips = toy(spec.source, layout)
    if (name, layout) in TOO_SMALL:
        with pytest.raises(TaskError, match=TOO_SMALL[name, layout]):
            build(name, clips, protocol)
        return
    task, notes = build(name, clips, protocol)
    assert 0 < len(task.clips) <= len(clips)
    assert list(task.ids) == sorted(task.ids)
    assert all(Path(clip.path).is_absolute() and Path(clip.path).is_file() for clip in task.clips)
    facts = ("name", "title", "source", "domain", "kind", "metric", "other_metrics", "weight", "knn_weight", "has_knn")
    assert all(getattr(task, fact) == getattr(spec, fact) for fact in facts)
    assert task.xares == spec.xares
    assert list(task.classes) == sorted(set(task.classes))
    assert bool(task.labels) == (spec.kind in ("clip", "multilabel"))
    if task.labels:
        assert len(task.targets()) == len(task.clips)
    if spec.kind == "clip":
        assert {len(labels) for labels in task.labels} == {1}
    if spec.kind == "asr":
        assert all(clip.annotation.transcript for clip in task.clips)
    assert task.groups is None or (task.group_kind == spec.group_kind and "" not in task.groups)
    assert spec.num_test_clips == 0 or any("not the whole corpus" in note for note in notes), "toys are small"
    again, _ = build(name, clips[::-1], protocol)
    assert again.digest == task.digest


@pytest.mark.parametrize("layout", LAYOUTS)
def test_audio_of_both_layouts_is_read(toy, layout: str) -> None:
    from uniwhisper.clips import read_clip

    task, _ = build("librispeech_mf", toy("librispeech", layout), "xares")
    assert all(len(read_clip(clip)) > 0 for clip in task.clips)


def test_desed_leaves_out_labels_without_times_and_keeps_silence(toy) -> None:
    clips = toy("desed", "root")
    task, notes = build("desed", clips)
    assert not any("weak" in clip.id for clip in task.clips)
    assert any(not clip.annotation.events for clip in task.clips)
    assert set(task.splits) == {"train", "valid", "test"}
    assert f"only clips whose events have times, and silent ones: {len(task.clips)} of {len(clips)}" in notes[0]
    relaxed, notes = build("desed", clips, "xares")
    assert set(relaxed.splits) == {"train", "test"}
    assert any("1 clips of the publisher's validation part are unused" in note for note in notes)


def test_librispeech_takes_the_clean_hundred_hours_only(toy) -> None:
    for name in ("librispeech_100h", "librispeech_mf"):
        task, notes = build(name, toy("librispeech", "root"))
        subsets = {clip.annotation.metadata["subset"] for clip in task.clips}
        assert subsets == {"train-clean-100", "dev-clean", "test-clean"}
        assert "only train-clean-100, dev-clean and test-clean: 3 of 4 clips" in notes[0]


def test_intents_join_the_three_slots(toy) -> None:
    task, _ = build("fluent_speech_commands_intents", toy("fluent_speech_commands", "root"))
    assert all(label.count("+") == 2 for label in task.classes)
    assert task.weight is None


def test_xares_hears_the_first_crop() -> None:
    clips = [clip(f"{i}", split, "ab"[i % 2], source="fma_small") for i, split in enumerate(["train", "test"] * 4)]
    clips.append(replace(clips[0], id="short", duration_s=2.5))
    task, notes = build("fma_small", clips, "xares")
    assert {clip.id: clip.duration_s for clip in task.clips} == {str(i): 10.0 for i in range(8)} | {"short": 2.5}
    assert any("8 of 9 clips are cut to their first 10 s" in note for note in notes)
    whole, notes = build("fma_small", clips)
    assert {clip.duration_s for clip in whole.clips} == {12.0, 2.5}
    assert not any("cut" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clips: [], "expected clips of source esc50 for task esc50, found no clips"),
        (lambda clips: [*clips, clip("x", "fold1", source="gtzan")], "found clips of gtzan"),
        (lambda clips: [*clips, clips[0]], "expected each clip once, found 1 ids twice: 'c0'"),
        (lambda clips: clips[:1], r"or folds, of esc50, found fold1 \(1\).*sources show esc50"),
        (lambda clips: [replace(each, split="test") for each in clips], r"found test \(60\)"),
        (
            lambda clips: [replace(clips[0], annotation=Annotation()), *clips[1:]],
            "'c0': .* expected one label, found none",
        ),
        (lambda clips: [replace(clips[0], annotation=Annotation(labels=("a", "b"))), *clips[1:]], "expected one label"),
        (lambda clips: [clip(f"c{i}", f"fold{i % 2}", "a") for i in range(9)], r"at least two, found 1: 'a'"),
        (
            lambda clips: [clip(f"c{i}", f"fold{i % 2}", f"{i}") for i in range(51)],
            r"expected 50 classes.*found 51: '0'",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(change, message: str) -> None:
    clips = [clip(f"c{i}", f"fold{i % 5 + 1}", "abc"[i % 3]) for i in range(60)]
    with pytest.raises(TaskError, match=f"corpus: .*{message}"):
        build("esc50", change(clips))


def test_unknown_protocol_and_missing_words() -> None:
    with pytest.raises(ConfigError, match="expected protocol to be one of strict, xares; found 'fair'"):
        build("esc50", [], "fair")
    subset = Annotation(metadata={"subset": "test-clean"})
    clips = [clip("u", "train", source="librispeech", annotation=subset), clip("v", "test", source="librispeech")]
    with pytest.raises(TaskError, match=r"or folds, of librispeech, found train \(1\)"):
        build("librispeech_100h", clips)
    with pytest.raises(TaskError, match=r"expected a transcript of every clip, found 2 without: 'u'"):
        build("librispeech_100h", [clips[0], replace(clips[0], id="v", split="test")])
    with pytest.raises(TaskError, match="expected train-clean-100, dev-clean and test-clean for task librispeech_100h"):
        build("librispeech_100h", clips[1:])


def test_frames_without_events_are_refused() -> None:
    clips = [clip(f"{i}", split, source="desed", annotation=Annotation()) for i, split in enumerate(["train", "test"])]
    with pytest.raises(TaskError, match="expected 10 classes of desed, at least two, found 0"):
        build("desed", clips)
    events = [Event(label=label, onset_s=0.0, offset_s=1.0) for label in ("Dog", "Cat")]
    heard = replace(clips[0], annotation=Annotation(events=tuple(events)))
    task, notes = build("desed", [heard, clips[1]])
    assert task.classes == ("Cat", "Dog")
    assert "2 of 10 classes are there: not the whole corpus" in notes


def test_unnamed_groups_stand_for_themselves() -> None:
    clips = [clip(f"c{i}", f"fold{i % 5 + 1}", "ab"[i % 2], group=["", "r1", "r2"][i % 3]) for i in range(30)]
    task, notes = build("esc50", clips)
    assert task.groups is not None
    assert Counter(Counter(task.groups).values()) == {10: 2, 1: 10}
    assert any("10 of 30 clips state no recording: each stands for itself" in note for note in notes)
    alone, notes = build("esc50", [replace(each, group=each.id) for each in clips])
    assert alone.groups is None, "groups of one clip say nothing"
    assert not any("state no" in note for note in notes)
