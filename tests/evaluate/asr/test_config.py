"""Configurations: the presets hold, and nonsense is refused with the field's name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.asr import STRICT, TINY, XARES
from uniwhisper.evaluate.transcripts import NORMALISERS


def test_presets_name_normalisers_that_there_are() -> None:
    assert {STRICT.normaliser, XARES.normaliser, TINY.normaliser} <= set(NORMALISERS)


def test_strict_decodes_without_penalty_and_xares_as_published() -> None:
    assert (STRICT.repetition_penalty, STRICT.max_new_tokens, STRICT.selection) == (1.0, 0, "wer")
    assert len(STRICT.seeds) >= 3
    assert (XARES.batch_clips, XARES.learning_rate, XARES.epochs) == (4, 1e-3, 10)
    assert (XARES.repetition_penalty, XARES.max_new_tokens, XARES.lower_case) == (1.1, 200, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("selection", "test"),
        ("precision", "fp16"),
        ("schedule", "day"),
        ("epochs", 0),
        ("reduction", 0),
        ("patience_epochs", -1),
        ("repetition_penalty", 0.0),
        ("learning_rate", 0.0),
        ("end_share", 1.5),
        ("seeds", ()),
        ("seeds", (1, 1)),
        ("normaliser", "none"),
    ],
)
def test_nonsense_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field}|normaliser"):
        replace(STRICT, **{field: value})
