"""LAION-Audio-630K: 633,526 recordings of eight collections of sounds with captions made from titles and descriptions.

Reads `<collection>/<part>/*.tar` (WebDataset: a FLAC and a JSON a sample) or, unpacked, `<collection>/<part>/*.flac`
with a `.json` beside each; a part is train, valid or test, or a piece of one (`train_1`). Licences come from
`<collection>_meta.csv`, where it is there. Kept: `text` as captions, `tag` as labels of an open vocabulary, Freesound,
Audiostock and Epidemic Sound ids, title, description and the other single facts of `original_data` as metadata.
Freesound's tags are the uploader's and name gear and places as well as sounds, so they are metadata and not labels; so
is `text_augment_t5`, a sentence that a language model made up from keywords. Dropped: samples with neither text nor
tag, FLACs without JSON, JSON without FLAC (1 % may be).

Source: https://github.com/LAION-AI/audio-dataset (laion-audio-630k/README.md, data_preprocess/README.md, data_card/);
tars and table of Freesound: https://huggingface.co/datasets/Meranti/CLAP_freesound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import upstream_at
from uniwhisper.sources._freesound import freesound_id, freesound_license
from uniwhisper.sources._read import Row, by_column, read_csv, read_json
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_PART = re.compile(r"(?P<split>train|valid|test)(_\d+)?")

SPEC = SourceSpec(
    name="laion_audio",
    version="2022-11",
    homepage="https://github.com/LAION-AI/audio-dataset",
    license="research use only; the collections' terms, for Freesound Creative Commons by recording",
    citation="Y. Wu, K. Chen, T. Zhang et al., Large-scale Contrastive Language-Audio Pretraining, ICASSP 2023",
    domain="sound",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="Captions and tags of recordings from Freesound, BBC, Epidemic Sound, Audiostock and others.",
    not_downloadable="audio of four purchased collections (Free To Use Sounds, Sonniss, We Sound Effects, Paramount "
    "Motion). Freesound: tars at huggingface.co/datasets/Meranti/CLAP_freesound; BBC, Epidemic Sound and Audiostock: "
    "from the addresses in the homepage's tables, packed by its scripts",
    placement="<collection>/<train|valid|test>/*.tar  a sample's FLAC and JSON; train_1, train_2 are train as well\n"
    "or <collection>/<train|valid|test>/*.flac and *.json  the same, unpacked\n"
    "<collection>_meta.csv  Freesound's ids and licences, optional\n"
    "take freesound or freesound_no_overlap, which is the same without ESC-50, FSD50K, UrbanSound8K and Clotho",
    num_clips=633_526,
    hours=4_325.39,
    drop_tolerance=0.01,
)

_IDS = (
    (re.compile(r"https?://freesound\.org/(?:apiv2/)?(?:people/[^/]+/)?sounds/(?P<id>\d+)/?.*"), "freesound"),
    (re.compile(r"https?://audiostock\.net/audio/(?P<id>\d+)/?.*"), "audiostock"),
)
"""What an address in `original_data` says about where the recording comes from."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per sample.

    Raises:
        LayoutError: There is no collection, a part has another name, or an annotation is not what is documented.
    """
    folders = sorted(path for path in root.glob("*/*") if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise LayoutError(f"{ctx.source}: expected folders <collection>/<part> in {root}, found none")
    known: dict[str, dict[str, Row]] = {}
    for folder in folders:
        match = _PART.fullmatch(folder.name)
        if match is None:
            raise LayoutError(
                f"{folder}: expected a part named train, valid, test or like train_1, found {folder.name}"
            )
        collection = folder.parent.name
        if collection not in known:
            known[collection] = _known(root / f"{collection}_meta.csv", ctx)
        for clip, note, where in _samples(folder, match["split"], ctx):
            yield from _annotated(clip, note, where, known[collection], ctx)


def _known(table: Path, ctx: Context) -> dict[str, Row]:
    """Return file stem -> row of the collection's table; nothing where there is no table."""
    if not table.is_file():
        return {}
    rows = read_csv(ctx, table, columns=("audio_filename", "freesound_id", "license"))
    return {PurePosixPath(name).stem: row for name, row in by_column(rows, "audio_filename").items()}


def _samples(folder: Path, split: str, ctx: Context) -> Iterator[tuple[Clip, dict[str, Any], str]]:
    """Yield (clip without annotation, its JSON, place for messages) of every sample in a part."""

    def clip(stem: str, path: Path, offset_bytes: int = 0, num_bytes: int = 0) -> Clip:
        return Clip(
            id=f"{folder.parent.name}/{split}/{stem}",
            source=SPEC.name,
            path=str(path),
            split=split,
            duration_s=0.0,
            domain="sound",
            annotation=Annotation(),
            offset_bytes=offset_bytes,
            num_bytes=num_bytes,
        )

    if has_tars(folder, ("*.tar",)):
        for tar in read_tars(ctx, folder, {split: "*.tar"}):
            stem = PurePosixPath(tar.key).name
            yield clip(stem, tar.path, tar.offset_bytes, tar.num_bytes), tar.json, tar.where
        return
    notes = sorted(folder.glob("*.json"))
    for path in notes:
        if path.name != "sizes.json":  # what the publisher's packing script leaves beside the tars
            ctx.rows[folder] += 1
            yield clip(path.stem, ctx.audio(folder, path.stem)), read_json(path), str(path)
    for path in sorted(set(folder.glob("*.flac")) - {note.with_suffix(".flac") for note in notes}):
        ctx.rows[folder] += 1
        ctx.drop(f"{folder.parent.name}/{split}/{path.stem}", "no annotation beside the audio")


def _annotated(clip: Clip, note: Any, where: str, known: dict[str, Row], ctx: Context) -> Iterator[Clip]:
    """Yield the clip with what its JSON and the collection's table say, unless they say nothing."""
    if not isinstance(note, dict):
        raise LayoutError(f"{where}: expected a JSON object beside the audio, found {type(note).__name__}")
    original = note.get("original_data") or {}
    if not isinstance(original, dict):
        raise LayoutError(f"{where}: expected original_data to be an object, found {original!r}")
    row = known.get(PurePosixPath(clip.id).name)
    upstream_ids = _upstream_ids(original, row, where)
    captions, tags = _texts(note.get("text"), "text", where), _texts(note.get("tag"), "tag", where)
    labels = tuple(dict.fromkeys(part.strip() for tag in tags for part in tag.split(";") if part.strip()))
    metadata = {name: str(value) for name, value in original.items() if isinstance(value, str | int | float) and value}
    if isinstance(note.get("text_augment_t5"), str):
        metadata["text_augment_t5"] = note["text_augment_t5"]
    if any(text.startswith("freesound:") for text in upstream_ids):
        metadata["keywords"], labels = "; ".join(labels), ()
    if not captions and not labels:
        ctx.drop(clip.id, "no caption and no tag")
        return
    yield replace(
        clip,
        annotation=Annotation(captions=captions, labels=labels, metadata=metadata),
        license=freesound_license(row["license"] if row else str(original.get("license", ""))),
        upstream_ids=upstream_ids,
    )


def _texts(value: object, field: str, where: str) -> tuple[str, ...]:
    """Return the texts of a field that holds one, several or none.

    Raises:
        LayoutError: It holds something else.
    """
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise LayoutError(f"{where}: expected {field} to be a text or a list of texts, found {value!r}")
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip(" .")))


def _upstream_ids(original: dict[str, Any], row: Row | None, where: str) -> tuple[str, ...]:
    """Return the identifiers that the table's row, an address or Epidemic Sound's own fields state."""
    found = [freesound_id(row["freesound_id"], row.where)] if row else []
    for value in original.values():
        for pattern, namespace in _IDS:
            if isinstance(value, str) and (match := pattern.fullmatch(value)):
                found.append(identifiers.upstream(namespace, match["id"].lstrip("0") or "0"))
    if "isSfx" in original and original.get("id"):  # only Epidemic Sound has that field
        found.append(upstream_at(where, identifiers.upstream, "epidemic_sound", original["id"]))
    return tuple(dict.fromkeys(found))
