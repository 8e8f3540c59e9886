"""VoxLingua33: the 33 languages of VoxLingua107's verified development set, in segments of YouTube videos.

Reads `<language>/*.wav` of the training archives (other languages are passed over) and `dev/<language>/*.wav`; the file
name says video and span. Or X-ARES's tars, whose JSON holds the language. Kept: language, video (a group), span. The
development set is the test split, as in X-ARES, which validates on it too. Dropped: training segments of a video that
is in the development set (some are the very same segments).

Source: https://cs.taltech.ee/staff/tanel.alumae/data/voxlingua107/ (languages, hours, licence); Valk & Alumaee, SLT
2021; https://github.com/speechbrain/speechbrain recipes/VoxLingua107/lang_id (file names);
https://github.com/espnet/espnet egs2/voxlingua107/lid1/local (layout, segments in both parts); tars:
https://zenodo.org/records/14812245, https://github.com/jimbozhang/xares (src/tasks/voxlingua33_task.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import upstream_at
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TARS = {"test": "dev*.tar", "train": "train_subset*.tar"}  # test first: its videos must not be trained on
_LANGUAGES = Vocabulary(
    name="voxlingua33",
    labels={
        "ar": "Arabic", "az": "Azerbaijani", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
        "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French", "hr": "Croatian",
        "hu": "Hungarian", "hy": "Armenian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "lt": "Lithuanian",
        "lv": "Latvian", "mk": "Macedonian", "nl": "Dutch", "nn": "Norwegian Nynorsk", "no": "Norwegian",
        "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish",
        "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "zh": "Chinese",
    },
)  # fmt: skip
_SITE = "https://cs.taltech.ee/staff/tanel.alumae/data/voxlingua107"

SPEC = SourceSpec(
    name="voxlingua33",
    version="1.0",
    homepage=f"{_SITE}/",
    license="CC-BY-4.0",
    citation="J. Valk, T. Alumaee, VoxLingua107: a Dataset for Spoken Language Recognition, SLT 2021",
    domain="speech",
    families=("classification", "audio_text_matching", "attribute_prediction"),
    languages=tuple(_LANGUAGES.labels),
    splits=("train", "test"),
    uses=("evaluation",),
    description="Spoken language of YouTube segments: the 33 languages whose test set people have checked.",
    remotes=(
        *(Remote(url=f"{_SITE}/{code}.zip") for code in _LANGUAGES.labels),
        # Source of the checksum: https://github.com/hearbenchmark/hear-preprocess, vox_lingua_top10.
        Remote(url=f"{_SITE}/dev.zip", checksum="md5:07fbd4732c97f28c10ec8dcfed4f600e"),
        Remote(url="https://zenodo.org/api/records/14812245/files-archive"),
    ),
    placement="<language>/*.wav  training audio, as in <language>.zip\n"
    "dev/<language>/*.wav  development audio: dev.zip\n"
    "or dev*.tar, train_subset*.tar  X-ARES's tars",
    num_clips=784_000,  # 1,609 in dev; in train not published: the hours below at the corpus's mean of 9.4 s
    hours=2050,  # sum of the published hours of the 33 languages, train only
    drop_tolerance=0.1,  # training segments of the up to 1,609 videos in dev
)

_NAME = re.compile(r"(?P<video>[\w-]{11})__.*---(?P<start>\d+[._]\d+)-(?P<end>\d+[._]\d+)")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per audio file, or per sample of the tars; those of dev first.

    Raises:
        LayoutError: There is no audio of the development set, or a file is not named after video and span.
    """
    tested: set[str] = set()
    for clip in _tar_clips(root, ctx) if has_tars(root, _TARS.values()) else _files(root, ctx):
        if clip.split == "test":
            tested.add(clip.group)
        elif clip.group in tested:
            ctx.drop(clip.id, "its video is in the development set")
            continue
        yield clip


def _tar_clips(root: Path, ctx: Context) -> Iterator[Clip]:
    for tar in read_tars(ctx, root, _TARS):
        code = str(tar.json.get("labels"))
        clip = _clip(tar.key, code, tar.split, _LANGUAGES.label(code, tar.where), tar.where)
        yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)


def _files(root: Path, ctx: Context) -> Iterator[Clip]:
    for split, folder in (("test", ctx.require(root / "dev", root)), ("train", root)):
        files = [(code, path) for code in _LANGUAGES.labels for path in sorted((folder / code).glob("*.wav"))]
        if not files and split == "test":
            raise LayoutError(f"{ctx.source}: expected dev/<language>/*.wav in {root}, found no audio in {folder}")
        for code, path in files:
            yield replace(_clip(path.stem, code, split, _LANGUAGES.labels[code], str(path)), path=str(path))


def _clip(stem: str, code: str, split: str, label: str, where: str) -> Clip:
    """Return the clip; in tars the dots of a name have become underscores."""
    match = _NAME.fullmatch(stem)
    if match is None:
        raise LayoutError(f"{where}: expected a name like <video>__U__S0---0012.340-0021.500, found {stem}")
    start_s, end_s = (float(match[name].replace("_", ".")) for name in ("start", "end"))
    return Clip(
        id=f"{split}/{code}/{stem}",
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(labels=(label,), label_set=SPEC.name),
        language=code,
        group=match["video"],
        license=SPEC.license,
        upstream_ids=(upstream_at(where, identifiers.youtube, match["video"], start_s, end_s),),
    )
