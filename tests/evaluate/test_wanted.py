"""Which tasks a run is asked for: converted corpora, published ones, tables; and what is said where one is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import ConfigError, TaskError
from uniwhisper.evaluate.wanted import Wanted, as_wanted, from_corpora, from_tables
from uniwhisper.sources import convert_source

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def corpora(tmp_path, monkeypatch) -> Path:
    """A folder with ESC-50 as published and RAVDESS as converted."""
    monkeypatch.setenv("UNIWHISPER_HOME", str(tmp_path / "home"))
    folder = tmp_path / "corpora"
    folder.mkdir()
    (folder / "esc50").symlink_to(FIXTURES / "esc50" / "xares")
    convert_source("ravdess", folder / "ravdess", FIXTURES / "ravdess" / "xares")
    return folder


def test_published_and_converted_corpora_are_read_when_their_turn_comes(corpora, tmp_path):
    wanted, absent = from_corpora(corpora, ["esc50", "ravdess", "gtzan"], protocol="strict")
    assert [one.name for one in wanted] == ["esc50", "ravdess"]
    assert not (tmp_path / "home").exists(), "nothing is converted before its turn"
    tasks = [one.load()[0] for one in wanted]
    assert [task.name for task in tasks] == ["esc50", "ravdess"]
    assert all(Path(clip.path).is_file() for task in tasks for clip in task.clips)
    assert [path.name.partition("-")[0] for path in (tmp_path / "home" / "clips").iterdir()] == ["esc50"]
    assert [(one.task, one.source) for one in absent] == [("gtzan", "gtzan")]
    assert absent[0].placement.startswith("gtzan/ from https://")
    assert str(corpora) not in absent[0].placement, "results must not name this machine's folders"


def test_a_broken_corpus_fails_alone_and_late(corpora):
    (corpora / "gtzan").mkdir()
    wanted, absent = from_corpora(corpora, ["gtzan", "ravdess"], protocol="strict")
    assert not absent
    with pytest.raises(Exception, match="gtzan"):
        wanted[0].load()
    assert wanted[1].load()[0].name == "ravdess"


def test_unknown_tasks_and_folders_are_refused(corpora):
    with pytest.raises(TaskError, match="did you mean esc50"):
        from_corpora(corpora, ["esc5"], protocol="strict")
    with pytest.raises(ConfigError, match="expected a folder with corpora at"):
        from_corpora(corpora / "none", ["esc50"], protocol="strict")


def test_tables_take_kinds_and_domains(write_table, toy_rows):
    words = [{"path": f"w{i}.txt", "label": f"word {i}", "split": ("train", "test")[i % 2]} for i in range(6)]
    tables = [write_table(toy_rows(12, ["train", "test"]), name="a.csv"), write_table(words, name="eval_b.csv")]
    first, second = from_tables(tables, kinds={"b": "asr"}, domains={"a": "music"})
    assert (first.load()[0].domain, first.load()[0].kind) == ("music", "clip")
    task, notes = second.load()
    assert (task.kind, task.metric, task.has_knn, notes) == ("asr", "iwer", False, ())
    assert [clip.annotation.transcript for clip in task.clips] == [f"word {i}" for i in range(6)]
    with pytest.raises(ConfigError, match="found c"):
        from_tables(tables, kinds={"c": "asr"})


def test_anything_that_is_a_task_can_be_asked_for(write_table, toy_rows):
    table = write_table(toy_rows(12, ["train", "test"]))
    task, _ = as_wanted(table).load()
    again = as_wanted(task, ("noted",))
    assert isinstance(again, Wanted)
    assert again.load() == (task, ("noted",))
    assert as_wanted(again) is again
