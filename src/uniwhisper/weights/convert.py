"""Turn one foreign weight file into a folder in the hub's layout.

Reads CTranslate2, ggml, GGUF or openai `.pt`; writes config.json, model.safetensors and, where the file or its
companions carry a vocabulary, the tokenizer. Writes only into the folder it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from uniwhisper.errors import WeightsError
from uniwhisper.files import read_json
from uniwhisper.weights.ctranslate2 import read_whisper_ctranslate2
from uniwhisper.weights.folder import write_generation_config, write_model, write_whisper
from uniwhisper.weights.ggml import MAGIC, read_whisper_ggml
from uniwhisper.weights.gguf import read_gguf
from uniwhisper.weights.openai import read_openai
from uniwhisper.weights.tokenizer import rebuild_whisper_tokenizer, write_gguf_tokenizer, write_whisper_tokenizer

__all__ = ["convert", "detect_format"]

_MULTILINGUAL_SPECIALS = 1608
"""Rows of a multilingual Whisper's embedding beyond its text tokens, at least; an English-only one has 1607."""


def detect_format(path: Path) -> str:
    """Return `gguf`, `ggml`, `openai` or `ctranslate2` from the file's first bytes and its name.

    Raises:
        WeightsError: It is none of these.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"GGUF"):
        return "gguf"
    if head.startswith(MAGIC.to_bytes(4, "little")):
        return "ggml"
    if b"WhisperSpec" in head:
        return "ctranslate2"
    if path.suffix == ".pt":
        return "openai"
    raise WeightsError(
        f"expected a Whisper of openai (.pt), whisper.cpp (ggml) or CTranslate2 (model.bin), or a GGUF language model "
        f"at {path}, found a file that begins {head[:8]!r}. A pickled .bin is refused: convert it to safetensors "
        "where you trust it, and give the folder"
    )


def convert(format_name: str, source: Path, folder: Path, extras: Mapping[str, Path] | None = None) -> None:
    """Write the model in `source` to `folder` in the hub's layout.

    Args:
        format_name: What `detect_format` returns or the registry says.
        source: The foreign file.
        folder: An existing empty folder.
        extras: Companions by name: `tokenizer.json`, `ctranslate2.json` (CTranslate2's config with suppressed tokens).

    Raises:
        WeightsError: The file is corrupt or of another model.
    """
    extras = extras or {}
    if format_name == "gguf":
        model = read_gguf(source)
        write_model(model.state, model.config, folder)
        write_gguf_tokenizer(model.fields, folder, source)
    elif format_name == "ggml":
        state, content = read_whisper_ggml(source)
        write_whisper(state, folder, source, content.dims.n_audio_head)
        if content.dims.n_vocab - len(content.vocabulary) >= _MULTILINGUAL_SPECIALS:
            write_whisper_tokenizer(content.vocabulary, content.dims.n_vocab, folder)
            write_generation_config(folder)
    elif format_name == "openai":
        state, n_head = read_openai(source)
        write_whisper(state, folder, source, n_head)
    elif format_name == "ctranslate2":
        write_whisper(read_whisper_ctranslate2(source), folder, source)
        _add_whisper_tokenizer(folder, extras)
    else:
        raise WeightsError(f"expected the format gguf, ggml, openai or ctranslate2, found {format_name!r}")


def _add_whisper_tokenizer(folder: Path, extras: Mapping[str, Path]) -> None:
    if "tokenizer.json" not in extras:
        return
    rebuild_whisper_tokenizer(extras["tokenizer.json"], read_json(folder / "config.json")["vocab_size"], folder)
    settings = read_json(extras["ctranslate2.json"]) if "ctranslate2.json" in extras else {}
    write_generation_config(folder, settings.get("suppress_ids"), settings.get("suppress_ids_begin"))
