from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tiny import tiny_clips
from uniwhisper.embed import load
from uniwhisper.manifest import write_manifest
from uniwhisper.shards import open_shards
from uniwhisper.types import Annotation

from .conftest import Cli


@pytest.fixture
def manifests(tmp_path: Path) -> tuple[Path, Path]:
    """Return a folder with a manifest and a manifest by name; one of ten clips has no audio."""
    clips = tiny_clips(tmp_path / "audio")
    lost = dataclasses.replace(clips[0], id="lost", path=str(tmp_path / "lost.wav"))
    write_manifest(tmp_path / "bells" / "manifest.jsonl", [*clips[:6], lost])
    write_manifest(tmp_path / "talk.jsonl", clips[6:])
    return tmp_path / "bells", tmp_path / "talk.jsonl"


def test_shards_of_two_manifests(cli: Cli, manifests: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ("shards", *manifests, "--out", tmp_path / "out", "--workers", 1, "--tolerance", 0.2)
    first = cli(*arguments)
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert [line.split()[:2] + line.split()[-1:] for line in lines[:4]] == [
        ["source", "clips", "dropped"],
        ["bells", "6", "1"],
        ["talk", "4", "0"],
        ["all", "10", "1"],
    ]
    assert lines[4] == f"What was dropped and why: {tmp_path / 'out' / 'dropped.jsonl'}"
    assert lines[5] == f"2 shards in {tmp_path / 'out'}"
    assert open_shards(tmp_path / "out").num_clips == 10
    assert cli(*arguments).stdout.splitlines()[-1] == f"2 shards in {tmp_path / 'out'} (was finished already)"


def test_too_many_dropped(cli: Cli, manifests: tuple[Path, Path], tmp_path: Path) -> None:
    result = cli("shards", *manifests, "--out", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 1
    assert "bells: expected to drop at most 0 clips, found 1 or more" in result.stderr
    assert "allow more (--tolerance)" in result.stderr


def test_another_set_is_replaced_only_on_demand(cli: Cli, manifests: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("--out", tmp_path / "out", "--workers", 1)
    assert cli("shards", manifests[1], *options).exit_code == 0
    clips = tiny_clips(tmp_path / "audio")[6:8]
    clips = [dataclasses.replace(clip, annotation=Annotation(labels=("voice",))) for clip in clips]
    write_manifest(manifests[1], clips)
    refused = cli("shards", manifests[1], *options)
    assert refused.exit_code == 1
    assert "found a set of others" in refused.stderr
    assert cli("shards", manifests[1], *options, "--rebuild").exit_code == 0
    assert open_shards(tmp_path / "out").num_clips == 2


def test_verify(cli: Cli, manifests: tuple[Path, Path], tmp_path: Path) -> None:
    assert cli("shards", manifests[1], "--out", tmp_path / "out", "--workers", 1).exit_code == 0
    good = cli("shards", "--verify", tmp_path / "out", "--workers", 1)
    assert (good.exit_code, good.stdout) == (0, "4 clips are as they were written.\n")
    (tar,) = (tmp_path / "out").glob("*.tar")
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)
    bad = cli("shards", "--verify", tmp_path / "out", "--workers", 1)
    assert bad.exit_code == 1
    assert bad.stdout == "talk-train-000000.tar: clip 'talk-0': its FLAC is damaged\n"
    assert "found damage in 1 shards: fetch them again" in bad.stderr


@pytest.mark.parametrize(
    "arguments", [(), ("--out", "x"), ("m.jsonl",), ("m.jsonl", "--verify", "x"), ("--out", "x", "--verify", "x")]
)
def test_wrong_usage(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli("shards", *arguments)
    assert result.exit_code == 2
    assert "Give manifests and --out DIR, or --verify DIR alone." in result.stderr


def test_a_missing_manifest(cli: Cli, tmp_path: Path) -> None:
    result = cli("shards", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "expected a JSON-lines file at" in result.stderr


def test_a_set_and_its_encoder_know_the_search_that_cleaned_them(cli: Cli, tiny_recipe: str, tmp_path: Path) -> None:
    clips = tiny_clips(tmp_path / "audio")
    write_manifest(tmp_path / "train" / "manifest.jsonl", clips)
    held_out = dataclasses.replace(clips[0], source="held_out", split="test")
    write_manifest(tmp_path / "eval" / "manifest.jsonl", [held_out])
    found = cli("leakage", tmp_path / "train", tmp_path / "eval", "--out", tmp_path / "clean", "--workers", 1)
    assert found.exit_code == 0, found.output
    for manifest, name in (("clean", "cleaned"), ("train", "as_it_was")):
        made = cli("shards", tmp_path / manifest, "--out", tmp_path / name, "--workers", 1)
        assert made.exit_code == 0, made.output
    key = (tmp_path / "clean" / "DONE").read_text(encoding="utf-8").strip()
    assert open_shards(tmp_path / "cleaned").searches == (key,)
    assert open_shards(tmp_path / "as_it_was").searches == ()
    trained = cli("train", tiny_recipe, "--data", tmp_path / "cleaned", "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    encoder = load(tmp_path / "run")
    assert encoder.provenance["leakage"] == [key]
    assert encoder.trained_on == ("bells", "talk")
