"""One training step in a process of its own; prints the bytes that it took at its fullest.

Run as `python peak.py bf16 400 400` (or fp32): precision, then the frames of each clip.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tiny import tiny_tokenizer
from uniwhisper.model.decoder import Decoder, Turn
from uniwhisper.model.dims import AdapterConfig, EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper

ENCODER = EncoderDims(n_mels=80, n_audio_ctx=1500, n_audio_state=256, n_audio_head=4, n_audio_layer=5)
ADAPTER = AdapterConfig(reduction=1, hidden=256)
LM = LlamaConfig(
    vocab_size=8000,
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
PROMPT, ANSWER = 20, 20


def network(precision: str) -> UniWhisper:
    """Return the network with random weights."""
    lm: Any = LlamaForCausalLM(LM)
    lm = lm.to(torch.bfloat16) if precision == "bf16" else lm
    return UniWhisper(
        audio=AudioModel(AudioEncoder(ENCODER)),
        decoder=Decoder(lm, tiny_tokenizer()),
        adapter=ADAPTER,
        precision=torch.bfloat16 if precision == "bf16" else None,
    )


def largest_bytes() -> float:
    """Return the largest resident memory of this process so far (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def step(model: UniWhisper, optimizer: torch.optim.Optimizer, frames: list[int]) -> None:
    """Do one optimiser step."""
    mels = [torch.randn(ENCODER.n_mels, 2 * count) for count in frames]
    turns = [Turn(prompt=(5,) * PROMPT, answer=(6,) * ANSWER)] * len(frames)
    model(mels, [0.0] * len(frames), turns).tokens.mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main() -> None:
    """Print how much a step adds to what libraries and the kernels of a small step take."""
    torch.set_num_threads(1)
    precision, frames = sys.argv[1], [int(word) for word in sys.argv[2:]]
    warm = network(precision)  # loads every kernel; its own memory is small and given back
    step(warm, torch.optim.AdamW([p for p in warm.parameters() if p.requires_grad], fused=True), [10])
    del warm
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest so far
    before = largest_bytes()
    model = network(precision)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    for _ in range(2):
        step(model, optimizer, frames)
    sys.stdout.write(f"{largest_bytes() - before}\n")


if __name__ == "__main__":
    main()
