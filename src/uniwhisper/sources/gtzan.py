"""GTZAN: 1,000 excerpts of 30 s, 100 of each of ten genres of music.

Reads `genres/<genre>/<genre>.<five digits>.wav` or `.au` (also below `genres_original`, as mirrors have it); or
X-ARES's tars, whose JSON holds the genre. There are no annotations beyond the file's name: the corpus tells neither
artists nor titles, so clips have no group. Nothing is dropped by annotation; in the WAV copies `jazz.00054` is broken.

The publisher splits nothing. In several genres the excerpts of an artist stand one after another (Sturm, section 3), so
fold 1 is numbers 0 to 9, fold 2 is 10 to 19 and so on: fewer artists are on both sides than at random, but some are.
X-ARES's ten folds are random ones.

Source: https://huggingface.co/datasets/marsyas/gtzan; Tzanetakis & Cook, IEEE TSAP 2002; Sturm, arXiv:1306.1461;
https://github.com/mir-dataset-loaders/mirdata (mirdata/datasets/gtzan_genre.py: layout); tars:
https://zenodo.org/records/14722472, https://github.com/jimbozhang/xares (src/tasks/gtzan_task.py).
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

_FOLDS = tuple(f"fold{number}" for number in range(1, 11))
_TARS = {fold: f"gtzan_fold_{index}_*.tar" for index, fold in enumerate(_FOLDS)}  # X-ARES counts from 0

SPEC = SourceSpec(
    name="gtzan",
    version="2002",
    homepage="https://huggingface.co/datasets/marsyas/gtzan",
    license="not stated by the publisher",
    citation="G. Tzanetakis, P. Cook, Musical genre classification of audio signals, IEEE TSAP 10(5), 2002",
    domain="music",
    families=("classification", "audio_text_matching", "attribute_prediction"),
    languages=(),
    splits=_FOLDS,
    uses=("evaluation",),
    description="1,000 excerpts of 30 s in ten genres of music.",
    remotes=(
        Remote(url="https://huggingface.co/datasets/marsyas/gtzan/resolve/main/data/genres.tar.gz"),
        Remote(url="https://zenodo.org/api/records/14722472/files-archive"),
    ),
    placement="genres/<genre>/<genre>.<00000 ... 00099>.wav or .au  audio, as in the archive\n"
    "or gtzan_fold_<0..9>_*.tar  X-ARES's tars",
    num_clips=1000,
    hours=8.33,
    drop_tolerance=0.001,  # jazz.00054 of the WAV copies
)

_GENRES = Vocabulary(
    name=SPEC.name,
    labels={name: name for name in ("blues", "classical", "country", "disco", "jazz", "metal", "pop", "reggae", "rock")}
    | {"hiphop": "hip hop"},
)
_SUFFIXES = (".wav", ".au")
_NAME = re.compile(r"(?P<genre>[a-z]+)[._](?P<number>\d{5})")  # in tars the dot has become an underscore


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per audio file, or per sample of the tars.

    Raises:
        LayoutError: There is no folder of a genre, or a file is not named after its genre and a number.
    """
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = replace(_clip(tar.key, tar.json.get("genre"), tar.where), split=tar.split)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    folder = root / "genres_original" if (root / "genres_original").is_dir() else root / "genres"
    ctx.require(folder, root)
    for genre in sorted(_GENRES.labels):
        files = ctx.require_folder(folder / genre, folder).iterdir()
        # Archives packed on a Mac hold a hidden twin of every file, `._<name>`.
        audio = (path for path in files if path.suffix in _SUFFIXES and not path.name.startswith("."))
        for stem in sorted({path.stem for path in audio}):
            clip = _clip(stem, genre, str(folder / genre / stem))
            yield replace(clip, path=str(ctx.audio(folder / genre, stem, _SUFFIXES)))


def _clip(stem: str, genre: object, where: str) -> Clip:
    match = _NAME.fullmatch(stem)
    if match is None or match["genre"] != genre or match["number"] > "00099":
        raise LayoutError(f"{where}: expected a name like {genre}.00000, up to 00099, found {stem}")
    label = _GENRES.label(genre, where)
    return Clip(
        id=f"{genre}.{match['number']}",
        source=SPEC.name,
        path="",
        split=_FOLDS[int(match["number"]) // 10],
        duration_s=0.0,
        domain="music",
        annotation=Annotation(labels=(label,), label_set=SPEC.name, attributes={"genre": label}),
    )
