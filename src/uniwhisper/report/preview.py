"""The preview of a corpus: some of its clips with a player, their annotation, and every prompt and answer they give.

Reads a corpus folder through its source, and the audio of the clips shown; writes one HTML page. Clips are drawn as
they are read, so a corpus of any size can be looked at. What the source drops is counted on the page, and a clip whose
audio cannot be read says so in place of its player.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from uniwhisper.audio import WINDOW_S
from uniwhisper.clips import measure, read_clip
from uniwhisper.errors import AudioError, ManifestError, SourceError
from uniwhisper.files import write_text
from uniwhisper.inputs import Corpus, open_corpus
from uniwhisper.instructions import attribute_values, families, render
from uniwhisper.report.players import MIME, encode
from uniwhisper.report.sheet import alert, audio_element, facts_list, plain_table, sheet
from uniwhisper.sources import get_source
from uniwhisper.types import Clip, Family

__all__ = ["Preview", "write_preview"]

_TEXT_CHARACTERS = 600
"""Characters of a prompt, answer or fact that are shown; a minute of piano has thousands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What a page shows."""

    page: Path
    num_shown: int
    num_clips: int
    num_dropped: int


def write_preview(out: Path, name: str, root: Path, *, num_clips: int = 12, seed: int = 0) -> Preview:
    """Write the preview of source `name` in `root`.

    Args:
        out: The HTML file to write.
        name: A source's name.
        root: The corpus folder or file.
        num_clips: Clips to show; they are spread over splits.
        seed: Picks the clips and the wording of prompts.

    Raises:
        SourceError: There is no such source, its annotations cannot be read, or there is no clip in them.
        ManifestError: A row of a table cannot be read, or an id repeats.
    """
    spec = get_source(name).SPEC
    with open_corpus(name, root) as corpus:
        splits, piles = _draw(corpus.clips, num_clips, seed)
        dropped = corpus.context.dropped
        if not piles:
            raise SourceError(f"{name}: expected clips in {root}, found none ({len(dropped)} left out by the source)")
        turns = [pile[turn] for turn in range(num_clips) for _, pile in sorted(piles.items()) if turn < len(pile)]
        shown = turns[:num_clips]
        cards = "".join(_card(clip, turns, seed) for clip in shown)
    total = sum(splits.values())
    lead = (
        f"{spec.description.rstrip('.')}. {len(shown)} of {total:,} clips are shown, drawn from all splits; the source "
        f"left out {len(dropped):,}."
    )
    problem = alert("Read from annotations alone", [corpus.problem]) if corpus.problem else ""
    body = f"{problem}{_summary(corpus, splits)}<section><h2>Clips</h2>{cards}</section>"
    title = f"{name}: {root.name}" if "own" in spec.uses else name
    write_text(out, sheet(kicker="UniWhisper corpus preview", title=title, lead=lead, body=body))
    return Preview(page=out, num_shown=len(shown), num_clips=total, num_dropped=len(dropped))


def _draw(clips: Iterable[Clip], num_clips: int, seed: int) -> tuple[Counter[str], dict[str, list[Clip]]]:
    """Return how many clips each split has, and up to `num_clips` of each, drawn by seed in one pass.

    Source: algorithm R, J. S. Vitter, "Random sampling with a reservoir", ACM TOMS 11 (1985).
    """
    draw = random.Random(seed)
    counts: Counter[str] = Counter()
    piles: dict[str, list[Clip]] = {}
    for clip in clips:
        counts[clip.split] += 1
        pile = piles.setdefault(clip.split, [])
        if len(pile) < num_clips:
            pile.append(clip)
        elif (place := draw.randrange(counts[clip.split])) < num_clips:
            pile[place] = clip
    return counts, piles


def _summary(corpus: Corpus, splits: Mapping[str, int]) -> str:
    rows = [(name, count, "rows read") for name, count in corpus.rows().items()]
    rows += [(split, count, "clips of this split") for split, count in sorted(splits.items())]
    reasons = Counter(item.reason.partition(":")[0] for item in corpus.context.dropped)
    rows += [(reason, count, "clips left out") for reason, count in reasons.most_common()]
    cells = [(name, f"{count:,}", what) for name, count, what in rows]
    table = plain_table(("file, split or reason", "number", "of what"), cells, numbers=(1,))
    return f"<section><h2>What was read</h2>{table}</section>"


def _card(clip: Clip, others: Sequence[Clip], seed: int) -> str:
    player, clip = _player(clip)
    turns = "".join(_turn(clip, asked, others, seed) for asked in _questions(clip))
    nothing = '<p class="missing">Its annotation supports no task family.</p>'
    facts = facts_list({name: _short(value) for name, value in _facts(clip).items()})
    metadata = facts_list({name: _short(value) for name, value in clip.annotation.metadata.items()})
    more = (
        f"<details><summary>Kept, never asked about</summary>{metadata}</details>" if clip.annotation.metadata else ""
    )
    return (
        f'<article class="card"><h3>{escape(clip.id)}</h3><div class="sides"><div>{player}{facts}{more}</div>'
        f"<div>{turns or nothing}</div></div></article>"
    )


def _facts(clip: Clip) -> dict[str, str]:
    """Return what is known about a clip, by name; what is not known is empty."""
    note = clip.annotation
    timed = {"event": note.events, "note": note.notes}
    return {
        "split": clip.split,
        "duration": f"{clip.duration_s:.2f} s" if clip.duration_s else "",
        "begins at": f"{clip.start_s:.2f} s" if clip.start_s else "",
        "domain": clip.domain,
        "language": clip.language,
        "speaker": clip.speaker,
        "group": clip.group,
        "licence": clip.license,
        "comes from": ", ".join(clip.upstream_ids),
        "transcript": note.transcript,
        **{f"in {language}": text for language, text in note.translations.items()},
        "captions": " / ".join(note.captions),
        "labels": ", ".join(note.labels) + (f" (of {note.label_set})" if note.labels and note.label_set else ""),
        **{name: value for name, value in note.attributes.items() if name != "speaker"},
        "timed": ", ".join(f"{len(items)} {what}{'s' * (len(items) > 1)}" for what, items in timed.items() if items),
        "votes": ", ".join(f"{label} {count}" for label, count in note.votes.items()),
    }


def _player(clip: Clip) -> tuple[str, Clip]:
    """Return a player of at most 30 s, and the clip with its duration."""
    try:
        if not clip.duration_s:
            clip = replace(clip, duration_s=measure(clip) - clip.start_s)
        wave = read_clip(replace(clip, duration_s=min(clip.duration_s, WINDOW_S)))
    except AudioError as e:
        return f'<p class="missing">No sound: {escape(str(e))}</p>', clip
    cut = f'<p class="note">The first {WINDOW_S} s.</p>' if clip.duration_s > WINDOW_S else ""
    return audio_element(encode(wave), MIME, clip.id) + cut, clip


def _questions(clip: Clip) -> Iterator[tuple[Family, str, str]]:
    """Yield every family, with every attribute or language that can be asked for."""
    for family in families(clip):
        match family:
            case "attribute_prediction":
                for name in attribute_values(clip):
                    yield family, name, ""
            case "translation":
                for code in clip.annotation.translations:
                    yield family, "", code
            case _:
                yield family, "", ""


def _turn(clip: Clip, asked: tuple[Family, str, str], others: Sequence[Clip], seed: int) -> str:
    """Return one example; `render` shows a wrong text of another clip in half of those about a given text."""
    family, attribute, language = asked
    wants_wrong = family in ("audio_text_matching", "question_answering")
    negative = _wrong_text(clip, others, random.Random(f"{seed} {clip.id}")) if wants_wrong else ""
    try:
        example = render(clip, family, seed, negative=negative, attribute=attribute, language=language)
    except ManifestError as e:
        return f'<div class="turn"><p class="family">{escape(family)}</p><p class="missing">{escape(str(e))}</p></div>'
    return (
        f'<div class="turn"><p class="family">{escape(family)}</p><p>{escape(_short(example.prompt))}</p>'
        f'<p class="answer">{escape(_short(example.answer))}</p></div>'
    )


def _wrong_text(clip: Clip, others: Sequence[Clip], draw: random.Random) -> str:
    """Return a caption or label of another clip that this one does not have, or nothing."""
    texts = [text for other in draw.sample(others, min(8, len(others))) for text in _texts(other)]
    return next((text for text in texts if text not in _texts(clip)), "")


def _texts(clip: Clip) -> tuple[str, ...]:
    return clip.annotation.captions or clip.annotation.labels


def _short(text: str) -> str:
    rest = len(text) - _TEXT_CHARACTERS
    return text if rest <= 0 else f"{text[:_TEXT_CHARACTERS]} ... ({rest:,} more characters)"
