"""Tiny models in every foreign format, written here byte by byte, and a world without network."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import Tensor

from uniwhisper.weights import fetch, hf_to_openai

WIDTH, N_MELS, N_CTX, N_TEXT_CTX, FFN, N_LAYER = 8, 4, 6, 5, 16, 2
VOCABULARY = (*(bytes([i]) for i in range(256)), b" t", b"he", b" the", b"")
N_VOCAB = len(VOCABULARY) + 1608


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own home; the hub is out of reach, its cache empty, and no program may be started."""
    home = tmp_path / "home"
    monkeypatch.setenv("UNIWHISPER_HOME", str(home))
    monkeypatch.delenv("UNIWHISPER_OFFLINE", raising=False)
    monkeypatch.setattr(fetch, "_unreachable", {})

    def no_snapshot(*args: object, **options: object) -> str:
        raise LocalEntryNotFoundError("nothing cached")

    def no_hub(*args: object, **options: object) -> None:
        raise ConnectionError("no route to the hub")

    def no_program(command: list[str], **options: object) -> None:
        raise AssertionError(f"a test started {command}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_snapshot)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", no_hub)
    monkeypatch.setattr(fetch.subprocess, "run", no_program)
    return home


@pytest.fixture
def whisper_state() -> dict[str, Tensor]:
    """Return a random tiny Whisper under Hugging Face's names; every value fits float16."""
    rng = torch.Generator().manual_seed(7)
    state: dict[str, Tensor] = {}

    def put(name: str, *shape: int) -> None:
        state[f"model.{name}"] = torch.randn(shape, generator=rng).half().float()

    def affine(name: str, *shape: int) -> None:
        put(f"{name}.weight", *shape)
        put(f"{name}.bias", shape[0])

    affine("encoder.conv1", WIDTH, N_MELS, 3)
    affine("encoder.conv2", WIDTH, WIDTH, 3)
    put("encoder.embed_positions.weight", N_CTX, WIDTH)
    put("decoder.embed_tokens.weight", N_VOCAB, WIDTH)
    put("decoder.embed_positions.weight", N_TEXT_CTX, WIDTH)
    for side, attentions in {"encoder": ["self_attn"], "decoder": ["self_attn", "encoder_attn"]}.items():
        for i in range(N_LAYER):
            layer = f"{side}.layers.{i}"
            for attention in attentions:
                put(f"{layer}.{attention}.k_proj.weight", WIDTH, WIDTH)
                for projection in ("q_proj", "v_proj", "out_proj"):
                    affine(f"{layer}.{attention}.{projection}", WIDTH, WIDTH)
                affine(f"{layer}.{attention}_layer_norm", WIDTH)
            affine(f"{layer}.fc1", FFN, WIDTH)
            affine(f"{layer}.fc2", WIDTH, FFN)
            affine(f"{layer}.final_layer_norm", WIDTH)
        affine(f"{side}.layer_norm", WIDTH)
    return state


def _ctranslate2_variables(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state under CTranslate2's names, projections stacked, the keys' bias zero."""
    variables: dict[str, Tensor] = {}

    def put(name: str, old: str) -> None:
        norm = "layer_norm" in name
        variables[f"{name}/{'gamma' if norm else 'weight'}"] = state[f"model.{old}.weight"]
        variables[f"{name}/{'beta' if norm else 'bias'}"] = state[f"model.{old}.bias"]

    def stack(name: str, old: str, projections: str) -> None:
        full = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}
        names = [f"model.{old}.{full[p]}" for p in projections]
        variables[f"{name}/weight"] = torch.cat([state[f"{n}.weight"] for n in names])
        variables[f"{name}/bias"] = torch.cat([state.get(f"{n}.bias", torch.zeros(WIDTH)) for n in names])

    put("encoder/conv1", "encoder.conv1")
    put("encoder/conv2", "encoder.conv2")
    variables["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    for side in ("encoder", "decoder"):
        variables[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        put(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(N_LAYER):
            new, old = f"{side}/layer_{i}", f"{side}.layers.{i}"
            put(f"{new}/self_attention/layer_norm", f"{old}.self_attn_layer_norm")
            stack(f"{new}/self_attention/linear_0", f"{old}.self_attn", "qkv")
            stack(f"{new}/self_attention/linear_1", f"{old}.self_attn", "o")
            if side == "decoder":
                put(f"{new}/attention/layer_norm", f"{old}.encoder_attn_layer_norm")
                for part, projections in enumerate(("q", "kv", "o")):
                    stack(f"{new}/attention/linear_{part}", f"{old}.encoder_attn", projections)
            put(f"{new}/ffn/layer_norm", f"{old}.final_layer_norm")
            put(f"{new}/ffn/linear_0", f"{old}.fc1")
            put(f"{new}/ffn/linear_1", f"{old}.fc2")
    return variables


def _ctranslate2_bytes(variables: dict[str, Tensor], *, version: int = 6) -> bytes:
    def text(value: str) -> bytes:
        raw = value.encode() + b"\0"
        return struct.pack("<H", len(raw)) + raw

    codes = {torch.float32: 0, torch.int8: 1, torch.float16: 4, torch.bfloat16: 5}
    out = [struct.pack("<I", version), text("WhisperSpec"), struct.pack("<II", 3, len(variables) + 1)]
    out.append(text("encoder/num_heads") + struct.pack("<BBI", 0, 2, 2) + struct.pack("<h", 1))
    for name, tensor in variables.items():
        raw = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        header = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        out.append(text(name) + header + struct.pack("<BI", codes[tensor.dtype], len(raw)) + raw)
    out.append(struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight"))
    return b"".join(out)


@pytest.fixture
def ctranslate2_bytes(whisper_state: dict[str, Tensor]) -> Callable[..., bytes]:
    """Return a writer of the tiny Whisper as CTranslate2 `model.bin`; `change` edits its variables first."""

    def write(
        change: Callable[[dict[str, Tensor]], None] = lambda variables: None,
        dtype: torch.dtype = torch.float16,
        version: int = 6,
    ) -> bytes:
        variables = {name: tensor.to(dtype) for name, tensor in _ctranslate2_variables(whisper_state).items()}
        change(variables)
        return _ctranslate2_bytes(variables, version=version)

    return write


@pytest.fixture
def ggml_bytes(whisper_state: dict[str, Tensor]) -> bytes:
    """Return the tiny Whisper as whisper.cpp writes it: matrices in f16, vectors in f32, conv biases with an axis."""
    sizes = (N_VOCAB, N_CTX, WIDTH, 1, N_LAYER, N_TEXT_CTX, WIDTH, 1, N_LAYER, N_MELS, 1)
    out = [struct.pack("<I11i", 0x67676D6C, *sizes), struct.pack("<2i", N_MELS, 3), bytes(4 * 3 * N_MELS)]
    out.append(struct.pack("<i", len(VOCABULARY)))
    out += [struct.pack("<I", len(token)) + token for token in VOCABULARY]
    for name, tensor in hf_to_openai(whisper_state).items():
        array = tensor.numpy()
        if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
            array = array.reshape(-1, 1)
        half = array.ndim > 1 and not name.endswith(("bias", "positional_embedding"))
        raw = array.astype(np.float16 if half else np.float32).tobytes()
        out.append(struct.pack("<3i", array.ndim, len(name), int(half)))
        out.append(struct.pack(f"<{array.ndim}i", *array.shape[::-1]) + name.encode() + raw)
    return b"".join(out)
