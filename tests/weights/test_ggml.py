from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from uniwhisper.errors import WeightsError
from uniwhisper.weights.ggml import read_ggml, read_whisper_ggml

VOCABULARY_SIZE = 260


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "whisper.bin"


def test_every_tensor_and_token_comes_back(path: Path, ggml_bytes: bytes, whisper_state: dict[str, Tensor]) -> None:
    path.write_bytes(ggml_bytes)

    state, content = read_whisper_ggml(path)

    assert set(state) == set(whisper_state)
    assert all(torch.equal(state[name].float(), whisper_state[name]) for name in state)
    assert state["model.encoder.conv1.bias"].ndim == 1
    assert (content.dims.n_audio_state, content.dims.n_mels, content.dims.n_text_layer) == (8, 4, 2)
    assert len(content.vocabulary) == VOCABULARY_SIZE
    assert content.vocabulary[256:] == (b" t", b"he", b" the", b"")


def test_every_truncation_is_refused_with_its_offset(path: Path, ggml_bytes: bytes) -> None:
    between_tensors = ggml_bytes.index(b"decoder.ln.bias") - 16
    for length in (*range(1, 60), *range(100, len(ggml_bytes), 997), between_tensors, len(ggml_bytes) - 1):
        path.write_bytes(ggml_bytes[:length])
        with pytest.raises(WeightsError, match=r"at byte \d+, found"):
            read_ggml(path)


def test_another_magic_number_is_refused(path: Path, ggml_bytes: bytes) -> None:
    path.write_bytes(b"GGUF" + ggml_bytes[4:])
    with pytest.raises(WeightsError, match="0x67676d6c at byte 0"):
        read_ggml(path)


def test_a_quantised_tensor_is_refused(path: Path, ggml_bytes: bytes) -> None:
    name = b"encoder.conv1.weight"
    start = ggml_bytes.index(name) - 24
    assert struct.unpack_from("<3i", ggml_bytes, start) == (3, len(name), 1)
    path.write_bytes(ggml_bytes[: start + 8] + struct.pack("<i", 8) + ggml_bytes[start + 12 :])
    with pytest.raises(WeightsError, match=f"f16.* at byte {start + 8}, found type 8"):
        read_ggml(path)


def test_an_absurd_size_is_refused_before_memory_is_asked_for(path: Path, ggml_bytes: bytes) -> None:
    path.write_bytes(ggml_bytes[:52] + struct.pack("<i", -1) + ggml_bytes[56:])
    with pytest.raises(WeightsError, match="at byte"):
        read_ggml(path)
