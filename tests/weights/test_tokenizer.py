from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from uniwhisper.errors import WeightsError
from uniwhisper.weights.tokenizer import rebuild_whisper_tokenizer, write_whisper_tokenizer

BYTES = tuple(bytes([i]) for i in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))
OTHERS = tuple(bytes([i]) for i in range(256) if bytes([i]) not in BYTES)
VOCABULARY = (*BYTES, *OTHERS, b" t", b"he", b" the", b"")
NUM_SPECIAL = 1608


def test_merges_come_from_the_rank_order(tmp_path: Path) -> None:
    write_whisper_tokenizer(VOCABULARY, len(VOCABULARY) + NUM_SPECIAL, tmp_path)

    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    merges = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    assert [tuple(merge) for merge in merges] == [("\u0120", "t"), ("h", "e"), ("\u0120t", "he")]
    encoded = tokenizer.encode("a the", add_special_tokens=False)
    assert encoded.tokens == ["a", "\u0120the"]
    assert tokenizer.decode(encoded.ids) == "a the"


def test_special_tokens_stand_where_whisper_has_them(tmp_path: Path) -> None:
    write_whisper_tokenizer(VOCABULARY, len(VOCABULARY) + NUM_SPECIAL, tmp_path)

    tokenizer, end = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), len(VOCABULARY)
    # distances from end-of-text as in openai's multilingual vocabulary of 99 languages
    expected = {"<|startoftranscript|>": 1, "<|en|>": 2, "<|su|>": 100, "<|translate|>": 101, "<|transcribe|>": 102}
    expected |= {"<|nocaptions|>": 105, "<|notimestamps|>": 106, "<|0.00|>": 107, "<|30.00|>": 1607}
    assert {token: (tokenizer.token_to_id(token) or 0) - end for token in expected} == expected
    assert tokenizer.get_vocab_size() == end + NUM_SPECIAL


def test_large_v3_has_one_language_more(tmp_path: Path) -> None:
    write_whisper_tokenizer(VOCABULARY, len(VOCABULARY) + NUM_SPECIAL + 1, tmp_path)

    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.token_to_id("<|yue|>") == len(VOCABULARY) + 101
    assert tokenizer.token_to_id("<|nospeech|>") == len(VOCABULARY) + 106


@pytest.mark.parametrize("num_special", [1000, 1509, 1700])
def test_a_vocabulary_that_is_not_multilingual_is_refused(tmp_path: Path, num_special: int) -> None:
    with pytest.raises(WeightsError, match=f"{num_special} special tokens"):
        write_whisper_tokenizer(VOCABULARY, len(VOCABULARY) + num_special, tmp_path)


def test_a_vocabulary_out_of_order_is_refused(tmp_path: Path) -> None:
    shuffled = (*BYTES, *OTHERS, b" the", b" t", b"he", b"")
    with pytest.raises(WeightsError, match="rank order"):
        write_whisper_tokenizer(shuffled, len(shuffled) + NUM_SPECIAL, tmp_path)


def test_a_file_without_its_first_merge_is_repaired(tmp_path: Path) -> None:
    n_vocab = len(VOCABULARY) + NUM_SPECIAL
    write_whisper_tokenizer(VOCABULARY, n_vocab, tmp_path)
    intact = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    broken = json.loads(intact)
    broken["model"]["vocab"]["<|endoftext|>"] = len(VOCABULARY)
    del broken["model"]["merges"][0]
    (tmp_path / "given.json").write_text(json.dumps(broken), encoding="utf-8")

    rebuild_whisper_tokenizer(tmp_path / "given.json", n_vocab, tmp_path)

    assert (tmp_path / "tokenizer.json").read_text(encoding="utf-8") == intact


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"model": {"vocab": {"\u4f60": 0}}}', '{"model": {"vocab": {"a": 7}}}']
)
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "given.json").write_text(content, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"given\.json"):
        rebuild_whisper_tokenizer(tmp_path / "given.json", 2000, tmp_path)
