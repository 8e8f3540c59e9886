"""Soundscapes say what is in the mix and which recordings they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import Context
from uniwhisper.sources._scaper import notes, soundscape
from uniwhisper.sources._vocabulary import vocabulary
from uniwhisper.types import Event

CLASSES = vocabulary("x", "car_horn siren")


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(source="x", out_dir=tmp_path)


def item(role: str, label: str, source_file: str, time_s: float = 0.0, **others: Any) -> dict[str, Any]:
    value = {"role": role, "label": label, "source_file": source_file, **others}
    return {"time": time_s, "duration": 0.5, "confidence": 1.0, "value": value}


def written(folder: Path, *items: dict[str, Any], namespace: str = "scaper") -> Path:
    path = folder / "a.jams"
    path.write_text(json.dumps({"annotations": [{"namespace": namespace, "data": items}]}), encoding="utf-8")
    return path


def test_events_last_as_long_as_in_the_mix(ctx: Context, tmp_path: Path) -> None:
    heard = item("foreground", "car_horn", "C:\\bank\\99812-1-2-0.wav", 2.0, event_duration=0.9, snr=6)
    again = item("foreground", "car_horn", "/bank/99812-1-3-0.wav", 1.0, pitch_shift=None)
    path = written(tmp_path, item("background", "noise", "brownian.wav"), heard, again, namespace="sound_event")
    found = soundscape(ctx, path, CLASSES)
    assert found.events == (
        Event(label="car horn", onset_s=2.0, offset_s=2.5),
        Event(label="car horn", onset_s=1.0, offset_s=1.5),
    )
    assert found.labels == ("car horn",)
    assert found.upstream_ids == ("freesound:99812",)
    assert found.metadata["mix"].startswith("car horn at 2.000 s: 99812-1-2-0.wav, 6.0 dB SNR; car horn at 1.000 s:")
    assert ctx.rows[path] == 3


@pytest.mark.parametrize("name", ["12.wav", "take-3.wav", "2017-06-01.wav", "brownian.wav", "12_3.wav"])
def test_numbers_that_are_no_freesound_names_are_left_alone(name: str, ctx: Context, tmp_path: Path) -> None:
    assert not soundscape(ctx, written(tmp_path, item("foreground", "siren", name)), CLASSES).upstream_ids


@pytest.mark.parametrize(
    ("items", "namespace", "expected"),
    [
        ([], "beat", "expected an annotation in the namespace scaper"),
        ([item("foreground", "bird", "x.wav")], "scaper", "observation 0: expected one of the 2 labels"),
        ([{"time": 0, "duration": 1, "value": "siren"}], "scaper", "found no label, role, source_file"),
        ([{**item("foreground", "siren", "x.wav"), "time": -0.1}], "scaper", "time: expected a number from 0"),
    ],
)
def test_what_is_no_soundscape_is_refused(
    items: list[dict[str, Any]], namespace: str, expected: str, ctx: Context, tmp_path: Path
) -> None:
    with pytest.raises(LayoutError, match=expected):
        soundscape(ctx, written(tmp_path, *items, namespace=namespace), CLASSES)


def test_without_a_vocabulary_labels_are_only_spelt(ctx: Context, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0.5\t1\tpeople_talking\n", encoding="utf-8")
    assert soundscape(ctx, path).labels == ("people talking",)
    path.write_text("0.5\t1\ta;b\n", encoding="utf-8")
    with pytest.raises(LayoutError, match=r"a\.txt:1: expected a label .* no ';'"):
        soundscape(ctx, path)


def test_text_is_read_only_where_there_is_no_jams(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "a.jams"):
        (tmp_path / name).touch()
    assert list(notes(tmp_path).items()) == [("a", tmp_path / "a.jams"), ("b", tmp_path / "b.txt")]
