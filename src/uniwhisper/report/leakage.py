"""The leakage page: how much was found between which corpora, and pairs to listen to side by side.

Reads a folder of `dedup.leakage` and the audio of the pairs shown; writes one HTML page. Pairs are spread over stages
and pairs of corpora, the least certain first; the page says how many it does not show.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from uniwhisper.clips import read_clip
from uniwhisper.errors import AudioError
from uniwhisper.files import read_json, read_jsonl, write_text
from uniwhisper.report.players import MIME, encode
from uniwhisper.report.sheet import audio_element, facts_list, plain_table, sheet, tiles
from uniwhisper.types import Clip

__all__ = ["MAX_PAIRS", "write_leakage"]

MAX_PAIRS = 60
"""Pairs with players on a page; about 60 kB each."""
_EXCERPT_S = 8.0
_LEAST_S = 0.1  # of a player, where rounding puts the common audio at a clip's very end
_MAX_UNHEARD = 20
_STAGES = {"identifier": "By identifier", "hash": "By hash", "fingerprint": "By fingerprint"}
_ABOUT = {
    "identifier": "Both clips name the same recording, or a blacklist names the training clip's. What they have in "
    "common may lie anywhere in it, so players begin at the clips' beginnings.",
    "hash": "The files, or the decoded samples without silence at their ends, are the same.",
    "fingerprint": "They hold the same sound. Players begin where the common sound begins; the least certain pairs "
    "come first.",
}

Row: TypeAlias = dict[str, Any]
Clips: TypeAlias = Mapping[tuple[str, str], Clip]
"""Source and id -> clip, of one side."""


@dataclass(frozen=True, slots=True)
class _Sides:
    """The clips that pairs are made of; a clip of the same name may stand on both sides."""

    removed: Clips
    kept: Clips


def write_leakage(out: Path, folder: Path, train: Sequence[Clip], evaluation: Sequence[Clip]) -> Path:
    """Write the page on the search in `folder` and return its path.

    Args:
        out: The HTML file to write.
        folder: What `find_leakage` wrote.
        train: The training clips of that search.
        evaluation: Its evaluation clips.

    Raises:
        ManifestError: The folder does not hold a finished search.
        ReportError: The installed libsndfile cannot write Opus.
    """
    summary = read_json(folder / "summary.json")
    rows = {stage: list(read_jsonl(folder / f"{stage}.jsonl")) for stage in _STAGES}
    unheard = list(read_jsonl(folder / "unheard.jsonl"))
    quotas = _quotas({stage: len(found) for stage, found in rows.items()}, MAX_PAIRS)
    shown = {stage: _spread(found, quotas[stage]) for stage, found in rows.items()}
    sides = _Sides(_named(train, shown, "removed"), _named(evaluation, shown, "kept"))
    removed = sum(summary["removed"].values())
    listed = " or on a blacklist" if any(not row["kept_id"] for row in rows["identifier"]) else ""
    among = f"the {summary['num_eval']:,} evaluation clips{listed}"
    lead = (
        f"{removed:,} of {summary['num_train']:,} training clips are among {among}, and were taken out."
        if removed
        else f"None of the {summary['num_train']:,} training clips was found among {among}."
    )
    stages = "".join(_stage(stage, rows[stage], shown[stage], sides) for stage in _STAGES)
    body = _overview(summary) + stages + _unheard(unheard)
    title = "Leakage between training and evaluation"
    write_text(out, sheet(kicker="UniWhisper leakage report", title=title, lead=lead, body=body))
    return out


def _named(clips: Sequence[Clip], shown: Mapping[str, Sequence[Row]], side: str) -> Clips:
    """Return the clips of one side that are shown."""
    wanted = {(row[f"{side}_source"], row[f"{side}_id"]) for rows in shown.values() for row in rows}
    return {(clip.source, clip.id): clip for clip in clips if (clip.source, clip.id) in wanted}


def _quotas(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Return how many pairs of each stage are shown: equal parts, and what one does not need goes to the others."""
    quotas: dict[str, int] = {}
    for left, (name, count) in zip(range(len(counts), 0, -1), sorted(counts.items(), key=_by_count), strict=True):
        quotas[name] = min(count, (limit - sum(quotas.values())) // left)
    return quotas


def _by_count(item: tuple[str, int]) -> int:
    return item[1]


def _spread(rows: Sequence[Row], limit: int) -> list[Row]:
    """Return up to `limit` pairs, in turn from each pair of corpora, the least certain first."""
    piles: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["evidence"], row["score"], row["removed_source"], row["removed_id"])):
        piles[row["removed_source"], row["kept_source"]].append(row)
    turns = [pile[turn] for turn in range(limit) for _, pile in sorted(piles.items()) if turn < len(pile)]
    return turns[:limit]


def _overview(summary: Row) -> str:
    removed = sum(summary["removed"].values())
    identified, unheard = summary["num_identified"], summary["num_unheard"]
    facts = {
        "Training clips": (f"{summary['num_train']:,}", f"{summary['num_left']:,} are left"),
        "Removed": (f"{removed:,}", f"{removed / summary['num_train']:.2%} of them"),
        "Evaluation clips": (f"{summary['num_eval']:,}", "looked for"),
        "Not judged by sound": (
            f"{sum(unheard.values()):,}",
            f"{summary['num_unreadable']:,} unreadable ones were left out of training",
        ),
    }
    stages = [
        (title, f"{summary['removed'][stage]:,}" if stage in summary["stages"] else "not run")
        for stage, title in _STAGES.items()
    ]
    corpora = [
        (source, corpus, f"{count:,}")
        for source, found in summary["by_corpus"].items()
        for corpus, count in found.items()
    ]
    carry = (
        ""
        if "identifier" not in summary["stages"]
        else (
            f"{identified['train']:,} of {summary['num_train']:,} training clips and {identified['eval']:,} of "
            f"{summary['num_eval']:,} evaluation clips carry an identifier; only they can be found by it."
        )
    )
    found = (
        plain_table(("training corpus", "evaluation corpus", "clips removed"), corpora, numbers=(2,))
        + '<p class="note">A clip that is in two evaluation corpora counts for both.</p>'
        if corpora
        else '<p class="note">Nothing.</p>'
    )
    return (
        f"{tiles(facts)}<section><h2>What was found</h2>{found}</section><section><h2>How it was found</h2>"
        f'{plain_table(("stage", "clips removed"), stages, numbers=(1,))}<p class="note">{escape(carry)}</p></section>'
    )


def _stage(stage: str, rows: Sequence[Row], shown: Sequence[Row], sides: _Sides) -> str:
    if not rows:
        return ""
    rest = f" {len(shown):,} of {len(rows):,} pairs are shown." if len(rows) > len(shown) else ""
    cards = "".join(_card(row, sides) for row in shown)
    return f'<section><h2>{_STAGES[stage]}</h2><p class="note">{_ABOUT[stage]}{rest}</p>{cards}</section>'


def _card(row: Row, sides: _Sides) -> str:
    parts = [row["reason"]]
    if row["overlap_s"]:
        parts.append(f"{row['overlap_s']:.2f} s in common")
    if row["stage"] == "fingerprint":
        parts.append(f"{row['score']:.0%} of the sound, evidence {row['evidence']:,.0f}")
        parts.append(f"{row['agreement']:.0%} of the fingerprint's bits")
    if len(row["corpora"]) > 1:
        parts.append(f"in {', '.join(row['corpora'])}")
    removed = _side("removed", row, sides.removed)
    kept = _side("kept", row, sides.kept)
    why = f'<p class="note">{escape("; ".join(parts))}</p>'
    return f'<article class="card">{why}<div class="sides">{removed}{kept}</div></article>'


def _side(side: str, row: Row, clips: Clips) -> str:
    """Return one half of a pair: which clip, and a player of the common audio."""
    source, clip_id, at_s = row[f"{side}_source"], row[f"{side}_id"], row[f"{side}_at_s"]
    what = "Training clip, removed" if side == "removed" else "Evaluation clip, kept"
    clip = clips.get((source, clip_id))
    if clip is None:
        player = '<p class="missing">Named by a blacklist; its audio is not here.</p>'
    else:
        player = _player(clip, at_s, row["overlap_s"])
    facts = {"corpus": source, "clip": clip_id, "begins at": f"{at_s:.2f} s" if at_s else ""}
    return f'<div><h3 class="plain">{what}</h3>{player}{facts_list(facts)}</div>'


def _player(clip: Clip, at_s: float, overlap_s: float) -> str:
    at_s = max(0.0, min(at_s, clip.duration_s - _LEAST_S))
    span_s = min(_EXCERPT_S, clip.duration_s - at_s, max(overlap_s, _LEAST_S) if overlap_s else _EXCERPT_S)
    try:
        wave = read_clip(replace(clip, start_s=clip.start_s + at_s, duration_s=span_s))
    except AudioError as e:
        return f'<p class="missing">No sound: {escape(str(e))}</p>'
    return audio_element(encode(wave), MIME, clip.id)


def _unheard(rows: Sequence[Row]) -> str:
    """Return what could not be judged: how often for which reason, and some examples."""
    if not rows:
        return ""
    counts = Counter((row["side"], row["source"], "unreadable" if row["unreadable"] else row["reason"]) for row in rows)
    table = plain_table(
        ("side", "corpus", "reason", "clips"),
        [(side, source, reason, f"{count:,}") for (side, source, reason), count in sorted(counts.items())],
        numbers=(3,),
    )
    lines = [f"{row['source']} {row['id']}: {row['reason']}" for row in rows[:_MAX_UNHEARD]]
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    rest = f"<li>and {len(rows) - _MAX_UNHEARD:,} more in unheard.jsonl</li>" if len(rows) > _MAX_UNHEARD else ""
    return (
        '<section><h2>Not judged by sound</h2><p class="note">Training clips that cannot be read are left out of the '
        f"manifest; the others here stay.</p>{table}<details><summary>Which clips</summary>"
        f'<ul class="plain">{listed}{rest}</ul></details></section>'
    )
