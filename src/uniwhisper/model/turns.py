"""Prompts and answers as token ids, made without the language model.

Reads a tokenizer; writes nothing. Guarantees: a `TurnMaker` gives the ids that `Decoder.turn` gives, can be sent to
worker processes at the price of the tokenizer alone, and may be called by several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["Dialogue", "Turn", "TurnMaker"]

_CACHED_TEXTS = 1 << 15  # prompts of a few hundred phrasings times their labels, and short answers; about 20 MB
_CACHED_CHARS = 400  # longer texts are transcripts and captions, which hardly ever come again


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Token ids of one example; prompt and answer are tokenised apart, so the loss boundary is exact."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialogue:
    """Token ids that the decoder's chat template puts around an example; a base model has only a closing token."""

    opening: tuple[int, ...]
    """Before the audio: the start of the user's turn."""
    middle: tuple[int, ...]
    """Between prompt and answer: the end of the user's turn and the start of the answer."""
    closing: tuple[int, ...]
    """After the answer: the token that ends it, which is learnt too."""


class TurnMaker:
    """Tokenises prompts and answers and wraps them in the chat template; texts that come again are remembered."""

    def __init__(self, tokenizer: Any, dialogue: Dialogue) -> None:
        """Keep what is needed of a tokenizer.

        Args:
            tokenizer: A tokenizer of `transformers`. Of a fast one only the `tokenizers.Tokenizer` inside is kept: it
                gives the same ids, is quicker to call and to send, and needs no `transformers` in the other process.
            dialogue: The ids around an example.
        """
        self.dialogue = dialogue
        self._tokenizer = _alone(tokenizer.backend_tokenizer) if getattr(tokenizer, "is_fast", False) else tokenizer
        self._set_up()

    def _set_up(self) -> None:
        self._ids: Callable[[str], tuple[int, ...]] = (
            self._ids_directly if hasattr(self._tokenizer, "encode_batch") else self._ids_by_call
        )
        self._remembered = lru_cache(maxsize=_CACHED_TEXTS)(self._ids)

    def _ids_directly(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _ids_by_call(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of `text`, without special tokens."""
        return self._remembered(text) if len(text) <= _CACHED_CHARS else self._ids(text)

    def __call__(self, prompt: str, answer: str) -> Turn:
        """Return the ids of prompt and answer, tokenised separately and wrapped in the chat template."""
        return Turn(
            prompt=self.encode(prompt) + self.dialogue.middle, answer=self.encode(answer) + self.dialogue.closing
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is remembered at home."""
        return {"dialogue": self.dialogue, "_tokenizer": self._tokenizer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()


def _alone(backend: Any) -> Any:
    """Return a copy of a `tokenizers.Tokenizer` that cuts and pads nothing.

    A copy, because every call of the `transformers` object around it changes these settings of the one inside.
    """
    copied = type(backend).from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    return copied
