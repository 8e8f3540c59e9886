from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from uniwhisper.errors import ManifestError
from uniwhisper.sources import convert_source
from uniwhisper.sources.table import read_table
from uniwhisper.types import Annotation, Event, Question

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        soundfile.write(str(tmp_path / f"{name}.wav"), np.zeros(8_000, np.float32), 16_000)
    return tmp_path


def table(folder: Path, text: str, name: str = "My clips.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def annotation(folder: Path, text: str) -> Annotation:
    (clip,) = read_table(table(folder, text))
    return clip.annotation


def test_the_smallest_table(folder: Path) -> None:
    (clip,) = read_table(table(folder, "path,text\na.wav,Hello there\n"))
    assert (clip.id, clip.source, clip.path) == ("a.wav", "my_clips", str(folder / "a.wav"))
    assert (clip.domain, clip.split, clip.duration_s) == ("speech", "train", 0.5)
    assert clip.annotation == Annotation(transcript="Hello there")


def test_rows_of_one_path_are_one_clip(folder: Path) -> None:
    found = annotation(
        folder,
        "path,kind,text\na.wav,asr,Ahoj\na.wav,translation,Hello\na.wav,caption,A voice.\na.wav,caption,A greeting.\n"
        "a.wav,caption,A voice.\na.wav,question,How many voices? | One.\na.wav,event,Car horn 0.1 0.25; dog 0.3 0.5\n",
    )
    assert found == Annotation(
        transcript="Ahoj",
        translations={"en": "Hello"},
        captions=("A voice.", "A greeting."),
        events=(Event(label="Car horn", onset_s=0.1, offset_s=0.25), Event(label="dog", onset_s=0.3, offset_s=0.5)),
        questions=(Question(question="How many voices?", answer="One."),),
    )


def test_tags_are_read_part_by_part(folder: Path) -> None:
    found = annotation(
        folder, "path,kind,text,dataset\na.wav,tag,emotion: very happy; gender: male; dog bark;,corpus\n"
    )
    assert found.attributes == {"emotion": "very happy", "gender": "male"}
    assert (found.labels, found.label_set) == (("dog bark",), "corpus")


def test_attributes_alone_have_no_label_set(folder: Path) -> None:
    assert annotation(folder, "path,kind,text\na.wav,tag,gender: male\n").label_set == ""


def test_a_time_is_not_an_attribute(folder: Path) -> None:
    assert annotation(folder, "path,kind,text\na.wav,tag,ratio 16:9\n").labels == ("ratio 16:9",)


@pytest.mark.parametrize(("domain", "field"), [("speech", "transcript"), ("sound", "captions"), ("music", "captions")])
def test_text_without_a_kind(domain: str, field: str, folder: Path) -> None:
    assert getattr(annotation(folder, f"path,text,domain\na.wav,Rain,{domain}\n"), field)


def test_an_evaluation_table_is_a_source(folder: Path) -> None:
    (clip,) = read_table(table(folder, "path,label,split,group,transcript\na.wav,dog;cat,fold3,g7,woof\n"))
    assert (clip.split, clip.group, clip.annotation.labels) == ("fold3", "g7", ("dog", "cat"))
    assert clip.annotation.transcript == "woof"


def test_dataset_becomes_the_source(folder: Path) -> None:
    clips = read_table(table(folder, "path,text,dataset\na.wav,x,one\nb.wav,y,two\n"))
    assert [clip.source for clip in clips] == ["one", "two"]


def test_speaker_is_the_group_unless_one_is_given(folder: Path) -> None:
    clips = read_table(table(folder, "path,text,speaker,group\na.wav,x,anna,\nb.wav,y,anna,g\n"))
    assert [clip.group for clip in clips] == ["anna", "g"]


def test_paths_start_from_the_given_root(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = table(tmp_path_factory.mktemp("t"), f"path,text\na.wav,x\n{folder}/b.wav,y\n")
    assert [clip.path for clip in read_table(elsewhere, folder)] == [str(folder / "a.wav"), str(folder / "b.wav")]


def test_spreadsheet_exports_are_read(folder: Path) -> None:
    (clip,) = read_table(table(folder, '\ufeffPath, Text \r\na.wav,"One, ""two""\r\nthree"\r\n\r\n'))
    assert clip.annotation.transcript == 'One, "two"\r\nthree'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ":1: expected a header"),
        ("file,text\na.wav,x\n", ":1: expected a header with the column path"),
        ("path,title\na.wav,x\n", "at least one of text, label, transcript"),
        ("path,text\n", "expected rows below the header"),
        ("path,text\n,x\n", ":2: expected an audio file in column path"),
        ("path,text\na.wav,x\nmissing.wav,y\n", r":3: expected an audio file at .*missing\.wav"),
        ("path,text\na.wav,one, two\n", ":2: expected 2 cells"),
        ("path,text\na.wav,\n", ":2: expected one of text, label, transcript, caption"),
        ("path,text,kind\na.wav,x,asrr\n", ":2: expected kind to be one of asr"),
        ("path,text,kind\na.wav,dog,event\n", ":2: expected an event"),
        ("path,text,kind\na.wav,dog 2 1,event\n", ":2: expected an event"),
        ("path,text,kind\na.wav,Who?,question\n", ":2: expected a question"),
        ("path,text,domain\na.wav,x,noise\n", ":2: clip 'a.wav': expected domain"),
        ("path,text,split\na.wav,x,dev\n", ":2: clip 'a.wav': expected split"),
        ("path,text,duration\na.wav,x,long\n", ":2: expected duration in seconds"),
        ("path,text,duration\na.wav,x,0\n", ":2: expected a positive duration"),
        ("path,text\na.wav,x\na.wav,y\n", ":3: expected one transcript for a.wav, found 'x'"),
        ("path,text,text\na.wav,x,y\n", ":1: expected every column once, found path, text, text"),
        ("path,text\n" + "x" * 5000 + ",y\n", r":2: expected an audio file at .*x, found none"),
        ("path,text,kind\na.wav,dog 0 1e999,event\n", ":2: expected an event"),
        ("path,text,speaker,kind\na.wav,x,p,asr\na.wav,z,q,caption\n", ":3: expected one speaker for a.wav"),
        ("path,text,kind\na.wav,sex: f,tag\na.wav,sex: m,tag\n", ":3: expected one sex for a.wav"),
    ],
)
def test_a_bad_table_is_refused_by_row(text: str, expected: str, folder: Path) -> None:
    with pytest.raises(ManifestError, match=expected) as error:
        read_table(table(folder, text))
    assert "My clips.csv" in str(error.value)


def test_cells_without_a_value_are_empty(folder: Path) -> None:
    rows = pyarrow.table({"path": ["a.wav", "b.wav"], "label": ["dog", None], "caption": [None, "x"]})
    rows = rows.append_column("duration", [[0.25, float("nan")]])
    pyarrow.parquet.write_table(rows, folder / "t.parquet")
    first, second = read_table(folder / "t.parquet")
    assert (first.duration_s, first.annotation.labels, first.annotation.captions) == (0.25, ("dog",), ())
    assert (second.annotation.labels, second.annotation.captions) == ((), ("x",))
    assert second.duration_s > 0
    text = '{"path": "a.wav", "caption": NaN, "label": "dog"}\n'
    assert read_table(table(folder, text, "t.jsonl"))[0].annotation.captions == ()


def test_a_row_that_is_repeated_counts_once(folder: Path) -> None:
    text = "path,text,kind\n" + "a.wav,dog 0 1; dog 0 1,event\n" * 2 + "a.wav,Who? | I.,question\n" * 2
    found = annotation(folder, text)
    assert (len(found.events), len(found.questions)) == (1, 1)


def test_columns_that_differ_in_case_alone_are_refused(folder: Path) -> None:
    text = '{"path": "a.wav", "caption": "x", "Caption": "y"}\n'
    with pytest.raises(ManifestError, match=r"t\.jsonl:1: expected every column once, found path, caption, Caption"):
        read_table(table(folder, text, "t.jsonl"))


def test_a_file_that_is_not_audio(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"not audio")
    with pytest.raises(ManifestError, match=r":2: .*a\.wav"):
        read_table(table(folder, "path,text\na.wav,x\n"))


def test_a_missing_or_foreign_file(folder: Path) -> None:
    with pytest.raises(ManifestError, match="expected a CSV table"):
        read_table(folder / "none.csv")
    (folder / "latin.csv").write_bytes("path,text\na.wav,caf\xe9\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        read_table(folder / "latin.csv")


def test_an_edited_table_is_converted_again(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out_dir = tmp_path_factory.mktemp("out")
    path = table(folder, "path,text\na.wav,x\n")
    assert not convert_source("table", out_dir, path).reused
    assert convert_source("table", out_dir, path).reused
    table(folder, "path,text\na.wav,x\nb.wav,y\n")
    again = convert_source("table", out_dir, path)
    assert (again.reused, again.num_clips) == (False, 2)


def test_a_folder_needs_exactly_one_table(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    table(folder, "path,text\na.wav,x\n", "one.csv")
    table(folder, "path,text\na.wav,x\n", "two.csv")
    with pytest.raises(ManifestError, match=r"found one\.csv, two\.csv"):
        convert_source("table", tmp_path_factory.mktemp("out"), folder)


@pytest.mark.shared
def test_the_reference_mix() -> None:
    if not SHARED.is_dir():
        pytest.skip("the reference pack is not beside the repository")
    clips = read_table(SHARED / "train.csv")
    assert len(clips) == 8_409
    assert sum(bool(clip.annotation.translations) for clip in clips) == 300
    assert sum(bool(clip.annotation.transcript) for clip in clips) == 2_329
    assert {clip.domain for clip in clips} == {"speech", "sound", "music"}
