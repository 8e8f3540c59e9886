"""Speech Commands v0.01: 64,721 recordings of one of 30 English words, of a second each, by some 1,900 volunteers.

Reads `<word>/<speaker>_nohash_<take>.wav`, `validation_list.txt` and `testing_list.txt`, or X-ARES's tars
`wds-audio-<train|valid|test>*.tar` (sample JSON: labels). Kept: the word, the speaker (a hash), the take. Splits: the
two lists, which hold whole speakers; what is in neither is train. Dropped: the long recordings of background noise,
which are no words.

Source: README.md of the archive; P. Warden, arXiv 1804.03209; checksum: torchaudio (datasets/speechcommands.py); tars:
https://zenodo.org/records/14722647, https://github.com/jimbozhang/xares (v0.1.3, src/tasks/speechcommandsv1_task.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import relative_path, text_field
from uniwhisper.sources._read import read_lines
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary, listed_vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TARS = {split: f"wds-audio-{split}*.tar" for split in ("train", "valid", "test")}

SPEC = SourceSpec(
    name="speech_commands_v1",
    version="0.01",
    homepage="https://arxiv.org/abs/1804.03209",
    license="CC-BY-4.0",
    citation="P. Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv 1804.03209",
    domain="speech",
    families=("classification", "audio_text_matching", "attribute_prediction"),
    languages=("en",),
    splits=("train", "valid", "test"),
    uses=("evaluation",),
    description="64,721 recordings of one of 30 English words, one second each.",
    remotes=(
        Remote(
            url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
            size_bytes=1_489_096_277,
            checksum="sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ),
        Remote(url="https://zenodo.org/api/records/14722647/files-archive"),
    ),
    placement="<word>/*.wav, validation_list.txt, testing_list.txt  speech_commands_v0.01.tar.gz, unpacked\n"
    "or wds-audio-train*.tar, wds-audio-valid*.tar, wds-audio-test*.tar  X-ARES's tars",
    num_clips=64_721,
    hours=17.8,  # at most a second each
    drop_tolerance=0.001,  # six recordings of background noise
)

_LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
_NOISE = "_background_noise_"
_NAME = re.compile(r"(?P<speaker>[0-9a-f]+)_nohash_(?P<take>\d+)")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per recording of a word: those of the lists first, then the rest.

    Raises:
        LayoutError: A list is missing, or a file is not of the form <word>/<speaker>_nohash_<take>.wav.
    """
    words = listed_vocabulary(SPEC.name)
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            word = text_field(tar.json, "labels", tar.where)
            # Within a word, the names of the recordings are unique; of members named otherwise, the tar's is needed.
            stem = Path(tar.key).name
            name = f"{word}/{stem}" if _NAME.search(stem) else f"{tar.path.stem}/{stem}"
            clip = _clip(name, word, tar.split, words, tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    listed: set[str] = set()
    for split, name in _LISTS.items():
        if ctx.dry_run and not (root / name).is_file():
            continue  # no harm: a recording taken for train for want of a list is only found by its audio
        for where, line in read_lines(ctx, ctx.require(root / name, root)):
            path = relative_path(line, where).with_suffix("")
            listed.add(path.as_posix())
            if not _NAME.fullmatch(path.name):
                raise LayoutError(f"{where}: expected <word>/<speaker>_nohash_<take>.wav, found {line}")
            clip = _clip(path.as_posix(), path.parent.name, split, words, where)
            yield replace(clip, path=str(root / f"{path}.wav"))
    for path in sorted(root.glob("*/*.wav")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if path.parent.name == _NOISE:
            ctx.drop(name, "background noise, not a word")
        elif name not in listed:
            yield replace(_clip(name, path.parent.name, "train", words, str(path)), path=str(path))


def _clip(name: str, word: str, split: str, words: Vocabulary, where: str) -> Clip:
    match = _NAME.search(name)
    speaker = match["speaker"] if match else ""
    return Clip(
        id=name,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(
            labels=(words.label(word, where),),
            label_set=SPEC.name,
            metadata={"take": match["take"]} if match else {},
        ),
        language="en",
        speaker=speaker,
        group=speaker,
        license=SPEC.license,
    )
