from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soxr
from torch.utils.data import DataLoader

from tiny import tone
from uniwhisper.embed import AudioEmbedder
from uniwhisper.errors import AudioError, EncoderError

from .conftest import Export


def loader(items: list[dict[str, Any]], batch_size: int = 2) -> DataLoader[Any]:
    """Return a loader as mteb makes them: rows of dictionaries, recordings left in a list."""
    rows: Any = [{"audio": item} for item in items]
    return DataLoader(rows, batch_size=batch_size, collate_fn=lambda batch: {"audio": [row["audio"] for row in batch]})


def recording(array: np.ndarray, sampling_rate: int = 16_000) -> dict[str, Any]:
    return {"array": array, "sampling_rate": sampling_rate}


def test_one_vector_a_recording(export: Export, embedder: AudioEmbedder) -> None:
    model = export("mteb").load_model()
    waves = [tone(s, 300) for s in (0.5, 3.0, 1.0)]
    vectors = model.encode(
        loader([recording(wave) for wave in waves]),
        task_metadata=SimpleNamespace(name="x"),
        hf_split="test",
        hf_subset="default",
        prompt_type=None,
        batch_size=2,
    )
    assert vectors.shape == (3, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, embedder.embed(waves, cache=False), rtol=0, atol=1e-5)


def test_other_rates_channels_and_levels(export: Export, embedder: AudioEmbedder) -> None:
    model = export("mteb").load_model()
    wave = tone(1.0, 300)
    fast = soxr.resample(wave, 16_000, 44_100, quality="HQ")
    resampled = soxr.resample(fast, 44_100, 16_000, quality="HQ")
    items = [recording(np.stack([wave, -0.5 * wave])), recording(fast, 44_100), recording(9 * wave)]
    expected = [0.25 * wave, np.clip(resampled, -1, 1), np.clip(9 * wave, -1, 1)]
    np.testing.assert_allclose(model.encode(loader(items)), embedder.embed(expected, cache=False), rtol=0, atol=1e-5)


def test_nothing_to_encode(export: Export) -> None:
    assert export("mteb").load_model().encode([]).shape == (0, 32)


def test_batches_without_audio_and_empty_recordings(export: Export) -> None:
    model = export("mteb").load_model()
    with pytest.raises(EncoderError, match="expected batches with audio, found text"):
        model.encode([{"text": ["a dog"]}])
    with pytest.raises(AudioError, match=r"expected finite samples \[N\] or \[channels, N\], found \[0\]"):
        model.encode([{"audio": [recording(np.zeros(0))]}])


def test_metadata_need_mteb(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb.models", None)
    with pytest.raises(EncoderError, match=r"expected mteb: pip install 'mteb\[audio\]'"):
        _ = export("mteb").load_model().mteb_model_meta


def test_metadata_name_the_encoder(export: Export, whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mteb.models", SimpleNamespace(ModelMeta=SimpleNamespace))
    model = export("mteb").load_model()
    meta = model.mteb_model_meta
    assert meta.name == f"uniwhisper/{whisper.parent.name}-whisper"
    assert (meta.revision, meta.embed_dim, meta.modalities) == (model.model.fingerprint[:12], 32, ["audio"])


def test_mteb_s_own_mock_tasks(export: Export) -> None:
    mteb = pytest.importorskip("mteb")
    pytest.importorskip("torchcodec")
    results = mteb.mock_run(export("mteb").load_model())
    ran = {name: status for name, status in results.items() if status is not None}
    assert len(ran) >= 5
    assert {type(status).__name__ for status in ran.values()} == {"TaskResult"}, ran
