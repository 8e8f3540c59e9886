"""RAVDESS: 24 actors say and sing two English sentences in eight emotions and two intensities.

Reads `Actor_<01..24>/*.wav` wherever they lie below the root: the file name says modality, channel, emotion, intensity,
sentence, repetition and actor. Or X-ARES's tars of the spoken part, whose JSON holds the emotion. Kept: all of these,
the transcript, and the gender, which is the actor number's parity. Dropped: the sound of video files, where it has been
extracted next to the audio-only ones.

The publisher splits nothing: four folds of three men and three women each. X-ARES's four folds are its own.

Source: https://zenodo.org/records/1188976 ("File naming convention"); Livingstone & Russo, PLoS ONE 13(5), 2018; tars:
https://zenodo.org/records/14722524, https://github.com/jimbozhang/xares (src/tasks/ravdess_task.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_FOLDS = tuple(f"fold{number}" for number in range(1, 5))
_TARS = {fold: f"ravdess_fold_{index}_*.tar" for index, fold in enumerate(_FOLDS)}  # X-ARES counts from 0
_ZENODO = "https://zenodo.org/records/1188976/files"

SPEC = SourceSpec(
    name="ravdess",
    version="1.0.0",
    homepage="https://zenodo.org/records/1188976",
    license="CC-BY-NC-SA-4.0",
    citation="S. R. Livingstone, F. A. Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song "
    "(RAVDESS), PLoS ONE 13(5): e0196391, 2018",
    domain="speech",
    families=("asr", "classification", "audio_text_matching", "attribute_prediction"),
    languages=("en",),
    splits=_FOLDS,
    uses=("evaluation",),
    description="Two English sentences said and sung by 24 actors in eight emotions and two intensities.",
    remotes=(
        Remote(
            url=f"{_ZENODO}/Audio_Speech_Actors_01-24.zip",
            size_bytes=208_468_073,
            checksum="md5:bc696df654c87fed845eb13823edef8a",
        ),
        Remote(
            url=f"{_ZENODO}/Audio_Song_Actors_01-24.zip",
            size_bytes=225_505_317,
            checksum="md5:5411230427d67a21e18aa4d466e6d1b9",
        ),
        Remote(url="https://zenodo.org/api/records/14722524/files-archive"),
    ),
    placement="Actor_<01..24>/*.wav  audio of one or both archives, unpacked here or into a folder each\n"
    "or ravdess_fold_<0..3>_*.tar  X-ARES's tars",
    num_clips=2452,
    hours=2.8,  # measured: 1.48 h of speech; the song archive is a little larger
)

_NAME = re.compile(r"0(?P<modality>[1-3])-0([12])-0([1-8])-0([12])-0([12])-0([12])-(?P<actor>0[1-9]|1\d|2[0-4])")
_CHANNELS = ("speech", "song")
_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_INTENSITIES = ("normal", "strong")
_SENTENCES = ("Kids are talking by the door.", "Dogs are sitting by the door.")
_LABELS = Vocabulary(name=SPEC.name, labels={emotion: emotion for emotion in _EMOTIONS})


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per audio file, or per sample of the tars.

    Raises:
        LayoutError: There is no folder of an actor, or a name is not of the publisher's form.
    """
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, _LABELS.label(tar.json.get("emotion"), tar.where), tar.where)
            clip = replace(clip, split=tar.split)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    files = sorted(root.rglob("Actor_[0-9][0-9]/*.wav"))
    if not files:
        raise LayoutError(f"{ctx.source}: expected Actor_<01..24>/*.wav below {root}, found none")
    for path in files:
        clip = _clip(path.stem, "", str(path))
        if path.stem.startswith("03"):
            yield replace(clip, path=str(path))
        else:
            ctx.drop(path.stem, "sound of a video file")


def _clip(stem: str, emotion: str, where: str) -> Clip:
    """Return the clip as its name says; `emotion` where something else than the name says it."""
    match = _NAME.fullmatch(stem)
    if match is None:
        raise LayoutError(f"{where}: expected a name like 03-01-06-01-02-01-12 (7 codes, 24 actors), found {stem}")
    channel, named, intensity, sentence, repetition = (int(code) - 1 for code in match.groups()[1:6])
    actor = int(match["actor"])
    emotion = emotion or _EMOTIONS[named]
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=_FOLDS[(actor - 1) // 2 % len(_FOLDS)],  # odd numbers are men, even ones women: pairs stay together
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(
            transcript=_SENTENCES[sentence],
            labels=(emotion,),
            label_set=SPEC.name,
            attributes={
                "emotion": emotion,
                "intensity": _INTENSITIES[intensity],
                "vocal channel": _CHANNELS[channel],
                "gender": "male" if actor % 2 else "female",
            },
            metadata={"repetition": str(repetition + 1)},
        ),
        language="en",
        speaker=match["actor"],
        group=match["actor"],
        license=SPEC.license,
    )
