from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile

from tiny import tone
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.errors import LayoutError, ManifestError, SourceError
from uniwhisper.inputs import open_corpus, read_clips
from uniwhisper.manifest import write_manifest

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of three short files."""
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / f"{name}.wav", tone(0.2, 300), SAMPLE_RATE)
    (tmp_path / "mine.csv").write_text("path,label\na.wav,dog\nb.wav,cat\nc.wav,cat\n", encoding="utf-8")
    return tmp_path / "mine.csv"


def test_a_manifest_its_folder_and_a_table_are_the_same_clips(table: Path) -> None:
    clips = read_clips([table], "TRAIN")
    folder = table.parent / "made"
    write_manifest(folder / "manifest.jsonl", clips)
    (folder / "manifest.jsonl").rename(folder / "renamed.jsonl")
    assert read_clips([folder / "renamed.jsonl"], "TRAIN") == clips
    (folder / "renamed.jsonl").rename(folder / "manifest.jsonl")
    assert read_clips([folder], "TRAIN") == read_clips([folder / "manifest.jsonl"], "TRAIN") == clips
    assert [clip.id for clip in clips] == ["a.wav", "b.wav", "c.wav"]
    assert all(Path(clip.path).is_absolute() for clip in clips)


def test_a_table_of_json_lines_is_no_manifest(table: Path) -> None:
    path = table.with_name("rows.jsonl")
    path.write_text(json.dumps({"path": "a.wav", "label": "dog"}) + "\n", encoding="utf-8")
    assert [clip.annotation.labels for clip in read_clips([path], "TRAIN")] == [("dog",)]


def test_several_inputs_one_after_the_other(table: Path) -> None:
    other = table.with_name("other.csv")
    other.write_text("path,label\na.wav,dog\n", encoding="utf-8")
    assert [clip.source for clip in read_clips([table, other], "TRAIN")] == ["mine", "mine", "mine", "other"]
    assert read_clips([], "EVAL") == []


def test_the_same_clip_in_two_inputs(table: Path) -> None:
    with pytest.raises(ManifestError, match=r"--data: expected ids to be unique within source 'mine', found 'a.wav'"):
        read_clips([table, table], "--data")
    assert len(read_clips([table, table], "EVAL", unique=False)) == 6


def test_what_is_no_input(table: Path) -> None:
    (table.parent / "notes.txt").write_text("x", encoding="utf-8")
    (table.parent / "empty").mkdir()
    for name, found in (("notes.txt", "found"), ("empty", "found"), ("none.csv", "found nothing at")):
        with pytest.raises(
            ManifestError, match=f"EVAL: expected a manifest.jsonl, .*{found} .*{name}. `uniwhisper conv"
        ):
            read_clips([table.parent / name], "EVAL")


@pytest.mark.parametrize("name", ["manifest.jsonl", "rows.jsonl", "rows.csv"])
def test_text_that_is_not_utf8(name: str, table: Path) -> None:
    path = table.with_name(name)
    path.write_bytes(b"path,label\na.wav,\xff\n" if name.endswith("csv") else b'{"path": "\xff"}\n')
    with pytest.raises(ManifestError, match=r"UTF-8"):
        read_clips([path], "TRAIN")


def test_a_corpus_is_read_with_its_audio(tmp_path: Path) -> None:
    root = tmp_path / "esc50"
    shutil.copytree(FIXTURES / "esc50" / "root", root)
    with open_corpus("esc50", root) as corpus:
        clips = list(corpus.clips)
        assert {path.name: count for path, count in corpus.context.rows.items()} == {"esc50.csv": 5}
    assert corpus.problem == ""
    assert len(clips) == 5
    assert {clip.duration_s for clip in clips} == {0.0}
    assert sorted(path.name for path in root.iterdir()) == ["audio", "meta"]


def test_audio_that_a_source_decodes_is_there_while_it_is_looked_at() -> None:
    with open_corpus("asterisk", FIXTURES / "asterisk" / "root") as corpus:
        clips = list(corpus.clips)
        assert clips
        assert all(Path(clip.path).is_file() for clip in clips)
        assert all(Path(clip.path).is_relative_to(corpus.context.audio_dir) for clip in clips)
    assert not any(Path(clip.path).exists() for clip in clips)


def test_annotations_alone_where_the_audio_is_not_there(table: Path) -> None:
    (table.parent / "a.wav").unlink()
    (table.parent / "b.wav").rename(table.parent / "b.flac")
    with open_corpus("table", table) as corpus:
        clips = list(corpus.clips)
    assert "expected an audio file at" in corpus.problem
    assert [clip.id for clip in clips] == ["a.wav", "b.wav", "c.wav"]
    assert [Path(clip.path).name for clip in clips] == ["a.wav", "b.wav", "c.wav"]


def test_audio_of_a_corpus_may_have_been_converted_to_another_format(tmp_path: Path) -> None:
    root = tmp_path / "aishell1"
    shutil.copytree(FIXTURES / "aishell1" / "root", root)
    wavs = root / "data_aishell" / "wav"
    shutil.rmtree(wavs / "train")
    renamed = next((wavs / "dev").rglob("*.wav"))
    renamed.rename(renamed.with_suffix(".flac"))
    with open_corpus("aishell1", root) as corpus:
        clips = {clip.id: Path(clip.path) for clip in corpus.clips}
    assert "wav/train" in corpus.problem
    assert clips[renamed.stem] == renamed.with_suffix(".flac")


def test_annotations_that_cannot_be_read_either(table: Path) -> None:
    table.write_text("path,label\na.wav,dog,cat\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"mine.csv:2: expected 2 cells"), open_corpus("table", table):
        pass
    none = table.parent / "none"
    with pytest.raises(LayoutError, match=r"expected the corpus at .*none, found nothing"), open_corpus("esc50", none):
        pass
    with pytest.raises(SourceError, match="found 'esc51'"), open_corpus("esc51", table):
        pass


def test_an_error_after_the_first_clip_comes_while_reading(tmp_path: Path) -> None:
    root = tmp_path / "esc50"
    shutil.copytree(FIXTURES / "esc50" / "root", root)
    lines = (root / "meta" / "esc50.csv").read_text(encoding="utf-8").splitlines()
    (root / "meta" / "esc50.csv").write_text("\n".join([*lines, lines[1]]), encoding="utf-8")
    with open_corpus("esc50", root) as corpus, pytest.raises(ManifestError, match="ids to be unique within source"):
        list(corpus.clips)
