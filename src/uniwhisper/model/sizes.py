"""Sizes of networks by name before anything is fetched: from `config.json` where one is here, else from a table.

Reads at most a small file; writes and fetches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from uniwhisper.errors import WeightsError
from uniwhisper.files import read_json
from uniwhisper.model.dims import EncoderDims, read_encoder_dims
from uniwhisper.model.flops import LmDims
from uniwhisper.weights import describe

__all__ = ["ENCODERS", "LMS", "find_encoder_dims", "find_lm_dims"]

Dims = TypeVar("Dims")


def _whisper(width: int, heads: int, layers: int, n_mels: int = 80) -> EncoderDims:
    return EncoderDims(n_mels=n_mels, n_audio_ctx=1500, n_audio_state=width, n_audio_head=heads, n_audio_layer=layers)


ENCODERS = {
    "openai/whisper-tiny": _whisper(384, 6, 4),
    "openai/whisper-base": _whisper(512, 8, 6),
    "openai/whisper-small": _whisper(768, 12, 12),
    "openai/whisper-medium": _whisper(1024, 16, 24),
    "openai/whisper-large-v2": _whisper(1280, 20, 32),
    "openai/whisper-large-v3": _whisper(1280, 20, 32, 128),
    "openai/whisper-large-v3-turbo": _whisper(1280, 20, 32, 128),
}
"""Sizes of Whisper's encoders. Source: the `dims` in openai's checkpoints, as openai/whisper's model card lists them;
each hub repository's `config.json` states the same."""


def _llama(
    layers: int, width: int, hidden: int, heads: int, kv_heads: int, vocabulary: int, head_dim: int = 0
) -> LmDims:
    return LmDims(
        layers=layers,
        width=width,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim or width // heads,
        vocabulary=vocabulary,
    )


_SMOL_135M = _llama(30, 576, 1536, 9, 3, 49_152)
_SMOL_360M = _llama(32, 960, 2560, 15, 5, 49_152)
_SMOL_1700M = _llama(24, 2048, 8192, 32, 32, 49_152)
_QWEN25_500M = _llama(24, 896, 4864, 14, 2, 151_936)
_QWEN25_1500M = _llama(28, 1536, 8960, 12, 2, 151_936)
_QWEN3_600M = _llama(28, 1024, 3072, 16, 8, 151_936, head_dim=128)
_QWEN3_1700M = _llama(28, 2048, 6144, 16, 8, 151_936, head_dim=128)

LMS = {
    "HuggingFaceTB/SmolLM2-135M": _SMOL_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOL_135M,
    "HuggingFaceTB/SmolLM2-360M": _SMOL_360M,
    "HuggingFaceTB/SmolLM2-360M-Instruct": _SMOL_360M,
    "HuggingFaceTB/SmolLM2-1.7B": _SMOL_1700M,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _SMOL_1700M,
    "Qwen/Qwen2.5-0.5B": _QWEN25_500M,
    "Qwen/Qwen2.5-0.5B-Instruct": _QWEN25_500M,
    "Qwen/Qwen2.5-Coder-0.5B": _QWEN25_500M,
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": _QWEN25_500M,
    "Qwen/Qwen2.5-1.5B": _QWEN25_1500M,
    "Qwen/Qwen2.5-1.5B-Instruct": _QWEN25_1500M,
    "Qwen/Qwen3-0.6B": _QWEN3_600M,
    "Qwen/Qwen3-0.6B-Base": _QWEN3_600M,
    "Qwen/Qwen3-1.7B": _QWEN3_1700M,
    "Qwen/Qwen3-1.7B-Base": _QWEN3_1700M,
}
"""Sizes of language models, all with a tied head. Source: `config.json` of the hub repository of that name; the sums
agree with the parameters that the model cards state (tests/model/test_sizes.py)."""


def find_encoder_dims(name: str) -> EncoderDims:
    """Return the sizes of the encoder that `name` stands for: a registered name, a hub id or a folder.

    Raises:
        WeightsError: The name is unknown here and no `config.json` of it lies on this machine, or it is no Whisper's.
    """
    folder = _folder(name)
    if folder is not None:
        return read_encoder_dims(folder)
    return _known(name, ENCODERS)


def find_lm_dims(name: str) -> LmDims:
    """Return the sizes of the LM that `name` stands for: a registered name, a hub id or a folder.

    Raises:
        WeightsError: The name is unknown here and no `config.json` of it lies on this machine, or it is no causal LM's.
    """
    folder = _folder(name)
    if folder is not None:
        return LmDims.of(read_json(folder / "config.json"))
    return _known(name, LMS)


def _folder(name: str) -> Path | None:
    """Return a folder on this machine that holds the model's `config.json`, weights or not."""
    local = Path(name).expanduser()
    if (local / "config.json").is_file():
        return local
    described = describe(name)
    return described.folder or _hub_cache(described.hub_id)


def _hub_cache(hub_id: str) -> Path | None:
    """Return the hub library's folder of a repository whose `config.json` it has; nothing is asked over the network."""
    if not hub_id:
        return None
    from huggingface_hub import try_to_load_from_cache

    found: Any = try_to_load_from_cache(hub_id, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _known(name: str, table: Mapping[str, Dims]) -> Dims:
    hub_id = describe(name).hub_id
    if hub_id in table:
        return table[hub_id]
    raise WeightsError(
        f"expected the sizes of {name!r} to be known, found neither a folder with config.json here nor the name in the "
        f"table of {', '.join(table)}. Nothing is fetched for an estimate: put the model's config.json into a folder "
        "and name that folder, or fetch the model first"
    )
