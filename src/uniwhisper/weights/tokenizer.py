"""Write Hugging Face tokenizer files for models whose packages bring a vocabulary in another form.

Reads a GGUF's metadata or Whisper's byte vocabulary; writes tokenizer.json and tokenizer_config.json into a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from uniwhisper.errors import ManifestError, WeightsError
from uniwhisper.files import read_json, write_json

__all__ = [
    "rebuild_whisper_tokenizer",
    "write_gguf_tokenizer",
    "write_whisper_tokenizer",
    "write_whisper_tokenizer_config",
]

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
"""GGUF's token types. Source: ggml-org/llama.cpp gguf-py/gguf/constants.py TokenType."""

_NUM_TIMESTAMPS = 1501
"""One every 20 ms from 0 to 30 s."""

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Source: the pattern in Qwen/Qwen2.5-0.5B-Instruct tokenizer.json."""


def write_gguf_tokenizer(fields: dict[str, Any], folder: Path, path: Path) -> None:
    """Write the byte-level BPE tokenizer in a GGUF's metadata, chat template included.

    Args:
        fields: The GGUF's metadata.
        folder: Where to write.
        path: The GGUF, for messages.

    Raises:
        WeightsError: The tokenizer is of another kind (only gpt2-style BPE of smollm and qwen2 is read).
    """
    try:
        kind, split = fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]
        tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
        merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    except KeyError as e:
        raise WeightsError(f"{path}: expected a tokenizer in the metadata, found no {e}") from e
    if kind != "gpt2" or split not in ("smollm", "qwen2"):
        raise WeightsError(f"{path}: expected a gpt2 tokenizer of smollm or qwen2, found {kind}/{split}")
    vocabulary = {token: i for i, token in enumerate(tokens) if types[i] != _UNUSED}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    if split == "smollm":
        first = pre_tokenizers.Digits(individual_digits=True)
        rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        tokenizer.normalizer = normalizers.NFC()
        first = pre_tokenizers.Split(Regex(_QWEN2_SPLIT), behavior="isolated")
        rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, rest])
    tokenizer.decoder = decoders.ByteLevel()
    for i, token in enumerate(tokens):
        if types[i] in (_CONTROL, _USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, special=types[i] == _CONTROL, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", _gguf_tokenizer_config(fields))


def _gguf_tokenizer_config(fields: dict[str, Any]) -> dict[str, Any]:
    tokens = fields["tokenizer.ggml.tokens"]
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": fields.get(f"{fields.get('general.architecture')}.context_length", 2048),
        "chat_template": fields.get("tokenizer.chat_template"),
    }
    for role, name in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items():
        index = fields.get(f"tokenizer.ggml.{name}_token_id")
        if index is not None:
            config[f"{role}_token"] = tokens[index]
    return {key: value for key, value in config.items() if value is not None}


def _byte_letters() -> dict[int, str]:
    """Return byte -> printable letter of the byte-level alphabet (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Return the last pair that BPE joins on its way to `token`: ranks below its own, lowest first."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [ranks.get(parts[i] + parts[i + 1], len(ranks)) for i in range(len(parts) - 1)]
        best = min(range(len(joined)), key=joined.__getitem__)
        if joined[best] >= ranks[token]:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    if len(parts) != 2:
        raise WeightsError(f"expected a vocabulary in BPE rank order, found that {token!r} is not one merge of others")
    return parts[0], parts[1]


def write_whisper_tokenizer(vocabulary: tuple[bytes, ...], n_vocab: int, folder: Path) -> None:
    """Write Whisper's multilingual tokenizer, its merges recovered from the rank order of `vocabulary`.

    Args:
        vocabulary: The text tokens as bytes, in rank order, without special tokens.
        n_vocab: Rows of the model's embedding; says how many languages there are.
        folder: Where to write.

    Raises:
        WeightsError: The vocabulary is not in rank order.

    Source: openai/whisper@c0d2f62 whisper/tokenizer.py (order of the special tokens).
    """
    letters = _byte_letters()
    ranks = {token: rank for rank, token in enumerate(vocabulary)}
    spelled = {"".join(letters[byte] for byte in token): rank for token, rank in ranks.items()}
    merges = []
    for token in vocabulary:
        if len(token) > 1:
            left, right = _merge(token, ranks)
            merges.append(("".join(letters[b] for b in left), "".join(letters[b] for b in right)))
    tokenizer = Tokenizer(models.BPE(vocab=spelled, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = _whisper_special_tokens(n_vocab - len(vocabulary))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    start, end = "<|startoftranscript|>", "<|endoftext|>"
    template = f"{start} <|notimestamps|> $A {end}"
    named = [(token, len(vocabulary) + special.index(token)) for token in (start, "<|notimestamps|>", end)]
    tokenizer.add_tokens([AddedToken(f"<|{0.02 * i:.2f}|>", special=False) for i in range(_NUM_TIMESTAMPS)])
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_whisper_tokenizer_config(folder)


def rebuild_whisper_tokenizer(source: Path, n_vocab: int, folder: Path) -> None:
    """Write Whisper's tokenizer from the vocabulary of the `tokenizer.json` at `source`.

    The file itself is not kept: the one that travels with CTranslate2 conversions lacks the first merge (" t") and the
    timestamps, so it would encode other tokens than Whisper was trained on.

    Raises:
        WeightsError: It is no Whisper tokenizer.
    """
    try:
        ranks = read_json(source)["model"]["vocab"]
        letters = {letter: byte for byte, letter in _byte_letters().items()}
        text = sorted((rank, token) for token, rank in ranks.items() if token != "<|endoftext|>")
        vocabulary = tuple(bytes(letters[letter] for letter in token) for _, token in text)
    except (KeyError, TypeError, AttributeError, ManifestError) as e:
        raise WeightsError(f"expected Whisper's tokenizer.json at {source}, found another file: {e!r}") from e
    if [rank for rank, _ in text] != list(range(len(text))):
        raise WeightsError(f"expected ranks 0 to {len(text) - 1} without a gap in {source}, found others")
    write_whisper_tokenizer(vocabulary, n_vocab, folder)


def _whisper_special_tokens(num_special: int) -> list[str]:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    num_languages = num_special - _NUM_TIMESTAMPS - 8  # eight: the tokens that are neither language nor time
    if not 0 < num_languages <= len(LANGUAGES):
        raise WeightsError(f"expected a multilingual Whisper vocabulary, found {num_special} special tokens")
    silence = "nospeech" if num_languages == len(LANGUAGES) else "nocaptions"  # large-v3 brought a language and a name
    tasks = ["translate", "transcribe", "startoflm", "startofprev", silence, "notimestamps"]
    names = ["endoftext", "startoftranscript", *list(LANGUAGES)[:num_languages], *tasks]
    return [f"<|{name}|>" for name in names]


def write_whisper_tokenizer_config(folder: Path) -> None:
    """Write the `tokenizer_config.json` that makes `tokenizer.json` in `folder` Whisper's."""
    end = "<|endoftext|>"
    config = {"tokenizer_class": "WhisperTokenizer", "processor_class": "WhisperProcessor", "model_max_length": 1024}
    tokens = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), end)
    write_json(folder / "tokenizer_config.json", {**config, **tokens, "errors": "replace"})
