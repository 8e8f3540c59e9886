"""Seeing Sound: soundscapes mixed to test human annotators, with exact onsets and offsets (ten seconds each).

Reads every `*.jams` of Scaper below the root, wherever it lies, and the audio file of the same stem. Kept: events,
labels as they are spelt (the page below does not list them), how each event was made, and the Freesound ids of
recordings whose names tell. Votes are the annotators who used a label, where a JAMS also holds annotations of theirs.
Dropped: soundscapes without an event. There is no split, so all is train.

Source: https://wp.nyu.edu/sonyc/seeing-sound-investigating-the-effects-of-visualizations-and-complexity-on-
crowdsourced-audio-annotations/ (the corpus: mixed with Scaper, by maximum and Gini polyphony);
https://scaper.readthedocs.io/en/latest/tutorial.html (the JAMS that Scaper writes). The folders of the archive are
not documented there, so none are assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import AUDIO_SUFFIXES, Context
from uniwhisper.sources._scaper import soundscape
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="seeing_sound",
    version="2017",
    homepage="https://wp.nyu.edu/sonyc/seeing-sound-investigating-the-effects-of-visualizations-and-complexity-on-"
    "crowdsourced-audio-annotations/",
    license="as stated in the archive",
    citation="M. Cartwright et al., Seeing Sound: Investigating the Effects of Visualizations and Complexity on "
    "Crowdsourced Audio Annotations, PACM HCI 1 (CSCW), 2017",
    domain="sound",
    families=("tagging", "event_detection", "audio_text_matching"),
    languages=(),
    splits=("train",),
    uses=("training",),
    description="Synthetic urban soundscapes of 10 s with exact onsets and offsets.",
    not_downloadable="The archive is linked from the homepage; its address and checksum could not be confirmed.",
    placement="**/*.jams  Scaper's annotations, in any folder\n**/<the same stem>.wav  soundscapes, in any folder",
    num_clips=60,  # ten soundscapes of 10 s for each of three maxima of polyphony and two ranges of Gini
    hours=0.17,  # arXiv:2602.21772, Table 1, says 0.2 h
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per annotated soundscape.

    Raises:
        LayoutError: There are no annotations, or one is no soundscape's or has impossible times.
    """
    annotations = sorted(root.rglob("*.jams"))
    if not annotations:
        raise LayoutError(f"{ctx.source}: expected *.jams of Scaper below {root}, found none")
    sounds = {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES}
    for path in annotations:
        clip_id = path.relative_to(root).with_suffix("").as_posix()
        scape = soundscape(ctx, path)
        if not scape.events:
            ctx.drop(clip_id, "no event: background only")
            continue
        yield Clip(
            id=clip_id,
            source=SPEC.name,
            path=str(sounds.get(path.stem, path.with_suffix(".wav"))),
            split="train",
            duration_s=0.0,
            domain="sound",
            annotation=Annotation(labels=scape.labels, events=scape.events, votes=scape.votes, metadata=scape.metadata),
            upstream_ids=scape.upstream_ids,
        )
