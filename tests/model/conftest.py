"""What several tests of the network share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch.nn.attention import varlen

from tiny import tiny_lm, tiny_whisper
from uniwhisper.model import attention, packing

from .packed_kernel import PackedKernel


@pytest.fixture
def packed_kernel(monkeypatch: pytest.MonkeyPatch) -> PackedKernel:
    """Let `varlen` and `flash` run here, by the stand-in."""
    kernel = PackedKernel()

    def kernel_for(name: str, *, packed: bool, **where: Any) -> str:
        if packed and name in attention.PACKED_KERNELS:
            return name
        return attention.kernel_for(name, packed=packed, **where)

    monkeypatch.setattr(packing, "kernel_for", kernel_for)
    monkeypatch.setattr(varlen, "varlen_attn", kernel.varlen_attn)
    monkeypatch.setitem(sys.modules, "flash_attn", kernel)
    return kernel


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Whisper and an LM, each tiny; two query heads of the LM share a key head."""
    root = tmp_path_factory.mktemp("models")
    return tiny_whisper(root / "whisper", width=32), tiny_lm(root / "lm", chat=True)
