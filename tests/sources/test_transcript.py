from __future__ import annotations

import pytest

from uniwhisper.sources._transcript import why_implausible


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("w", 1.2),
        ("one", 0.4),
        ("Please enter the number you wish to call.", 2.0),
        ("word " * 80, 29.0),
        ("\u516b", 0.7),
    ],
)
def test_real_prompts_pass(text: str, duration_s: float) -> None:
    assert why_implausible(text, duration_s) == ""


@pytest.mark.parametrize(
    ("text", "duration_s", "reason"),
    [
        ("", 1.0, "empty text"),
        ("...", 1.0, "empty text"),
        ("a", 0.1, "shorter than"),
        ("a long speech " * 20, 31.0, "longer than 30 s"),
        ("this is a simple beep tone", 0.4, "text too long"),
        ("monkeys", 16.0, "text too short"),
    ],
)
def test_other_texts_are_named(text: str, duration_s: float, reason: str) -> None:
    assert why_implausible(text, duration_s).startswith(reason)
