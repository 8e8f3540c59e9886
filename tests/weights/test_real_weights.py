"""The real whisper-base of the cache against real speech; skipped where either is not at hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from uniwhisper.files import home
from uniwhisper.weights import cache

SHARED = Path(__file__).resolve().parents[3] / "shared"
HOME = os.environ.get("UNIWHISPER_HOME")


@pytest.fixture
def whisper_base(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the converted whisper-base in the user's own home; nothing is fetched for a test."""
    if HOME:
        monkeypatch.setenv("UNIWHISPER_HOME", HOME)
    else:
        monkeypatch.delenv("UNIWHISPER_HOME")
    folder = cache.cached("whisper-base")
    if folder is None:
        pytest.skip(f"whisper-base is not in {home()}; uniwhisper.weights.resolve('whisper-base') puts it there")
    return folder


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.shared
def test_whisper_base_transcribes_real_speech(whisper_base: Path) -> None:
    table = SHARED / "data" / "eval_librispeech_asr.csv"
    if not table.is_file():
        pytest.skip(f"needs the reference pack at {SHARED}")
    jiwer = pytest.importorskip("jiwer")
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    from uniwhisper import audio

    with table.open(encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if 4 < float(row["duration"]) < 8)
    wave = audio.read(table.parent / row["path"])
    model = WhisperForConditionalGeneration.from_pretrained(whisper_base).eval()
    processor = WhisperProcessor.from_pretrained(whisper_base)
    features = processor(wave, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        ids = model.generate(features, language="en", task="transcribe")
    text = processor.batch_decode(ids, skip_special_tokens=True)[0]
    words = "".join(letter for letter in text.lower() if letter.isalpha() or letter in " '").split()
    assert jiwer.wer(row["label"], " ".join(words)) <= 0.1
