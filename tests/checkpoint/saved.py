"""Tensors and states to save, each filled by its step, so that pieces of two checkpoints are never taken for one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniwhisper.checkpoint import CheckpointWriter

KEY = "k" * 64


def tensors_of(step: int) -> dict[str, Tensor]:
    """Return tensors of every dtype and shape that a run has."""
    generator = torch.Generator().manual_seed(step)
    return {
        "model.audio.encoder.layers.0.weight": torch.randn(7, 5, generator=generator),
        "model.adapter.bias": torch.randn(3, generator=generator).to(torch.bfloat16),
        "optim.adapter.bias.step": torch.tensor(float(step)),
        "optim.adapter.bias.codes": torch.randint(0, 255, (9,), dtype=torch.uint8, generator=generator),
        "average.numbers": torch.randint(-9, 9, (2, 3, 2), generator=generator),
        "average.flags": torch.tensor([True, False, True]),
        "original.half": torch.randn(4, generator=generator).half(),
        "original.empty": torch.zeros(0, 3),
    }


def state_of(step: int) -> dict[str, Any]:
    """Return a state with the kinds of values that a run hands over."""
    return {"step": step, "provenance": {"drawn": {"bells": 7}, "licences": ["CC0-1.0"], "share": 0.1 + step / 3}}


def blank(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of the same kinds with other values."""
    return {name: torch.full_like(value, 1).contiguous() for name, value in tensors.items()}


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Return whether names, types and values are equal."""
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype and torch.equal(found[name], expected[name]) for name in expected
    )


def save_steps(folder: Path, *steps: int, keep: int = 2) -> list[Path]:
    """Save a checkpoint of each step and return their folders."""
    with CheckpointWriter(folder, key=KEY, keep=keep) as writer:
        return [writer.save(step, tensors_of(step), state_of(step)) for step in steps]
