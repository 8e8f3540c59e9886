"""What a dry run says, with data and without, and that it fetches and writes nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny import tiny_clips, tiny_lm, tiny_whisper
from uniwhisper.cli._dry_run import show
from uniwhisper.errors import WeightsError
from uniwhisper.manifest import write_manifest
from uniwhisper.recipes import make_config
from uniwhisper.train import hardware
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.memory import Memory


@pytest.fixture(autouse=True)
def known_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_measured_once", lambda device, dtype, threads: 2e11)


def test_the_large_recipe_before_anything_is_there(
    capsys: pytest.CaptureFixture[str], test_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    show(make_config("uniwhisper_large_v3"), [])
    text = capsys.readouterr().out
    assert "encoder whisper-large-v3: would be fetched" in text
    assert "no --data: sizes as published" in text
    assert re.search(r"gigaspeech +8315357 clips +10052\.00 hours +26\.\d% of the mixture", text)
    assert "parameters: 642 M trained (encoder 637 M, subsampler 3.28 M, adapter 3.68 M); decoder 596 M, frozen" in text
    assert re.search(r"operations: (1|1\.0\d|9\d\d) [PT]FLOP a step, (29|30)(\.\d)? EFLOP in the run", text)
    assert re.search(r"8 x A800, 312 TFLOP/s each +6\.\d h +3\.\d h$", text, re.MULTILINE)
    assert re.search(r"1 x H200, 989 TFLOP/s each +1[67]\.\d h +8\.\d h$", text, re.MULTILINE)
    assert f"{torch.get_num_threads()} threads, 200 GFLOP/s" in text
    assert "adamw8bit states 1.30" in text
    assert not list(tmp_path.iterdir())
    assert not (test_home / "weights").exists()


def test_a_small_recipe_with_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clips = tiny_clips(tmp_path / "audio")
    write_manifest(tmp_path / "manifest.jsonl", clips)
    config = _tiny(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    show(config, [tmp_path / "manifest.jsonl"])
    text = capsys.readouterr().out
    assert f"encoder {tmp_path / 'whisper'}: {tmp_path / 'whisper'}" in text
    assert re.search(r"bells +6 clips +0\.00 hours +60\.0% of the mixture", text)
    assert "no --data" not in text
    assert "of the steps, 4 train the adapter alone" in text
    assert sorted(tmp_path.rglob("*")) == before


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "peak", lambda self, recompute=None: 100e9)
    show(make_config("uniwhisper_large_v3"), [])
    text = capsys.readouterr().out
    assert re.search(r"1 x H100,.*\(more than its 80 GB\)$", text, re.MULTILINE)
    assert re.search(r"1 x H200,.*h$", text, re.MULTILINE)


def test_a_gpu_that_is_here_has_its_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA L40S")
    show(make_config("quickstart"), [])
    assert re.search(r"this GPU, NVIDIA L40S, 362 TFLOP/s +\d", capsys.readouterr().out)


def test_unknown_networks_end_with_what_is_known() -> None:
    config = replace(make_config("quickstart"), decoder="someone/unheard-of")
    with pytest.raises(WeightsError, match=r"sizes of 'someone/unheard-of'.*Qwen/Qwen3-0\.6B"):
        show(config, [])


def _tiny(folder: Path) -> TrainConfig:
    config = make_config("quickstart")
    return replace(
        config,
        encoder=str(tiny_whisper(folder / "whisper", width=32, heads=2, n_audio_ctx=100)),
        decoder=str(tiny_lm(folder / "lm", chat=True)),
        batches=replace(config.batches, temperature=1.0, window=16),
        optim=replace(config.optim, steps=20, align_steps=4),
    )
