"""What a user sees whose corpus is damaged: exit code 1 and one message with file and row, or drops that are listed.

Every case goes through `uniwhisper convert`; the message is compared whole, with the corpus's folder as {root}, the
output's as {out}. Which inputs exist at all is left to chance in `tests/fuzz`.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from uniwhisper.cli import app
from uniwhisper.files import read_jsonl
from uniwhisper.manifest import read_manifest

from .conversion import FIXTURES

ESC50, SED = "meta/esc50.csv", "metadata/eval/public.tsv"


def changed(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Return what replaces the first `old` in a text file by `new`."""

    def damage(root: Path) -> None:
        text = (root / file).read_text(encoding="utf-8")
        assert old in text, "nothing would be damaged"
        (root / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return damage


def written(file: str, content: bytes) -> Callable[[Path], None]:
    """Return what replaces a file by other content."""
    return lambda root: (root / file).write_bytes(content) and None


def removed(file: str) -> Callable[[Path], None]:
    """Return what takes a file away."""
    return lambda root: (root / file).unlink()


def member(name: str, kind: bytes = tarfile.REGTYPE) -> Callable[[Path], None]:
    """Return what adds a member of a name and kind to the first tar."""

    def damage(root: Path) -> None:
        tar = min(root.glob("*.tar"))
        with tarfile.open(tar, "a") as archive:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd" if kind != tarfile.REGTYPE else ""
            archive.addfile(info, io.BytesIO(b""))

    return damage


def cut_in_audio(tar: Path) -> None:
    """Cut a tar in the middle of its last member."""
    with tarfile.open(tar) as archive:
        last = archive.getmembers()[-1]
    os.truncate(tar, last.offset_data + last.size // 2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A damaged corpus."""

    source: str
    damage: Callable[[Path], None]
    says: str
    """The message after `Error: `; `...` stands for anything."""
    layout: str = "root"


YAML_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
ASTERISK = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
SLAKH = "train/Track00001/metadata.yaml"

CASES = {
    # --- audio ---
    "broken audio": Case(
        source="esc50",
        damage=written("audio/2-100648-A-43.wav", b"no audio at all"),
        says="esc50: expected at most 0.0% of the clips to be dropped, found 40.0% (2 of 5 in {root}): "
        "1 x audio broken; 1 x audio missing; "
        "the first is '2-100648-A-43', audio broken: expected audio (wav, flac, mp3, ogg, opus, ...) "
        "in {root}/audio/2-100648-A-43.wav, found content that begins b'no audio at ' (.... "
        "All are in {out}/dropped.jsonl",
    ),
    "truncated audio": Case(
        source="librispeech",
        damage=lambda root: os.truncate(root / "LibriSpeech/dev-clean/1272/128104/1272-128104-0000.flac", 150),
        says="librispeech: expected at most 0.0% of the clips to be dropped, found 40.0% (2 of 5 in {root}): "
        "1 x audio missing; 1 x audio broken; "
        "the first is '60-121082-0001', audio missing: no 121082/60-121082-0001.*. All are in {out}/dropped.jsonl",
    ),
    "missing audio": Case(
        source="esc50",
        damage=removed("audio/2-100648-A-43.wav"),
        says="esc50: expected at most 0.0% of the clips to be dropped, found 40.0% (2 of 5 in {root}): "
        "2 x audio missing; the first is '2-100648-A-43', audio missing: no audio/2-100648-A-43.*. "
        "All are in {out}/dropped.jsonl",
    ),
    "missing audio of a table": Case(
        source="table",
        damage=removed("clips/b.ogg"),
        says="{root}/clips.csv:5: expected an audio file at {root}/clips/b.ogg, found none; paths start from the table",
    ),
    "audio shorter than stated": Case(
        source="table",
        damage=changed("clips.csv", "anna,prompts,0.5,train", "anna,prompts,7.5,train"),
        says="{root}/clips.csv:3: expected one duration for clips/a.ogg, found '7.5' in an earlier row and '0.5' here",
    ),
    # --- files and columns ---
    "missing annotations": Case(
        source="esc50",
        damage=removed(ESC50),
        says="esc50: expected {root}/meta/esc50.csv (found in {root}: audio, meta). Give the folder that holds the "
        "unpacked corpus, or no folder to have it fetched",
    ),
    "a missing column": Case(
        source="desed",
        damage=changed(SED, "event_label", "label"),
        says="{root}/metadata/eval/public.tsv: expected the columns filename, onset, offset, event_label, found "
        "filename, onset, offset, label; give the publisher's own file",
    ),
    "a column twice": Case(
        source="desed",
        damage=changed(SED, "offset", "onset"),
        says="{root}/metadata/eval/public.tsv: expected the columns filename, onset, offset, event_label, found "
        "filename, onset, onset, event_label; give the publisher's own file",
    ),
    "a table's column twice": Case(
        source="table",
        damage=changed("clips.csv", "path,text,kind", "path,text,text"),
        says="{root}/clips.csv:1: expected every column once, found path, text, text, domain, language, speaker, "
        "dataset, duration, split",
    ),
    "a row that is too short": Case(
        source="esc50",
        damage=changed(ESC50, ",100648,A", ""),
        says="{root}/meta/esc50.csv:3: expected 7 cells (filename, fold, target, category, esc10, src_file, take), "
        "found 5",
    ),
    "not UTF-8": Case(
        source="desed",
        damage=written(SED, b"filename\tonset\toffset\tevent_label\na.wav\t0\t1\tCaf\xe9\n"),
        says="{root}/metadata/eval/public.tsv:2: expected UTF-8, found byte 0xe9: ...",
    ),
    "JSON that breaks off": Case(
        source="wavcaps",
        damage=written("json_files/SoundBible/sb_final.json", b'{"data": [{"id": "1", "cap'),
        says="{root}/json_files/SoundBible/sb_final.json: expected JSON, found: Unterminated string starting at: ...",
    ),
    "half of a surrogate pair": Case(
        source="wavcaps",
        damage=changed("json_files/SoundBible/sb_final.json", "ringing a bell", "ringing \\ud83d"),
        says="{root}/json_files/SoundBible/sb_final.json: expected text, found half of a surrogate pair after ...",
    ),
    # --- rows ---
    "a clip twice": Case(
        source="esc50",
        damage=changed(
            ESC50,
            "2-100648-A-43.wav,2,43,car_horn,False,100648,A\n",
            "2-100648-A-43.wav,2,43,car_horn,False,100648,A\n" * 2,
        ),
        says="{out}/manifest.jsonl: expected ids to be unique within source 'esc50', found '2-100648-A-43' for both "
        "{root}/audio/2-100648-A-43.wav and {root}/audio/2-100648-A-43.wav; give each clip its own id. See "
        "{root}/meta/esc50.csv:3, {root}/meta/esc50.csv:4",
    ),
    "a record twice": Case(
        source="nsynth",
        damage=lambda root: changed(
            "nsynth-valid/examples.json",
            "{",
            '{"bass_synthetic_068-049-025": {}, "bass_synthetic_068-049-025": {}, ',
        )(root),
        says="{root}/nsynth-valid/examples.json: expected JSON, found: 'bass_synthetic_068-049-025' 2 times in one "
        "object",
    ),
    "a speaker twice": Case(
        source="librispeech",
        damage=changed("LibriSpeech/SPEAKERS.TXT", "1272", "1089"),
        says="{root}/LibriSpeech/SPEAKERS.TXT:...: expected one row with id '1089', found another one that says "
        "otherwise at {root}/LibriSpeech/SPEAKERS.TXT:...",
    ),
    "a negative time": Case(
        source="desed",
        damage=changed(SED, "3.847", "-3"),
        says="{root}/metadata/eval/public.tsv:3: onset: expected a number from 0 to inf, found '-3'",
    ),
    "times in reverse": Case(
        source="desed",
        damage=changed(SED, "3.847\t10.000", "10.000\t3.847"),
        says="{root}/metadata/eval/public.tsv:3: offset: expected a number from 10 to inf, found '3.847'",
    ),
    "no number": Case(
        source="desed",
        damage=changed(SED, "3.847", "nan"),
        says="{root}/metadata/eval/public.tsv:3: onset: expected a number from 0 to inf, found 'nan'",
    ),
    "a time beyond all recordings": Case(
        source="desed",
        damage=changed(SED, "10.000", "1e308"),
        says="{out}/manifest.jsonl: clip 'eval/public/1Ro0FgMWTUE_120_130': expected onset_s of at least 0 seconds, "
        "offset_s not before it, both of at most 11 days, found Event(label='Frying', onset_s=3.847, offset_s=1e+308). "
        "See {root}/metadata/eval/public.tsv:2, {root}/metadata/eval/public.tsv:3, {root}/metadata/eval/public.tsv:4",
    ),
    "an unknown label": Case(
        source="desed",
        damage=changed(SED, "Frying", "Fryin"),
        says="{root}/metadata/eval/public.tsv:3: expected one of the 10 labels Alarm_bell_ringing, Blender, Cat, "
        "Dishes, ..., found 'Fryin'",
    ),
    "a blank label": Case(
        source="esc50",
        damage=changed(ESC50, "car_horn", ""),
        says="{root}/meta/esc50.csv:3: expected category, src_file, take, esc10 to be ('car horn', '100648', 'A', "
        "False), found ('', '100648', 'A', False)",
    ),
    # --- names of files ---
    "a name that leaves the corpus": Case(
        source="desed",
        damage=changed(SED, "1Ro0FgMWTUE_120_130.wav", "../../../../etc/passwd"),
        says="{root}/metadata/eval/public.tsv:2: expected the name of a file, without folders, found "
        "'../../../../etc/passwd'",
    ),
    "an absolute name": Case(
        source="fluent_speech_commands",
        damage=changed("fluent_speech_commands_dataset/data/test_data.csv", "wavs/", "/wavs/"),
        says="{root}/fluent_speech_commands_dataset/data/test_data.csv:2: expected a path below the corpus's folder, "
        "found '/wavs/...'",
    ),
    "a name longer than file systems allow": Case(
        source="table",
        damage=changed("clips.csv", "clips/b.ogg", "x" * 400),
        says="{root}/clips.csv:5: expected an audio file at {root}/xxx..., found none; paths start from the table",
    ),
    # --- archives ---
    "a tar member above the folder": Case(
        source="esc50",
        layout="xares",
        damage=member("../../etc/1-100032-A-0.wav"),
        says="{root}/...tar: expected members below the folder, found '../../etc/1-100032-A-0.wav': do not use it",
    ),
    "an absolute tar member": Case(
        source="esc50",
        layout="xares",
        damage=member("/etc/1-100032-A-0.wav"),
        says="{root}/...tar: expected members below the folder, found '/etc/1-100032-A-0.wav': do not use it",
    ),
    "a link in a tar": Case(
        source="esc50",
        layout="xares",
        damage=member("1-100032-A-0.wav", tarfile.SYMTYPE),
        says="{root}/...tar: expected plain files, found '1-100032-A-0.wav', a link or device",
    ),
    "a hard link in a tar": Case(
        source="esc50",
        layout="xares",
        damage=member("1-100032-A-0.wav", tarfile.LNKTYPE),
        says="{root}/...tar: expected plain files, found '1-100032-A-0.wav', a link or device",
    ),
    "a truncated tar": Case(
        source="esc50",
        layout="xares",
        damage=lambda root: cut_in_audio(min(root.glob("*.tar"))),
        says="{root}/...tar: expected ... bytes of ... from byte ..., found a file of ... bytes: truncated or damaged, "
        "fetch it again",
    ),
    "a text that expands without bound": Case(
        source="asterisk",
        damage=lambda root: written(ASTERISK, gzip.compress(bytes((64 << 20) + 1)))(root),
        says="{root}/" + ASTERISK + ": expected gzipped text, found one that expands to over 67108864 bytes",
    ),
    "an object that expands without bound": Case(
        source="slakh2100",
        damage=lambda root: written(SLAKH, YAML_BOMB.encode())(root),
        says="{root}/" + SLAKH + ": expected YAML, found: an object that repeats its parts without bound at line ...",
    ),
    "lists in lists without bound": Case(
        source="wavcaps",
        damage=written("json_files/SoundBible/sb_final.json", b"[" * 200_000),
        says="{root}/json_files/SoundBible/sb_final.json: expected JSON, found: maximum recursion depth exceeded...",
    ),
    # --- nothing to read ---
    "no corpus": Case(
        source="esc50",
        damage=shutil.rmtree,
        says="esc50: expected the corpus at {root}, found nothing there",
    ),
}


def convert(case: Case, tmp_path: Path) -> tuple[Result, Path, Path]:
    """Return what `uniwhisper convert` did to the damaged corpus, the corpus and the output's folder."""
    root, out = tmp_path / "corpus", tmp_path / "out"
    shutil.copytree(FIXTURES / case.source / case.layout, root)
    case.damage(root)
    arguments = ["convert", case.source, str(root), "--out", str(out), "--workers", "1"]
    return CliRunner().invoke(app, arguments, prog_name="uniwhisper"), root, out


@pytest.mark.parametrize("name", CASES)
def test_what_a_user_sees(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    if case.source in ("asterisk",) or name == "broken audio":
        pytest.importorskip("av", reason="without FFmpeg the message asks for it")
    result, root, out = convert(case, tmp_path)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), "no traceback"
    assert result.stdout == ""
    expected = re.escape("Error: " + case.says.replace("{root}", str(root)).replace("{out}", str(out)) + "\n")
    assert re.fullmatch(expected.replace(re.escape("..."), ".*"), result.stderr, re.DOTALL), result.stderr
    assert not (out / "DONE").exists()
    assert not (out / "manifest.jsonl").exists()


def test_truncated_audio_is_found_by_its_end(tmp_path: Path) -> None:
    _, root, out = convert(CASES["truncated audio"], tmp_path)
    reasons = {row["id"]: row["reason"] for row in read_jsonl(out / "dropped.jsonl")}
    path = root / "LibriSpeech/dev-clean/1272/128104/1272-128104-0000.flac"
    assert re.fullmatch(
        rf"audio broken: expected \d+ frames of audio in {path}, as its header says; found .*: truncated or damaged, "
        "fetch it again",
        reasons["1272-128104-0000"],
    )


def test_drops_within_the_tolerance_are_listed(tmp_path: Path) -> None:
    case = Case(source="audiocaps", damage=removed("audio/val/fixtureAC05.wav"), says="")
    (tmp_path / "more").mkdir()
    result, root, out = convert(case, tmp_path / "more")
    lost = {row["id"]: row["reason"] for row in read_jsonl(out / "dropped.jsonl")}
    assert lost["fixtureAC05_60"] == "audio missing: no val/fixtureAC05_60.*"
    if result.exit_code:  # the fixture shows more faults than the tolerance allows: bring the audio of one back
        shutil.copy(root / "audio/test/fixtureAC06_000000.wav", root / "audio/val/fixtureAC05.wav")
        arguments = ["convert", "audiocaps", str(root), "--out", str(out), "--workers", "1"]
        result = CliRunner().invoke(app, arguments, prog_name="uniwhisper")
    assert result.exit_code == 0, result.output
    dropped = list(read_jsonl(out / "dropped.jsonl"))
    assert dropped
    assert all(row["id"] and row["reason"] for row in dropped)
    assert f"{len(dropped)} dropped (see {out / 'dropped.jsonl'})" in result.stdout
    assert len(read_manifest(out / "manifest.jsonl")) >= 1


def test_a_name_in_another_encoding_is_listed(tmp_path: Path) -> None:
    def damage(root: Path) -> None:
        good = next(root.rglob("*.wav"))
        shutil.copy(good, os.fsencode(good.parent) + b"/caf\xe9.wav")

    result, _, out = convert(Case(source="folder", damage=damage, says=""), tmp_path)
    assert result.exit_code == 0, result.output
    found = [row for row in read_jsonl(out / "dropped.jsonl") if "caf" in row["id"]]
    assert [row["id"].rpartition("/")[2] for row in found] == ["caf\\udce9.wav"]
    assert found[0]["reason"].endswith("surrogates not allowed: rename it")


def test_a_process_of_its_own_says_the_same(tmp_path: Path) -> None:
    root = shutil.copytree(FIXTURES / "desed" / "root", tmp_path / "corpus")
    changed(SED, "3.847", "-3")(root)
    command = [sys.executable, "-m", "uniwhisper", "convert", "desed", str(root), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {root}/{SED}:3: onset: expected a number from 0 to inf, found '-3'\n"
