"""Compare transcripts word by word after a named normalisation.

Reads: texts. Returns: normalised texts, and word errors a transcript.
A word error rate means little without the rule that was applied before counting, so rules have names here, and scores
carry the name. Counting is jiwer's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence

import jiwer
import numpy as np

from uniwhisper.errors import ConfigError

__all__ = ["NORMALISERS", "normalise", "word_errors"]

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'"})


def _lower(text: str) -> str:
    return text.lower()


def _lower_without_punctuation(text: str) -> str:
    """Return `text` in lower case with every mark but the apostrophe replaced by a space.

    A space, because "well-known" would otherwise become one word that no reference has.
    """
    kept = ["'" if c == "'" else " " if unicodedata.category(c)[0] in "PS" else c for c in _plain(text)]
    return " ".join(word for word in "".join(kept).split() if word.strip("'"))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES)


NORMALISERS: Mapping[str, Callable[[str], str]] = {
    "raw-lower": _lower,
    "lower-nopunct": _lower_without_punctuation,
}
"""Name -> rule.

- `raw-lower`: lower case and nothing else, so a stray comma costs a word.
  Source: X-ARES 0.1.3 (https://github.com/jimbozhang/xares, src/xares/metrics.py).
- `lower-nopunct`: lower case, typographic apostrophes made plain, every other punctuation mark or symbol replaced by a
  space, words of apostrophes alone dropped. LibriSpeech's references have apostrophes and no other mark.
"""


def normalise(text: str, name: str) -> str:
    """Return `text` as the rule called `name` leaves it.

    Raises:
        ConfigError: There is no such rule.
    """
    if name not in NORMALISERS:
        raise ConfigError(f"expected a normaliser out of {', '.join(NORMALISERS)}; found {name!r}")
    return NORMALISERS[name](text)


def word_errors(
    references: Sequence[str], hypotheses: Sequence[str], *, normaliser: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return every transcript's word errors and its reference's words, int64 [N] each.

    The word error rate of any set of transcripts is the sum of the errors divided by the sum of the words.

    Args:
        references: What was said, N texts.
        hypotheses: What was heard, N texts.
        normaliser: Name of the rule applied to both.

    Raises:
        ConfigError: There is no such rule, or the numbers of texts differ.
    """
    if len(references) != len(hypotheses):
        raise ConfigError(f"expected as many hypotheses as references, found {len(hypotheses)} and {len(references)}")
    if not len(references):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    output = jiwer.process_words(
        [normalise(text, normaliser) for text in references], [normalise(text, normaliser) for text in hypotheses]
    )
    errors = [
        sum(
            # a substitution spans as many words on both sides, a deletion none of the hypothesis, an insertion only it
            max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in alignment
            if chunk.type != "equal"
        )
        for alignment in output.alignments
    ]
    words = [len(reference) for reference in output.references]
    return np.array(errors, dtype=np.int64), np.array(words, dtype=np.int64)
