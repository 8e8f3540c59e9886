from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run, gigaspeech
from uniwhisper.sources._context import Context

SEGMENT: dict[str, Any] = {
    "sid": "POD1_S1",
    "speaker": "N/A",
    "begin_time": 1.0,
    "end_time": 2.0,
    "text_tn": "HELLO",
    "subsets": ["{XL}"],
}
RECORDING: dict[str, Any] = {"aid": "POD1", "path": "audio/podcast/P0/POD1.opus", "url": "https://x.org", "duration": 9}


def write(root: Path, segment: dict[str, Any], recording: dict[str, Any] | None = None) -> Path:
    audios = [{**RECORDING, **(recording or {}), "segments": [{**SEGMENT, **segment}]}]
    (root / "GigaSpeech.json").write_text(json.dumps({"version": "v1.0.0", "audios": audios}))
    return root


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"begin_time": -1}, "begin_time: expected a number from 0 to inf, found -1"),
        ({"end_time": 0.5}, "end_time: expected a number from 1 to inf, found 0.5"),
        ({"end_time": "soon"}, "end_time: expected a number"),
        ({"text_tn": "HI <UNK>"}, r"expected tags out of \['COMMA', .*found \['UNK'\]"),
        ({"subsets": 5}, "expected a list of subsets, found 5"),
        ({"subsets": ["{XXL}"]}, r"expected subsets out of XL, .* found \['XXL'\]"),
    ],
)
def test_a_broken_segment_is_named(tmp_path: Path, segment: dict[str, Any], message: str) -> None:
    where = r"GigaSpeech\.json: recording 1 \(POD1\): segment 0 \(POD1_S1\): "
    with pytest.raises(LayoutError, match=where + message):
        dry_run("gigaspeech", write(tmp_path, segment))


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ({"path": "../other.opus"}, "expected a path below the corpus's folder"),
        ({"aid": ""}, "expected a text 'aid'"),
        ({"duration": None}, "duration: expected a number from 0 to inf, found None"),
    ],
)
def test_a_broken_recording_is_named(tmp_path: Path, recording: dict[str, Any], message: str) -> None:
    with pytest.raises(LayoutError, match=rf"GigaSpeech\.json: recording 1.*{message}"):
        dry_run("gigaspeech", write(tmp_path, {}, recording))


@pytest.mark.parametrize(
    "content", [b'{"audios": [{"aid": "A", "segments": [', b"\xff\xfe", b'{"audios": [1, }', b'{"audios": [{"a": [[1']
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "GigaSpeech.json").write_bytes(content)
    with pytest.raises(LayoutError, match=r"GigaSpeech\.json: (expected JSON|recording 1: expected an object)"):
        dry_run("gigaspeech", tmp_path)


def test_deep_nesting_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    for content in ('{"audios": ' + "[" * 100_000, '{"a": ' * 100_000):
        (tmp_path / "GigaSpeech.json").write_text(content)
        with pytest.raises(LayoutError, match="objects or lists in one another, more than 16 deep"):
            dry_run("gigaspeech", tmp_path)


def test_a_file_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "GigaSpeech.json").write_text('{"dataset": "GigaSpeech"}')
    with pytest.raises(LayoutError, match="expected recordings under the key audios, found none"):
        dry_run("gigaspeech", tmp_path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.youtube.com/watch?v=abcDEF_-123", ("youtube:abcDEF_-123@1-2",)),
        ("https://www.youtube.com/watch?t=3&v=abcDEF_-123&x=1", ("youtube:abcDEF_-123@1-2",)),
        ("https://youtu.be/abcDEF_-123", ("youtube:abcDEF_-123@1-2",)),
        ("https://www.youtube.com/channel/abcDEF_-123", ()),
        ("https://example.org/v=abcDEF_-123", ()),
    ],
)
def test_videos_are_identified_with_their_span(tmp_path: Path, url: str, expected: tuple[str, ...]) -> None:
    (clip,) = dry_run("gigaspeech", write(tmp_path, {}, {"url": url})).clips
    assert clip.upstream_ids == expected


def test_memory_holds_one_recording_at_a_time(tmp_path: Path) -> None:
    text = json.dumps({**RECORDING, "segments": [{**SEGMENT, "text_tn": "WORD " * 20}] * 50})
    path = tmp_path / "GigaSpeech.json"
    path.write_text(f'{{"audios": [{", ".join([text] * 70)}]}}')
    ctx = Context(source="gigaspeech", out_dir=tmp_path, dry_run=True)
    tracemalloc.start()
    json.loads(path.read_bytes())
    whole = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    assert sum(1 for _ in gigaspeech.convert(tmp_path, ctx)) == 3_500
    streamed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert streamed < whole / 3, (streamed, whole)
    assert ctx.rows[path] == 3_500
