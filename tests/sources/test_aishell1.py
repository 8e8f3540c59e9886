from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import convert_source, dry_run

from .conversion import FIXTURES

TRANSCRIPT = "data_aishell/transcript/aishell_transcript_v0.8.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "aishell1" / "root", tmp_path / "root")
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 li be e mih kiann", "expected BAC009S<4 digits>W<4 digits> and a text, found '1 li"),
        ("BAC009S0002W0122", "expected BAC009S<4 digits>W<4 digits> and a text"),
        ("BAC009S0003W0122 x", r"expected a speaker of speaker\.info, found S0003"),
        ("BAC009S0917W0122 x", "expected a speaker from S0002 to S0916, found S0917"),
    ],
)
def test_a_broken_line_is_named(root: Path, line: str, message: str) -> None:
    (root / TRANSCRIPT).write_text(f"BAC009S0002W0121 x\n{line}\n", encoding="utf-8")
    with (root / "resource_aishell/speaker.info").open("a") as file:
        file.write("0917 F\n")
    with pytest.raises(LayoutError, match=rf"aishell_transcript_v0\.8\.txt:2: {message}"):
        dry_run("aishell1", root)


def test_speakers_decide_on_the_split(root: Path) -> None:
    speakers = {"0723": "train", "0724": "valid", "0763": "valid", "0764": "test", "0916": "test"}
    (root / "resource_aishell/speaker.info").write_text("".join(f"S{name} M extra\n" for name in speakers))
    (root / TRANSCRIPT).write_text("".join(f"BAC009S{name}W0001 x\n" for name in speakers))
    assert [clip.split for clip in dry_run("aishell1", root).clips] == list(speakers.values())


def test_archives_left_packed_are_told_before_anything_is_read(root: Path, tmp_path: Path) -> None:
    wavs = root / "data_aishell/wav"
    shutil.rmtree(wavs)
    wavs.mkdir()
    (wavs / "S0002.tar.gz").touch()
    with pytest.raises(LayoutError, match=r"expected .*/wav/train \(found in .*: S0002\.tar\.gz\)"):
        convert_source("aishell1", tmp_path / "out", root)


@pytest.mark.parametrize(
    ("line", "message"), [("x F", "expected a speaker like 0002, found 'x'"), ("0002 ?", "expected a gender F or M")]
)
def test_a_broken_speaker_is_named(root: Path, line: str, message: str) -> None:
    (root / "resource_aishell/speaker.info").write_text(f"0764 F\n{line}\n")
    with pytest.raises(LayoutError, match=rf"speaker\.info:2: {message}"):
        dry_run("aishell1", root)
