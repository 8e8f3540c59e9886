"""Libri-adhoc40: LibriSpeech replayed in an office and recorded by 40 microphones at once, and in an anechoic chamber.

Reads `adhoc40-<train|dev|test>/pos <position>/<speaker>/<chapter>/<utterance>-<ch-N|anechoic>.wav` and, since the
corpus brings no texts, `LibriSpeech/SPEAKERS.TXT` and the transcripts of `train-clean-100`, `dev-clean` and
`test-clean`. Every channel is a clip. Kept: transcript, gender, reader; room, microphone and loudspeaker position as
metadata; the LibriSpeech utterance as upstream id. Dropped: recordings without a transcript, and transcripts without a
recording.

Source: https://github.com/ISmallFish/Libri-adhoc40 (README); paper: arXiv 2103.15118.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._librispeech import Reader, Utterance, read_readers, read_transcripts
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="libri_adhoc40",
    version="2021",
    homepage="https://github.com/ISmallFish/Libri-adhoc40",
    license="not stated; replays of LibriSpeech (CC-BY-4.0)",
    citation="S. Guan, S. Liu, J. Chen, W. Zhu, S. Li, X. Tan, Z. Yang, M. Xu, Y. Chen, J. Wang, X.-L. Zhang, "
    "Libri-adhoc40: A dataset collected from synchronized ad-hoc microphone arrays, APSIPA ASC 2021",
    domain="speech",
    families=("asr", "attribute_prediction"),
    languages=("en",),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="110 h of LibriSpeech replayed over a loudspeaker, 41 channels each, transcribed.",
    remotes=(
        Remote(url="https://www.dropbox.com/s/3ph407rvr8bhg0e/adhoc40-test.rar?dl=0"),
        Remote(url="https://www.dropbox.com/sh/xozyvr1bbybh3fi/AABLUwZxbKlJcpPgwfq-o4Mra?dl=0"),
    ),
    not_downloadable="the training part: ask the authors (the README announces it); dev and test are at Dropbox",
    placement="adhoc40-train/, adhoc40-dev/, adhoc40-test/  any of the parts, unpacked\n"
    "LibriSpeech/  SPEAKERS.TXT and */*/*.trans.txt of train-clean-100, dev-clean, test-clean (openslr.org/12)",
    num_clips=1_388_342,  # 33,862 utterances, 41 channels
    hours=4510.0,
)

_PARTS = {
    "adhoc40-train": ("train", "train-clean-100"),
    "adhoc40-dev": ("valid", "dev-clean"),
    "adhoc40-test": ("test", "test-clean"),
}
_NAME = re.compile(r"(?P<utterance>\d+-\d+-\d+)-(?P<channel>ch-\d+|anechoic)")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per recorded channel.

    Raises:
        LayoutError: There is no part, a transcript file is missing, or a file's name is not of the form.
    """
    parts = [part for part in _PARTS if (root / part).is_dir()]
    if not parts:
        raise LayoutError(f"{SPEC.name}: expected one of {', '.join(_PARTS)} in {root}, found none of them")
    texts = root / "LibriSpeech"
    readers = read_readers(ctx, ctx.require(texts / "SPEAKERS.TXT", root))
    for part in parts:
        split, subset = _PARTS[part]
        for folder in sorted((root / part).glob("pos */*/*")):
            if folder.is_dir():
                speaker, chapter = folder.parts[-2:]
                if speaker not in readers:
                    raise LayoutError(f"{folder}: expected a reader of SPEAKERS.TXT, found {speaker}")
                name = f"{speaker}-{chapter}.trans.txt"
                utterances = {
                    item.id: item for item in read_transcripts(ctx, texts / subset / speaker / chapter / name)
                }
                yield from _chapter(ctx, folder, split, readers[speaker], utterances)


def _chapter(
    ctx: Context, folder: Path, split: str, reader: Reader, utterances: dict[str, Utterance]
) -> Iterator[Clip]:
    """Yield the clips of one chapter, as it was replayed from one position."""
    recorded: set[str] = set()
    for path in sorted(folder.glob("*.wav")):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise LayoutError(f"{path}: expected a name <utterance>-ch-<number>.wav or <utterance>-anechoic.wav")
        item = utterances.get(match["utterance"])
        if item is None:
            ctx.drop(path.stem, "no transcript")
            continue
        recorded.add(item.id)
        yield _clip(path, item, match["channel"], split, reader)
    for name in utterances:
        if name not in recorded:
            ctx.drop(name, "no recording")


def _clip(path: Path, item: Utterance, channel: str, split: str, reader: Reader) -> Clip:
    return Clip(
        id=path.stem,
        source=SPEC.name,
        path=str(path),
        split=split,
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(
            transcript=item.transcript,
            attributes={"gender": reader.gender},
            metadata={
                "reader": reader.name,
                "room": "anechoic chamber" if channel == "anechoic" else "office",
                "microphone": channel.removeprefix("ch-"),
                "position": path.parts[-4].removeprefix("pos "),
            },
        ),
        language="en",
        speaker=item.speaker,
        group=item.speaker,
        license=SPEC.license,
        upstream_ids=(identifiers.librispeech(item.id),),
    )
