"""Everything that reads a file of somebody else's: how it is called, what it may return, and one good file for it."""

from __future__ import annotations

import gzip
import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile

from sources.conversion import FIXTURES
from sources.test_debian import deb_bytes
from uniwhisper import audio
from uniwhisper.files import read_json as read_own_json
from uniwhisper.files import read_jsonl
from uniwhisper.manifest import check_clip, read_manifest
from uniwhisper.sources import Context
from uniwhisper.sources._contours import read_contours
from uniwhisper.sources._debian import unpack_package
from uniwhisper.sources._jams import read_jams
from uniwhisper.sources._librispeech import read_table as read_librispeech_table
from uniwhisper.sources._librispeech import read_transcripts
from uniwhisper.sources._midi import read_notes
from uniwhisper.sources._rcc import read_resources
from uniwhisper.sources._read import read_csv, read_gzip, read_json, read_lines, read_text
from uniwhisper.sources._soundfont import SoundFont
from uniwhisper.sources._synth import render_note
from uniwhisper.sources._tars import read_tars
from uniwhisper.sources._yaml import read_yaml
from uniwhisper.sources.table import read_table
from uniwhisper.types import Note

sys.path.insert(0, str(FIXTURES))

from make_sounds import resources

__all__ = ["NUM_READERS", "READERS", "Reader", "sound"]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader, which checks what it returns."""

    name: str
    file: str
    """Name of the file that it reads."""
    good: Callable[[], bytes]
    """Makes a file that it reads without an error."""
    read: Callable[[Path], None]


def _context(path: Path) -> Context:
    return Context(source="toy", out_dir=path.parent / "out", dry_run=True)


def _csv(**options: Any) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        for row in read_csv(_context(path), path, **options):
            assert all(isinstance(cell, str) and cell == cell.strip() for cell in row.values())
            assert row.where.startswith(f"{path}:")

    return read


def _lines(path: Path) -> None:
    assert all(line == line.strip() and line for _, line in read_lines(_context(path), path))


def _json(path: Path) -> None:
    json.dumps(read_json(path), ensure_ascii=False).encode()


def _own_json(path: Path) -> None:
    read_own_json(path)


def _own_jsonl(path: Path) -> None:
    list(read_jsonl(path))


def _text(path: Path) -> None:
    assert isinstance(read_text(path), str)


def _gzip(path: Path) -> None:
    assert isinstance(read_gzip(path), str)


def _yaml(path: Path) -> None:
    assert all(isinstance(name, str) for name in read_yaml(path))


def _jams(path: Path) -> None:
    for annotation in read_jams(path).annotations:
        for item in annotation.observations:
            assert 0 <= item.time_s < math.inf
            assert 0 <= item.duration_s < math.inf


def _check_notes(notes: tuple[Note, ...]) -> None:
    for note in notes:
        assert 0 <= note.pitch <= 127
        assert 0 <= note.onset_s <= note.offset_s < math.inf


def _midi(path: Path) -> None:
    _check_notes(read_notes(path, pedal=True))
    _check_notes(read_notes(path))


def _contours(path: Path) -> None:
    _check_notes(read_contours(_context(path), path))


def _readers_list(path: Path) -> None:
    assert all(len(row) == 3 for row in read_librispeech_table(_context(path), path, ("id", "sex", "name")))


def _transcripts(path: Path) -> None:
    assert all(item.id and item.transcript for item in read_transcripts(_context(path), path))


def _rcc(path: Path) -> None:
    for name, _ in read_resources(path, (".ogg", ".txt")):
        assert (path.parent / name).resolve().is_relative_to(path.parent.resolve())


def _tars(path: Path) -> None:
    size_bytes = path.stat().st_size
    for clip in read_tars(_context(path), path.parent, {"train": path.name}):
        assert 0 <= clip.offset_bytes <= clip.offset_bytes + clip.num_bytes <= size_bytes
        assert ".." not in Path(clip.key).parts


def _deb(path: Path) -> None:
    folder = path.parent / "unpacked"
    try:
        with mock.patch("uniwhisper.sources._debian.shutil.which", return_value=None):
            unpack_package(path, folder)
    finally:
        assert sorted(entry.name for entry in path.parent.iterdir()) == sorted((path.name, "unpacked"))
        shutil.rmtree(folder)


def _soundfont(path: Path) -> None:
    font = SoundFont(path)
    for program in font.programs[:4]:
        wave = render_note(font, program=program, pitch=60, velocity=100, duration_s=0.05, release_at_s=0.03)
        assert wave.shape == (800,)
        assert np.isfinite(wave).all()


def _table(path: Path) -> None:
    """Read a table beside which lies `a.wav`."""
    soundfile.write(str(path.parent / "a.wav"), np.zeros(160, np.float32), 16_000)
    for clip in read_table(path):
        check_clip(clip, "here")


def _manifest(path: Path) -> None:
    for clip in read_manifest(path):
        assert Path(clip.path).is_absolute()


def _check_info(info: audio.AudioInfo) -> None:
    assert 0 <= info.duration_s < 1e6
    assert info.sample_rate > 0
    assert info.num_channels > 0


def _check_wave(wave: np.ndarray) -> None:
    assert wave.dtype == np.float32
    assert wave.ndim == 1
    assert len(wave) > 0
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() <= 1


def _audio(path: Path) -> None:
    data = path.read_bytes()
    _check_info(audio.info(path))
    _check_info(audio.info(data, name=path.name))
    _check_wave(audio.read(path))
    _check_wave(audio.read(data, name=path.name, start_s=0.01, max_duration_s=0.02))


def sound(format: str, subtype: str, num_samples: int = 1600) -> bytes:
    """Return an audio file of noise in stereo."""
    wave = np.random.default_rng(1).uniform(-0.3, 0.3, (num_samples, 2)).astype(np.float32)
    target = io.BytesIO()
    soundfile.write(target, wave, 16_000, format=format, subtype=subtype)
    return target.getvalue()


def _aac() -> bytes:
    import av

    target = io.BytesIO()
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), format="s16", layout="mono")
    frame.rate = 16_000
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        for part in [frame, None]:
            for packet in stream.encode(part):
                container.mux(packet)
    return target.getvalue()


def _parquet() -> bytes:
    rows = {"path": ["a.wav", "a.wav"], "caption": [["a dog", "a bark"], None], "label": [None, "dog"], "n": [1, 2]}
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(rows), target, compression="none")
    return target.getvalue()


def _first(pattern: str) -> bytes:
    """Return the smallest of the fixtures' files of that name."""
    return min(FIXTURES.glob(pattern), key=lambda path: (path.stat().st_size, path)).read_bytes()


def _rows(*rows: object) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


_CLIP = {
    "id": "a",
    "source": "toy",
    "path": "a.wav",
    "split": "train",
    "duration_s": 0.01,
    "domain": "sound",
    "start_s": 0.5,
    "upstream_ids": ["freesound:7"],
    "annotation": {
        "captions": ["a dog"],
        "labels": ["dog"],
        "events": [{"label": "dog", "onset_s": 0.0, "offset_s": 0.005}],
        "notes": [{"pitch": 60, "onset_s": 0, "offset_s": 1.5}],
        "votes": {"dog": 3},
        "metadata": {"title": "Dog"},
    },
}
_CSV = 'name,time,label\na.wav,0.5,"dog, barking"\nb.wav,1.25,cat\nc.wav,2,b\u00ear\n'
_TABLE = "path,label,kind,text,domain,duration\na.wav,dog;cat,event,dog 0 0.005,sound,0.01\na.wav,,caption,A dog.,,\n"
_JAMS = {
    "annotations": [
        {"namespace": "chord", "data": [{"time": 0.0, "duration": 1.5, "value": "C:maj", "confidence": None}]},
        {"namespace": "pitch", "data": {"time": [0, 1], "duration": [1, 1], "value": [60, 62]}},
    ],
    "file_metadata": {"title": "x", "duration": 2.5},
}
_YAML = "title: x\nstems:\n  S01: {instrument: piano, filename: a.wav, is_drum: no}\n  S02: &b [1, 2.5]\nother: *b\n"
_CONTOUR = "".join(f"{frame * 0.0058:.4f},{440 + frame},{0 if frame % 3 else 220}\n" for frame in range(12))

READERS: tuple[Reader, ...] = (
    Reader(name="csv", file="a.csv", good=_CSV.encode, read=_csv(columns=("name", "label"))),
    Reader(
        name="tsv",
        file="a.tsv",
        good=_CSV.replace(",", "\t").encode,
        read=_csv(delimiter="\t", quoting=False, strict=False, comment="#"),
    ),
    Reader(
        name="columns",
        file="a.ndx",
        good=lambda: b"a b c\nd e f\n",
        read=_csv(names=("x",), delimiter=" ", strict=False),
    ),
    Reader(name="lines", file="a.txt", good=_CSV.encode, read=_lines),
    Reader(name="text", file="a.txt", good=_CSV.encode, read=_text),
    Reader(name="gzip", file="a.gz", good=lambda: gzip.compress(_CSV.encode()), read=_gzip),
    Reader(name="json", file="a.json", good=lambda: json.dumps(_JAMS).encode(), read=_json),
    Reader(name="own json", file="a.json", good=lambda: json.dumps(_JAMS).encode(), read=_own_json),
    Reader(name="own json lines", file="a.jsonl", good=lambda: _rows(_CLIP, _JAMS), read=_own_jsonl),
    Reader(name="yaml", file="a.yaml", good=_YAML.encode, read=_yaml),
    Reader(name="jams", file="a.jams", good=lambda: json.dumps(_JAMS).encode(), read=_jams),
    Reader(name="midi", file="a.mid", good=lambda: _first("slakh2100/root/**/*.mid"), read=_midi),
    Reader(name="contours", file="a.csv", good=_CONTOUR.encode, read=_contours),
    Reader(name="readers", file="SPEAKERS.TXT", good=lambda: b";x\n14 | F | A\n16 | M | B | C\n", read=_readers_list),
    Reader(name="transcripts", file="a.trans.txt", good=lambda: b"1-2-0003 HE SAID\n", read=_transcripts),
    Reader(
        name="rcc",
        file="a.rcc",
        good=lambda: resources({"a/b/one.ogg": b"first", "a/two.txt": b"second" * 50}, compressed=True),
        read=_rcc,
    ),
    Reader(name="tar", file="a.tar", good=lambda: _first("esc50/xares/*.tar"), read=_tars),
    Reader(name="deb", file="a.deb", good=lambda: deb_bytes("one"), read=_deb),
    Reader(name="soundfont", file="a.sf2", good=lambda: _first("soundfont_timgm/root/**/*.sf2"), read=_soundfont),
    Reader(name="table csv", file="a.csv", good=_TABLE.encode, read=_table),
    Reader(
        name="table jsonl",
        file="b.jsonl",
        good=lambda: _rows({"path": "a.wav", "caption": ["a dog", "a bark"], "duration": 0.01}),
        read=_table,
    ),
    Reader(name="table parquet", file="c.parquet", good=_parquet, read=_table),
    Reader(name="manifest", file="manifest.jsonl", good=lambda: _rows(_CLIP, {**_CLIP, "id": "b"}), read=_manifest),
    *(
        Reader(
            name=f"{format} {subtype}",
            file=f"a.{format.lower()}",
            good=lambda f=format, s=subtype: sound(f, s),
            read=_audio,
        )
        for format, subtype in (
            ("WAV", "PCM_16"),
            ("WAV", "FLOAT"),
            ("WAV", "MS_ADPCM"),
            ("FLAC", "PCM_16"),
            ("OGG", "VORBIS"),
            ("OGG", "OPUS"),
            ("MP3", "MPEG_LAYER_III"),
            ("AIFF", "PCM_16"),
            ("AU", "PCM_16"),
            ("NIST", "PCM_16"),
        )
    ),
    Reader(name="m4a", file="a.m4a", good=_aac, read=_audio),
)
NUM_READERS = len(READERS)
