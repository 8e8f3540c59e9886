"""AISHELL-1: 400 speakers of Mandarin read 178 hours of sentences into a microphone, transcribed by hand.

Reads `data_aishell/transcript/aishell_transcript_v0.8.txt`, `resource_aishell/speaker.info` and
`data_aishell/wav/<train|dev|test>/<speaker>/*.wav`. Kept: the transcript (words are separated by spaces in the file,
which Chinese is not written with: they are joined), the speaker, also as something to ask for (the paper trains speaker
identification on this corpus), and the gender. Dropped: recordings without a transcript, some 320 of them.

Source: https://www.openslr.org/33 (SLR33); paper: arXiv 1709.05522 (340, 40 and 20 speakers train, dev and test);
sizes and checksums: kaldi egs/aishell/s5/local/download_and_untar.sh, PaddleSpeech dataset/aishell/aishell.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import gender
from uniwhisper.sources._read import by_column, read_csv, read_lines
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="aishell1",
    version="SLR33",
    homepage="https://www.openslr.org/33/",
    license="Apache-2.0",
    citation="H. Bu, J. Du, X. Na, B. Wu, H. Zheng, AISHELL-1: An open-source Mandarin speech corpus and a speech "
    "recognition baseline, O-COCOSDA 2017",
    domain="speech",
    families=("asr", "attribute_prediction"),
    languages=("zh",),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="178 h of read Mandarin by 400 speakers, transcribed (ASR, speaker identification).",
    remotes=(
        Remote(
            url="https://www.openslr.org/resources/33/data_aishell.tgz",
            size_bytes=15_582_913_665,
            checksum="md5:2f494334227864a8a8fec932999db9d8",
        ),
        Remote(
            url="https://www.openslr.org/resources/33/resource_aishell.tgz",
            size_bytes=1_246_920,
            checksum="md5:957d480a0fcac85fc18e550756f624e5",
        ),
    ),
    placement="data_aishell/  data_aishell.tgz; unpack the tar.gz of each speaker in data_aishell/wav there, too\n"
    "resource_aishell/  resource_aishell.tgz",
    num_clips=141_600,
    hours=178.0,
    drop_tolerance=0.003,  # recordings without a transcript: 325 of 141,925
)

_UTTERANCE = re.compile(r"BAC009S(?P<speaker>\d{4})W\d{4}")
_LAST_TRAIN, _LAST_VALID, _LAST_TEST = 723, 763, 916
"""Speakers in order of their numbers: train to S0723, dev to S0763, test from there. Source: the archive's folders."""
_FOLDERS = {"train": "train", "valid": "dev", "test": "test"}
_SPACE = re.compile(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])")  # spaces between Latin words stay


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per line of the transcript.

    Raises:
        LayoutError: A file is missing, a line is not of the form, or a speaker is unknown.
    """
    wavs = root / "data_aishell" / "wav"
    if not ctx.dry_run:
        ctx.require(wavs / "train", wavs)
    genders = _genders(ctx, ctx.require(root / "resource_aishell" / "speaker.info", root))
    seen: set[str] = set()
    for where, line in read_lines(ctx, root / "data_aishell" / "transcript" / "aishell_transcript_v0.8.txt"):
        utterance, _, text = line.partition(" ")
        match = _UTTERANCE.fullmatch(utterance)
        if match is None or not text.strip():
            raise LayoutError(f"{where}: expected BAC009S<4 digits>W<4 digits> and a text, found {line[:80]!r}")
        if int(match["speaker"]) not in genders:
            raise LayoutError(f"{where}: expected a speaker of speaker.info, found S{match['speaker']}")
        speaker, split = f"S{match['speaker']}", _split(int(match["speaker"]), where)
        seen.add(utterance)
        yield Clip(
            id=utterance,
            source=SPEC.name,
            path=str(wavs / _FOLDERS[split] / speaker / f"{utterance}.wav"),
            split=split,
            duration_s=0.0,
            domain="speech",
            annotation=Annotation(
                transcript=_SPACE.sub("", text.strip()),
                attributes={"gender": genders[int(match["speaker"])], "speaker": speaker},
            ),
            language="zh",
            speaker=speaker,
            group=speaker,
            license=SPEC.license,
        )
    if not ctx.dry_run:
        for path in sorted(wavs.glob("*/*/*.wav")):
            if path.stem not in seen:
                ctx.drop(path.stem, "no transcript")


def _genders(ctx: Context, path: Path) -> dict[int, str]:
    """Return number of the speaker -> gender."""
    rows = read_csv(ctx, path, names=("speaker", "gender", "rest"), delimiter=" ", strict=False)
    genders: dict[int, str] = {}
    for name, row in by_column(rows, "speaker").items():
        number = name.removeprefix("S")
        if not (number.isascii() and number.isdigit() and len(number) <= 4):
            raise LayoutError(f"{row.where}: expected a speaker like 0002, found {name[:80]!r}")
        genders[int(number)] = gender(row["gender"], row.where)
    return genders


def _split(speaker: int, where: str) -> str:
    if not 1 <= speaker <= _LAST_TEST:
        raise LayoutError(f"{where}: expected a speaker from S0002 to S{_LAST_TEST:04d}, found S{speaker:04d}")
    return "train" if speaker <= _LAST_TRAIN else "valid" if speaker <= _LAST_VALID else "test"
