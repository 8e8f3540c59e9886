"""A stand-in for the GPU's kernels that read packs: the same call, computed sequence by sequence on any device."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from uniwhisper.model import attention


@dataclass
class PackedKernel:
    """Computes what `varlen_attn` promises and notes what it was asked."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def varlen_attn(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
    ) -> Tensor:
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert all(rows.stride(-1) == 1 for rows in (query, key, value))
        assert enable_gqa == (query.shape[1] != key.shape[1])
        assert window_size in ((-1, -1), (-1, 0))
        bounds = cu_seq_q.tolist()
        assert bounds == cu_seq_k.tolist()
        assert bounds[-1] == len(query)
        assert max_q == max_k == max(stop - start for start, stop in pairwise(bounds))
        heads = (query.shape[1], key.shape[1])
        self.calls.append({"heads": heads, "bounds": bounds, "causal": window_size == (-1, 0), "dtype": query.dtype})
        parts = [rows.tensor_split(bounds[1:-1]) for rows in (query, key, value)]
        outputs = [
            attention.attend(*(rows.transpose(0, 1)[None] for rows in part), causal=window_size == (-1, 0), scale=scale)
            for part in zip(*parts, strict=True)
        ]
        return torch.cat([out[0].transpose(0, 1) for out in outputs])

    def flash_attn_varlen_func(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        *,
        softmax_scale: float,
        causal: bool,
    ) -> Tensor:
        return self.varlen_attn(
            q,
            k,
            v,
            cu_seqlens_q,
            cu_seqlens_k,
            max_seqlen_q,
            max_seqlen_k,
            scale=softmax_scale,
            window_size=(-1, 0) if causal else (-1, -1),
            enable_gqa=q.shape[1] != k.shape[1],
        )
