"""Read a Whisper file of whisper.cpp (ggml, f32 or f16) into Hugging Face's state dict and the vocabulary in it.

Reads one file; writes nothing. Quantised ggml types are refused.

Source: ggerganov/whisper.cpp models/convert-pt-to-ggml.py (the writer of this layout).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uniwhisper.weights.binary import Cursor
from uniwhisper.weights.names import openai_to_hf

__all__ = ["MAGIC", "GgmlDims", "GgmlWhisper", "read_ggml", "read_whisper_ggml"]

MAGIC = 0x67676D6C
_DTYPES = {0: torch.float32, 1: torch.float16}
_MAX_WIDTH = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class GgmlDims:
    """The header's sizes, in the file's order; `ftype` is the type of the large tensors (0 f32, 1 f16)."""

    n_vocab: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int
    n_mels: int
    ftype: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GgmlWhisper:
    """A ggml Whisper file: sizes, byte strings of the vocabulary in rank order, and openai's state dict."""

    dims: GgmlDims
    vocabulary: tuple[bytes, ...]
    state: dict[str, Tensor]


def read_ggml(path: Path) -> GgmlWhisper:
    """Return the content of a ggml Whisper file under openai's names.

    Raises:
        WeightsError: The file is truncated, corrupt, quantised or of another kind; the message names the byte.
    """
    cursor = Cursor(path, "ggml Whisper")
    magic = cursor.integer("I", "the magic number")
    if magic != MAGIC:
        raise cursor.fail(f"the magic number {MAGIC:#x}", f"{magic:#x}", 0)
    sizes = {name: cursor.integer("i", name) for name in GgmlDims.__dataclass_fields__}
    for name, size in sizes.items():
        if not (0 if name == "ftype" else 1) <= size <= _MAX_WIDTH:
            raise cursor.fail(f"a sensible {name}", str(size))
    num_mels, num_bins = cursor.integer("i", "the filterbank's size"), cursor.integer("i", "the filterbank's size")
    cursor.take(4 * num_mels * num_bins, "the mel filterbank")
    vocabulary = []
    for rank in range(cursor.integer("i", "the vocabulary's size")):
        length = cursor.integer("I", f"the length of token {rank}")
        vocabulary.append(cursor.take(length, f"token {rank}").tobytes())
    state: dict[str, Tensor] = {}
    while cursor.num_left:
        name, tensor = _tensor(cursor)
        state[name] = tensor
    num_expected = 11 + 15 * sizes["n_audio_layer"] + 24 * sizes["n_text_layer"]  # a cut may fall between two tensors
    if len(state) != num_expected:
        raise cursor.fail(f"{num_expected} tensors, the last ending", f"{len(state)}")
    return GgmlWhisper(dims=GgmlDims(**sizes), vocabulary=tuple(vocabulary), state=state)


def _tensor(cursor: Cursor) -> tuple[str, Tensor]:
    start = cursor.offset
    rank = cursor.integer("i", "a tensor's rank")
    length = cursor.integer("i", "the length of a tensor's name")
    code = cursor.integer("i", "a tensor's type")
    if code not in _DTYPES:
        raise cursor.fail("a tensor of type 0 (f32) or 1 (f16)", f"type {code}", start + 8)
    shape = cursor.shape(rank, "i", "a tensor")[::-1]
    name = cursor.text(length, "a tensor's name")
    tensor = cursor.tensor(_DTYPES[code], shape, name)
    if name.endswith((".conv1.bias", ".conv2.bias")):
        tensor = tensor.reshape(-1)  # the writer adds an axis for broadcasting
    return name, tensor


def read_whisper_ggml(path: Path) -> tuple[dict[str, Tensor], GgmlWhisper]:
    """Return Hugging Face's state dict of a ggml Whisper file, and the file's own content.

    Raises:
        WeightsError: The file is corrupt or another model.
    """
    content = read_ggml(path)
    return openai_to_hf(content.state), content
