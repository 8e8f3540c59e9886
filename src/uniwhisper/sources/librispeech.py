"""LibriSpeech: 982 hours of English audiobooks read by 2,484 volunteers, cut into utterances and transcribed.

Reads `LibriSpeech/<subset>/<speaker>/<chapter>/*.trans.txt` with their FLAC files, `SPEAKERS.TXT`, `CHAPTERS.TXT` and
`BOOKS.TXT` for the subsets that are there, or X-ARES's tars of train-clean-100, dev-clean and test-clean (sample JSON:
trans, speaker, gender). Kept: transcript (upper case, no punctuation), gender, reader, chapter, book, author, utterance
id; the subset is in the metadata, so that `train-clean-100` can be told from the rest. Splits: train-* train, dev-*
valid, test-* test; readers are disjoint. Nothing is dropped by annotation.

Source: https://www.openslr.org/12 (README.TXT; md5sum.txt); paper: V. Panayotov et al., ICASSP 2015; tars:
https://zenodo.org/records/14716252, https://github.com/jimbozhang/xares (v0.1.3, src/tasks/librispeech_asr_task.py,
librispeech_male_female_task.py, tools/make_audio_tar/librispeech_clean_100.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import gender, text_field
from uniwhisper.sources._librispeech import (
    SUBSETS,
    Reader,
    Utterance,
    read_readers,
    read_table,
    read_transcripts,
    utterance,
)
from uniwhisper.sources._read import by_column
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TAR_SUBSETS = {"train": "train-clean-100", "valid": "dev-clean", "test": "test-clean"}
_TARS = {split: f"{subset}*.tar" for split, subset in _TAR_SUBSETS.items()}

_ARCHIVES = (
    ("dev-clean", 337_926_286, "42e2234ba48799c1f50f24a7926300a1"),
    ("dev-other", 314_305_928, "c8d0bcc9cca99d4f8b62fcc847357931"),
    ("test-clean", 346_663_984, "32fa31d27d2e1cad72775fee3f4849a9"),
    ("test-other", 328_757_843, "fb5a50374b501bb3bac4815ee91d3135"),
    ("train-clean-100", 6_387_309_499, "2a93770f6d5c6c964bc36631d331a522"),
    ("train-clean-360", 23_049_477_885, "c0e676e450a7ff2f54aeade5171606fa"),
    ("train-other-500", 30_593_501_606, "d1a0fd59409feb2c614ce4d30c387708"),
)
"""Name, bytes, MD5. Source: https://www.openslr.org/resources/12/md5sum.txt; sizes of the final release in
kaldi egs/librispeech/s5/local/download_and_untar.sh."""

SPEC = SourceSpec(
    name="librispeech",
    version="SLR12",
    homepage="https://www.openslr.org/12/",
    license="CC-BY-4.0",
    citation="V. Panayotov, G. Chen, D. Povey, S. Khudanpur, Librispeech: An ASR corpus based on public domain audio "
    "books, ICASSP 2015",
    domain="speech",
    families=("asr", "attribute_prediction"),
    languages=("en",),
    splits=("train", "valid", "test"),
    uses=("training", "evaluation"),
    description="982 h of English audiobooks by 2,484 readers, transcribed, with the readers' gender.",
    remotes=(
        *(
            Remote(
                url=f"https://www.openslr.org/resources/12/{name}.tar.gz", size_bytes=size, checksum=f"md5:{checksum}"
            )
            for name, size, checksum in _ARCHIVES
        ),
        Remote(url="https://zenodo.org/api/records/14716252/files-archive"),
    ),
    placement="LibriSpeech/  any of the archives, unpacked; each also holds SPEAKERS.TXT, CHAPTERS.TXT, BOOKS.TXT\n"
    "or train-clean-100*.tar, dev-clean*.tar, test-clean*.tar  X-ARES's tars",
    num_clips=292_367,
    hours=982.1,
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per line of the transcripts, or per sample of the tars.

    Raises:
        LayoutError: A file is missing, a line is not of the form, or a reader is unknown.
    """
    if has_tars(root, _TARS.values()):
        yield from _from_tars(root, ctx)
        return
    base = root / "LibriSpeech" if (root / "LibriSpeech").is_dir() else root
    readers = read_readers(ctx, ctx.require(base / "SPEAKERS.TXT", root))
    facts = _facts(ctx, base, root)
    subsets = [subset for subset in SUBSETS if (base / subset).is_dir()]
    if not subsets:
        raise LayoutError(f"{SPEC.name}: expected one of {', '.join(SUBSETS)} in {base}, found none of them")
    for subset in subsets:
        for path in sorted((base / subset).glob("*/*/*.trans.txt")):
            for item in read_transcripts(ctx, path):
                if item.speaker not in readers:
                    raise LayoutError(f"{item.where}: expected a reader of SPEAKERS.TXT, found {item.id}")
                audio = path.with_name(f"{item.id}.flac")
                yield _clip(item, readers[item.speaker], subset, audio, facts.get(item.chapter, {}))


def _facts(ctx: Context, base: Path, root: Path) -> dict[str, dict[str, str]]:
    """Return chapter id -> titles of chapter and book, and the author where `BOOKS.TXT` knows one."""
    authors: dict[str, str] = {}
    if (base / "BOOKS.TXT").is_file():
        rows = read_table(ctx, base / "BOOKS.TXT", ("id", "title", "author"))
        authors = {book: row["author"] for book, row in by_column(rows, "id").items()}
    names = ("id", "reader", "minutes", "subset", "project", "book", "title", "project_title")
    facts: dict[str, dict[str, str]] = {}
    chapters = by_column(read_table(ctx, ctx.require(base / "CHAPTERS.TXT", root), names), "id")
    for chapter, row in chapters.items():
        found = {"chapter": row["title"], "book": row["project_title"], "author": authors.get(row["book"], "")}
        facts[chapter] = {name: text for name, text in found.items() if text}
    return facts


def _from_tars(root: Path, ctx: Context) -> Iterator[Clip]:
    for tar in read_tars(ctx, root, _TARS):
        item = utterance(tar.key, text_field(tar.json, "trans", tar.where), tar.where)
        if item.speaker != text_field(tar.json, "speaker", tar.where):
            raise LayoutError(f"{tar.where}: expected speaker {item.speaker}, found {tar.json['speaker']!r}")
        reader = Reader(gender=gender(text_field(tar.json, "gender", tar.where), tar.where), name="")
        clip = _clip(item, reader, _TAR_SUBSETS[tar.split], tar.path, {})
        yield replace(clip, offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)


def _clip(item: Utterance, reader: Reader, subset: str, path: Path, facts: dict[str, str]) -> Clip:
    metadata = {"subset": subset, **({"reader": reader.name} if reader.name else {}), **facts}
    return Clip(
        id=item.id,
        source=SPEC.name,
        path=str(path),
        split=SUBSETS[subset],
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(transcript=item.transcript, attributes={"gender": reader.gender}, metadata=metadata),
        language="en",
        speaker=item.speaker,
        group=item.speaker,
        license=SPEC.license,
        upstream_ids=(identifiers.librispeech(item.id),),
    )
