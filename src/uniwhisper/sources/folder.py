"""A folder of audio whose sub-folders are the labels: `<label>/<file>`, `<split>/<label>/<file>`.

Reads every audio file below the root. Names of folders are read from the top: one that is a split (train, valid,
validation, dev, test, fold1, ...) or a domain (speech, sound, music) is taken as that, the first other one is the
label, and folders below it (a recording, a speaker) make the clip's group. Files with other suffixes are not audio and
are listed as dropped; hidden ones are passed over. For anything richer there is `table`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import AUDIO_SUFFIXES, Context
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import DOMAINS, Annotation, Clip, Domain

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="folder",
    version="1",
    homepage="https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html",
    license="as stated by the owner",
    citation="the folder's owner",
    domain="mixed",
    families=("classification", "audio_text_matching"),
    languages=(),
    uses=("own",),
    splits=("train", "valid", "test", *(f"fold{number}" for number in range(1, 11))),
    description="Audio in folders named by their labels: <label>/<file> or <split>/<label>/<file>.",
    drop_tolerance=0.5,
)

_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "test": "test"}
_FOLD = re.compile(r"fold[ _-]?0*(\d+)")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per audio file, labelled by the folder that it is in.

    Raises:
        LayoutError: `root` is a file, or an audio file lies directly in it and so has no label.
    """
    if not root.is_dir():
        raise LayoutError(f"{ctx.source}: expected a folder at {root}, found a file; for a table use the source table")
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        parts = path.relative_to(root).parts
        if any(part.startswith(".") for part in parts):
            continue
        ctx.rows[root] += 1
        name = "/".join(parts)
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            ctx.drop(name, f"not an audio file: suffix {path.suffix!r}")
            continue
        split, domain, folders = _places(parts[:-1])
        if not folders:
            raise LayoutError(f"{path}: expected audio in a folder named by its label, found it in {path.parent}")
        yield Clip(
            id=name,
            source=SPEC.name,
            path=str(path),
            split=split,
            duration_s=0.0,
            domain=domain,
            annotation=Annotation(labels=(folders[0].replace("_", " "),), label_set=root.name),
            group="/".join(folders) if len(folders) > 1 else "",
        )


def _places(folders: tuple[str, ...]) -> tuple[str, Domain, list[str]]:
    """Return split, domain and the folders that are neither."""
    split, domain, rest = "train", "sound", []
    for number, folder in enumerate(folders):
        lower = folder.lower()
        last = number == len(folders) - 1
        if lower in _SPLITS and not last:
            split = _SPLITS[lower]
        elif (match := _FOLD.fullmatch(lower)) and not last:
            split = f"fold{match[1]}"
        elif lower in DOMAINS and not last:
            domain = lower
        else:
            rest.append(folder)
    return split, cast(Domain, domain), rest
