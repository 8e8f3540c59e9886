"""Whatever a file holds, its reader gives values that are valid or one error of ours that names the file."""

from __future__ import annotations

import io
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uniwhisper.errors import UniWhisperError
from uniwhisper.manifest import check_clip, clip_from_json, clip_to_json, read_manifest, write_manifest
from uniwhisper.sources.table import read_table
from uniwhisper.types import DOMAINS, Annotation, Clip, Event, Note, Question

from .cases import EXAMPLES
from .mutations import mutate
from .readers import READERS, Reader

pytestmark = pytest.mark.slow

many = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tried(reader: Reader, path: Path, data: bytes) -> bool:
    """Return whether the reader took the content; otherwise it must have said which file it did not take."""
    path.write_bytes(data)
    try:
        reader.read(path)
    except UniWhisperError as e:
        message = str(e)
    else:
        return True
    assert path.name in message, f"an error names the file: {message}"
    assert len(message) < 3100, f"an error is read by people: {message[:500]}"
    return False


@pytest.fixture(params=READERS, ids=[reader.name for reader in READERS])
def reader(request: pytest.FixtureRequest) -> Reader:
    if request.param.name == "m4a":
        pytest.importorskip("av", reason="m4a is decoded by the starter extra")
    return request.param


def test_a_good_file_is_read(reader: Reader, tmp_path: Path) -> None:
    assert tried(reader, tmp_path / reader.file, reader.good())


def test_damaged_content(reader: Reader, tmp_path: Path) -> None:
    good = reader.good()
    for seed in range(EXAMPLES):
        try:
            tried(reader, tmp_path / reader.file, mutate(good, seed))
        except Exception as e:
            raise AssertionError(f"seed {seed}: {e!r}") from e


lines = st.lists(st.text(string.ascii_letters + string.digits + " ,;:|\t\"'-./_\u00e9\u2028", max_size=30), max_size=6)


@many
@given(
    data=st.one_of(st.binary(max_size=400), lines.map("\n".join).map(str.encode), st.text(max_size=99).map(str.encode))
)
def test_arbitrary_content(reader: Reader, tmp_path: Path, data: bytes) -> None:
    tried(reader, tmp_path / reader.file, data)
    tried(reader, tmp_path / reader.file, reader.good()[:64] + data)


numbers = st.one_of(
    st.floats(), st.integers(), st.sampled_from([-1, 0, 1e308, 10**400, 2**63, 127, 128, 0.5, float("nan"), True])
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = (
    *("id", "source", "path", "split", "duration_s", "domain", "language", "speaker", "group", "license"),
    *("upstream_ids", "start_s", "offset_bytes", "num_bytes"),
)
PARTS = (
    *("transcript", "translations", "captions", "labels", "label_set", "attributes", "events", "notes", "questions"),
    *("votes", "metadata"),
)
TIMED = st.fixed_dictionaries({"onset_s": numbers, "offset_s": numbers}, optional={"label": values, "pitch": numbers})
CLIP = {"id": "a", "source": "toy", "path": "a.wav", "split": "train", "duration_s": 1.0, "domain": "sound"}


@many
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), values, max_size=3),
    parts=st.dictionaries(
        st.sampled_from(PARTS), st.one_of(values, st.lists(TIMED, max_size=2), st.lists(values, max_size=3)), max_size=3
    ),
)
def test_manifest_rows(tmp_path: Path, fields: dict[str, Any], parts: dict[str, Any]) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps({**CLIP, "annotation": parts, **fields}) + "\n", encoding="utf-8")
    try:
        (clip,) = read_manifest(path)
    except UniWhisperError as e:
        message = str(e)
    else:
        message = ""
    if message:
        assert str(path) in message
        return
    write_manifest(tmp_path / "again.jsonl", [clip])
    assert read_manifest(tmp_path / "again.jsonl") == [clip]


words = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12).filter(str.strip)
free = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
seconds = st.floats(0, 1e6, allow_nan=False)
spans = st.tuples(seconds, seconds).map(sorted)
annotations = st.builds(
    Annotation,
    transcript=free,
    translations=st.dictionaries(words, free, max_size=2),
    captions=st.lists(words, max_size=2).map(tuple),
    labels=st.lists(words, max_size=3).map(tuple),
    label_set=free,
    attributes=st.dictionaries(words, free, max_size=2),
    events=st.lists(
        st.builds(lambda label, span: Event(label=label, onset_s=span[0], offset_s=span[1]), words, spans), max_size=2
    ).map(tuple),
    notes=st.lists(
        st.builds(
            lambda pitch, span, name: Note(pitch=pitch, onset_s=span[0], offset_s=span[1], instrument=name),
            st.integers(0, 127),
            spans,
            free,
        ),
        max_size=2,
    ).map(tuple),
    questions=st.lists(st.builds(Question, question=free, answer=free), max_size=2).map(tuple),
    votes=st.dictionaries(words, st.integers(0, 99), max_size=2),
    metadata=st.dictionaries(words, free, max_size=2),
)
clips = st.builds(
    Clip,
    id=words,
    source=words,
    path=words.map(lambda name: f"/{name}"),
    split=st.sampled_from(["train", "valid", "test", "fold1", "fold10"]),
    duration_s=st.floats(1e-3, 1e6),
    domain=st.sampled_from(DOMAINS),
    annotation=annotations,
    language=free,
    speaker=free,
    group=free,
    license=free,
    upstream_ids=st.lists(words, max_size=2).map(tuple),
    start_s=seconds,
    offset_bytes=st.integers(0, 2**62),
    num_bytes=st.integers(0, 2**62),
)


@many
@given(clip=clips)
def test_a_valid_clip_survives_json_and_the_file(tmp_path: Path, clip: Clip) -> None:
    assert check_clip(clip, "here") is clip
    assert clip_from_json(json.loads(json.dumps(clip_to_json(clip))), "here") == clip
    path = tmp_path / "manifest.jsonl"
    assert write_manifest(path, [clip]) == 1
    (back,) = read_manifest(path)
    assert Path(back.path) == Path(clip.path)
    assert clip_to_json(back) == {**clip_to_json(clip), "path": back.path}


COLUMNS = (
    *("path", "text", "label", "transcript", "caption", "kind", "domain", "language", "speaker", "group", "dataset"),
    *("split", "duration", "license", "upstream", "Path", "other"),
)
cells = st.one_of(
    values,
    st.sampled_from(
        [
            *(
                "a.wav",
                "./a.wav",
                "none.wav",
                "/etc/passwd",
                "../a.wav",
                "",
                "asr",
                "event",
                "tag",
                "question",
                "dog 0 1",
            ),
            *("dog 1 0", "dog 0 1e999", "a | b", "x: y", "speech", "sound", "test", "fold0", "0.005", "-1", "nan"),
            *("freesound:7", "x\x00y", "y" * 5000, "\u0661"),
        ]
    ),
)
rows = st.lists(
    st.dictionaries(st.sampled_from(COLUMNS), cells, max_size=5).map(
        lambda row: {"path": "a.wav", "label": "dog", **row}
    ),
    min_size=1,
    max_size=4,
)


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    header = list(dict.fromkeys(name for row in rows for name in row))
    lines = [header, *([str(row.get(name, "")) for name in header] for row in rows)]
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines]
    return "\n".join(quoted).encode(errors="surrogatepass")


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Return a table of the columns that Parquet can hold, as text where the cells are of several types."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        cells = [row.get(name) for row in rows]
        try:
            columns[name] = pyarrow.array(cells)
        except (pyarrow.ArrowException, ValueError, OverflowError, TypeError):
            columns[name] = pyarrow.array([repr(cell) for cell in cells])
    target = io.BytesIO()
    try:
        pyarrow.parquet.write_table(pyarrow.table(columns), target)
    except (pyarrow.ArrowException, ValueError):
        pyarrow.parquet.write_table(pyarrow.table({"path": ["a.wav"], "label": ["dog"]}), target)
    return target.getvalue()


@many
@pytest.mark.parametrize(("name", "write"), [("t.csv", as_csv), ("t.jsonl", as_jsonl), ("t.parquet", as_parquet)])
@given(rows=rows)
def test_table_rows(
    tmp_path: Path, name: str, write: Callable[[list[dict[str, Any]]], bytes], rows: list[dict[str, Any]]
) -> None:
    if not (tmp_path / "a.wav").exists():
        soundfile.write(str(tmp_path / "a.wav"), np.zeros(160, np.float32), 16_000)
    path = tmp_path / name
    path.write_bytes(write(rows))
    message, manifest = "", tmp_path / "manifest.jsonl"
    try:
        for clip in (found := read_table(path)):
            check_clip(clip, name)
        write_manifest(manifest, found)  # half a surrogate pair only shows here
    except UniWhisperError as e:
        message = str(e)
    if message:
        assert name in message or manifest.name in message
        assert len(message) < 3100
    else:
        assert len(read_manifest(manifest)) == len(found)
