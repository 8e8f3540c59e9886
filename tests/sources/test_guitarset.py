"""GuitarSet: names that say nothing, pitches that are none, and the recordings of the pickup."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run
from uniwhisper.sources._context import Context
from uniwhisper.sources.guitarset import convert

from .conversion import FIXTURES


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "guitarset" / "root", folder / "corpus"))


def test_a_name_without_player_and_style_is_refused(tmp_path: Path) -> None:
    root = copied(tmp_path)
    (root / "annotation/00_BN1-129-Eb_comp.jams").rename(root / "annotation/take1.jams")
    with pytest.raises(LayoutError, match=r"take1\.jams: expected a name like 00_BN1-129-Eb_comp\.jams"):
        dry_run("guitarset", root)


def test_a_pitch_outside_of_midi_is_named(tmp_path: Path) -> None:
    root = copied(tmp_path)
    path = root / "annotation/00_BN1-129-Eb_comp.jams"
    path.write_text(path.read_text("utf-8").replace("47.49", "147.49"), "utf-8")
    with pytest.raises(LayoutError, match=r"annotation 1 \(note_midi\), observation 0: pitch: .* 0 to 127, found 147"):
        dry_run("guitarset", root)


def test_without_the_microphone_the_pickup_is_heard(tmp_path: Path) -> None:
    root = copied(tmp_path)
    (root / "audio_mono-mic").rename(root / "audio_mono-pickup_mix")
    clip = next(convert(root, Context(source="guitarset", out_dir=tmp_path)))
    assert clip.path == str(root / "audio_mono-pickup_mix/00_BN1-129-Eb_comp_mix.wav")
