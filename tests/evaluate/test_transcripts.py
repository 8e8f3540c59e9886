"""Normalisers by cases, word errors against jiwer and against an edit distance by the definition."""

from __future__ import annotations

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.transcripts import NORMALISERS, normalise, word_errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HELLO, WORLD!", "hello world"),
        ("Well-known -- and 3,000 more", "well known and 3 000 more"),
        ("IT'S O' the \u2019tis", "it's o' the 'tis"),
        ("' \" ... $5 + 2%", "5 2"),
        ("Caf\u00e9 cafe\u0301", "caf\u00e9 caf\u00e9"),
        ("  \t two\n lines ", "two lines"),
        ("...", ""),
    ],
)
def test_lower_nopunct(text, expected):
    assert normalise(text, "lower-nopunct") == expected


def test_raw_lower_keeps_punctuation_so_that_a_comma_costs_a_word():
    assert normalise("HELLO, World", "raw-lower") == "hello, world"
    errors, words = word_errors(["HELLO WORLD"], ["hello, world"], normaliser="raw-lower")
    assert (errors.tolist(), words.tolist()) == ([1], [2])
    assert word_errors(["HELLO WORLD"], ["hello, world"], normaliser="lower-nopunct")[0].tolist() == [0]


TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=6).map(" ".join)


def distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


@given(pairs=st.lists(st.tuples(TEXTS.map(lambda text: text[:9]), TEXTS.map(lambda text: text[:9])), max_size=4))
def test_word_errors_are_edit_distances_and_sum_to_jiwers_rate(pairs):
    references, hypotheses = [a for a, _ in pairs], [b for _, b in pairs]
    errors, words = word_errors(references, hypotheses, normaliser="lower-nopunct")
    assert errors.tolist() == [distance(a.split(), b.split()) for a, b in pairs]
    assert words.tolist() == [len(a.split()) for a in references]
    if words.sum():
        assert errors.sum() / words.sum() == pytest.approx(jiwer.wer(references, hypotheses))


def test_faults():
    with pytest.raises(ConfigError, match=", ".join(NORMALISERS)):
        normalise("a", "whisper")
    with pytest.raises(ConfigError, match="found 1 and 2"):
        word_errors(["a", "b"], ["a"], normaliser="raw-lower")
