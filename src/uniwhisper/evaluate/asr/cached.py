"""Keys and values of what an LM has read, so that each new token costs one row and not the whole sequence again.

`open_cache` reads the inputs of a group of clips and returns the hidden state that predicts each clip's first token;
`step` reads one more token a clip. Sequences keep positions from 0 and never meet. Llama-shaped LMs keep each sequence
at the left of its row, so every token's place in the row is its position; others go through transformers' own cache.

Shape letters: `N` sequences, `S` longest of them, `R` places in a row, `L` packed positions, `H` heads of queries, `K`
heads of keys, `d` head width, `Q` decoder width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from uniwhisper.model.attention import attend
from uniwhisper.model.decoder import Decoder
from uniwhisper.model.llama import supports

__all__ = ["Cache", "cached_attention", "open_cache"]

_ROOM = 64
"""Places that a row grows by when it is full."""


class Cache(Protocol):
    """What a group of sequences has read so far."""

    def step(self, inputs: Float[Tensor, "N Q"]) -> Float[Tensor, "N Q"]:
        """Read one more input a sequence and return the final hidden states there."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Forget all sequences but these."""
        ...


def open_cache(decoder: Decoder, inputs: Sequence[Float[Tensor, "S Q"]]) -> tuple[Cache, Float[Tensor, "N Q"]]:
    """Return the cache of the sequences and the final hidden state at the end of each.

    Call it within `cached_attention`, under `torch.no_grad`.
    """
    cache: _LlamaCache | _StockCache = _LlamaCache(decoder) if supports(decoder.lm) else _StockCache(decoder)
    return cache, cache.read(inputs)


@contextmanager
def cached_attention(decoder: Decoder) -> Iterator[None]:
    """Give an LM that is not Llama-shaped transformers' own attention within the block; no training meanwhile."""
    lm: Any = decoder.lm
    if supports(lm):
        yield
        return
    before = lm.config._attn_implementation
    lm.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        lm.set_attn_implementation(before)


class _LlamaCache:
    """Caches of a Llama-shaped LM: a tensor a layer, keys beside values."""

    def __init__(self, decoder: Decoder) -> None:
        self._lm: Any = decoder.lm
        config = self._lm.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        self._lengths = torch.empty(0, dtype=torch.long)
        self._layers: list[Float[Tensor, "N 2K R d"]] = []

    def read(self, inputs: Sequence[Tensor]) -> Tensor:
        """Read the sequences; attention pads them on the right, where the causal rule keeps padding out."""
        device = inputs[0].device
        lengths = [len(rows) for rows in inputs]
        longest = max(lengths)
        self._lengths = torch.tensor(lengths, device=device)
        positions = torch.cat([torch.arange(n, device=device) for n in lengths])
        numbers = torch.arange(len(lengths), device=device).repeat_interleave(self._lengths)
        places = numbers * longest + positions
        x = torch.cat(list(inputs))
        angles = self._angles(x, positions)
        for layer in self._lm.model.layers:
            query, keys_values = self._project(layer, x, angles)
            rows = torch.cat([query, keys_values], dim=1)
            padded = rows.new_zeros(len(lengths) * longest, *rows.shape[1:]).index_copy_(0, places, rows)
            padded = padded.view(len(lengths), longest, *rows.shape[1:]).transpose(1, 2)
            sizes = [self._heads, self._kv_heads, self._kv_heads]
            out = attend(*padded.split(sizes, dim=1), causal=True).transpose(1, 2).reshape(-1, self._width)
            self._layers.append(functional.pad(padded[:, self._heads :], (0, 0, 0, _ROOM)))
            x = self._finish(layer, x, out[places])
        ends = self._lengths.cumsum(0) - 1
        return self._lm.model.norm(x[ends])

    def step(self, inputs: Tensor) -> Tensor:
        """Read one more input a sequence."""
        positions, x = self._lengths, inputs
        size = int(positions.max()) + 1
        if size > self._layers[0].shape[2]:
            self._layers = [functional.pad(cache, (0, 0, 0, _ROOM)) for cache in self._layers]
        numbers = torch.arange(len(x), device=x.device)
        unseen = torch.arange(size, device=x.device) > positions[:, None]
        bias = torch.zeros(unseen.shape, dtype=x.dtype, device=x.device).masked_fill_(unseen, float("-inf"))
        angles = self._angles(x, positions)
        for layer, cache in zip(self._lm.model.layers, self._layers, strict=True):
            query, keys_values = self._project(layer, x, angles)
            cache[numbers, :, positions] = keys_values
            keys, values = cache[:, :, :size].split(self._kv_heads, dim=1)
            grouped = (query * self._head_dim**-0.5).view(len(x), self._kv_heads, -1, self._head_dim)
            weights = (grouped @ keys.transpose(-1, -2) + bias[:, None, None]).softmax(dim=-1)
            x = self._finish(layer, x, (weights @ values).reshape(len(x), self._width))
        self._lengths = positions + 1
        return self._lm.model.norm(x)

    def keep(self, rows: Tensor) -> None:
        """Forget all sequences but these."""
        self._lengths = self._lengths[rows]
        self._layers = [cache[rows] for cache in self._layers]

    @property
    def _width(self) -> int:
        return self._heads * self._head_dim

    def _angles(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self._lm.model.rotary_emb(x[None], positions[None])
        return cos[0, :, None], sin[0, :, None]

    def _project(self, layer: Any, x: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return rotated queries [L, H, d], and rotated keys beside values [L, 2K, d]."""
        attention, x = layer.self_attn, layer.input_layernorm(x)
        query, key, value = (
            project(x).view(len(x), -1, self._head_dim)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        if hasattr(attention, "q_norm"):
            query, key = attention.q_norm(query), attention.k_norm(key)
        return _rotate(query, *angles), torch.cat([_rotate(key, *angles), value], dim=1)

    def _finish(self, layer: Any, x: Tensor, attended: Tensor) -> Tensor:
        x = x + layer.self_attn.o_proj(attended)
        return x + layer.mlp(layer.post_attention_layernorm(x))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Source: Su et al., arXiv 2104.09864, with the halves that Hugging Face's Llama weights are stored for."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class _StockCache:
    """transformers' own cache, sequences padded on the left as it wants them."""

    def __init__(self, decoder: Decoder) -> None:
        self._lm: Any = decoder.lm
        self._cache: Any = None
        self._mask = torch.empty(0)

    def read(self, inputs: Sequence[Tensor]) -> Tensor:
        """Read the sequences."""
        from transformers import DynamicCache

        self._cache = DynamicCache()
        ones = [torch.ones(len(rows), dtype=torch.long, device=rows.device) for rows in inputs]
        self._mask = pad_sequence(ones, batch_first=True, padding_side="left")
        return self._forward(pad_sequence(list(inputs), batch_first=True, padding_side="left"))

    def step(self, inputs: Tensor) -> Tensor:
        """Read one more input a sequence."""
        self._mask = functional.pad(self._mask, (0, 1), value=1)
        return self._forward(inputs[:, None])

    def keep(self, rows: Tensor) -> None:
        """Forget all sequences but these."""
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows)

    def _forward(self, x: Tensor) -> Tensor:
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -x.shape[1] :]
        output = self._lm.base_model(
            inputs_embeds=x,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        return output.last_hidden_state[:, -1]
