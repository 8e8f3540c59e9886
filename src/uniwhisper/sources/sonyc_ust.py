"""SONYC-UST: 18,510 ten-second recordings of New York's streets, tagged with 8 coarse and 29 fine classes.

Reads `annotations.csv` (one row an annotator and recording) and `audio/*.wav` (or the archives' folders `audio-*`).
Labels are the classes that the SONYC team agreed on where it verified the recording (annotator 0), else every class
that at least one annotator heard, as in the publisher's baseline; a coarse class goes with each of its fine ones. All
votes are kept (how many people heard a class), how near volunteers thought it, and sensor, time and place. One group a
sensor: train and validation share none, but the test recordings are later ones of the same sensors. Dropped:
recordings in which nobody heard any class.

Source: https://zenodo.org/records/3966543 (v2.3, README.md: columns, splits, taxonomy), arXiv:2009.05188; minority
vote: https://github.com/sonyc-project/dcase2020task5-uststc-baseline (README.md); md5s: https://github.com/soundata/
soundata (the loader sonyc_ust).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import plain_name
from uniwhisper.sources._read import Row, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_FILES = "https://zenodo.org/records/3966543/files"
_MD5S = (
    "bbb4dbae7d2e58e18d24878b9ee1eb51 7c369ff37ac6a1fdd8493fdffe62e0a1 412241c063d7f196953d3dd1c44aeb5e "
    "d2a872392d95993a2c238d305b940812 b15b0e0cb3f8584259ef0d24293a9be3 de745f887067433757a2f2c8f99f99bb "
    "b0286c67468369d66336f6f5ddede31f ff300183ab7a9d3f2f74c3b730ffeb52 7be76b821fa6dbe20f6b50ca440e1024 "
    "959f7edfbb26eadad9865069f38aa9dd 84e94de273666c537a3e6b709ee88d9b 44fe1f43121a7d1178aa0cdf7477793b "
    "a7eb21011f460b5ac289f8e285e875ab 27945a8b1008eec787f97213164951e6 fb8c7d81c3bde3a0c86c1e55e6a85a24 "
    "f6af9b65d876ef96d199b9e5f0473cb9 e8337c61a90c30989d500f950fbe443a 3e47e85eb4564a30fe7f442ee97ec7b9 "
    "c6b2ef4d0d5b7269d465c469cdbbdc4b"
)
"""Of audio-0.tar.gz to audio-18.tar.gz."""

SPEC = SourceSpec(
    name="sonyc_ust",
    version="2.3",
    homepage="https://zenodo.org/records/3966543",
    license="CC-BY-4.0",
    citation="M. Cartwright et al., SONYC-UST-V2: An Urban Sound Tagging Dataset with Spatiotemporal Context, DCASE "
    "2020",
    domain="sound",
    families=("tagging", "classification", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="18,510 street recordings of 10 s from New York's sensors, tagged by several people each.",
    remotes=(
        Remote(url=f"{_FILES}/annotations.csv", checksum="md5:70b507b15bb4cfcce4870925302f276b"),
        *(
            Remote(url=f"{_FILES}/audio-{index}.tar.gz", checksum=f"md5:{md5}")
            for index, md5 in enumerate(_MD5S.split())
        ),
    ),
    placement="annotations.csv  annotations\naudio/*.wav (or audio-<0..18>/*.wav)  recordings of all archives",
    num_clips=18_510,
    hours=51.42,
    drop_tolerance=0.1,  # recordings without any class: few, since they were chosen to hold some
)

_SPLITS = {"train": "train", "validate": "valid", "test": "test"}
_FACTS = ("sensor_id", "year", "week", "day", "hour", "borough", "block", "latitude", "longitude")
_BOROUGHS = {"1": "Manhattan", "3": "Brooklyn", "4": "Queens"}
_COLUMN = re.compile(r"(?P<code>\d(-[\dX])?)_(?P<name>.+)_(?P<kind>presence|proximity)")
_NUM_COARSE = 8
_NUM_FINE = 29
_TRUTH = "0"
"""Annotator id of what the SONYC team agreed on; volunteers are above, single members of the team below."""


@dataclass(kw_only=True, slots=True)
class _Draft:
    """A recording while its rows are being read."""

    row: Row
    truth: set[str] | None = None
    heard: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Class -> annotators."""
    annotators: set[str] = field(default_factory=set)
    proximity: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def classes(self) -> set[str]:
        """Return the columns of the classes that are taken for present."""
        return set(self.heard) if self.truth is None else self.truth


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per recording.

    Raises:
        LayoutError: A file or column is missing, or a row has an impossible value or contradicts another.
    """
    table = ctx.require(root / "annotations.csv", root)
    drafts: dict[str, _Draft] = {}
    columns: dict[str, re.Match[str]] = {}
    for row in read_csv(ctx, table, columns=("split", "audio_filename", "annotator_id", *_FACTS)):
        columns = columns or _columns(row, table)
        draft = drafts.setdefault(plain_name(row["audio_filename"], row.where), _Draft(row=row))
        if row["split"] not in _SPLITS or row["split"] != draft.row["split"]:
            raise LayoutError(
                f"{row.where}: expected split {draft.row['split']} of train, validate, test, found {row['split']}"
            )
        if row["sensor_id"] != draft.row["sensor_id"]:
            raise LayoutError(
                f"{row.where}: expected sensor {draft.row['sensor_id']} as at {draft.row.where}, found "
                f"{row['sensor_id'][:80]!r}"
            )
        _add(draft, row, columns)
    labels = {match["code"]: match["name"].replace("-", " ") for match in columns.values()}
    folders = {path.name: path for folder in sorted(root.glob("audio-*")) for path in folder.glob("*.wav")}
    for name, draft in drafts.items():
        stem = name.removesuffix(".wav")
        if not draft.classes:
            ctx.drop(stem, "no class: nobody heard one")
            continue
        yield _clip(stem, folders.get(name) or ctx.audio(root / "audio", stem), draft, labels)


def _columns(row: Row, table: Path) -> dict[str, re.Match[str]]:
    """Return column -> code (`1`, `1-2`, `1-X`), name and kind of a class, for the columns that are about one."""
    columns = {column: match for column in row if (match := _COLUMN.fullmatch(column))}
    codes = {match["code"] for match in columns.values() if match["kind"] == "presence"}
    num_fine = sum("-" in code for code in codes)
    if (len(codes) - num_fine, num_fine) != (_NUM_COARSE, _NUM_FINE):
        raise LayoutError(
            f"{table}: expected {_NUM_COARSE} coarse and {_NUM_FINE} fine columns *_presence, found "
            f"{len(codes) - num_fine} and {num_fine}; give annotations.csv of version 2.3"
        )
    return columns


def _add(draft: _Draft, row: Row, columns: Mapping[str, re.Match[str]]) -> None:
    """Add what one annotator says."""
    present: set[str] = set()
    for column, match in columns.items():
        cell = row[column]
        if match["kind"] == "proximity":
            if cell != "-1":
                draft.proximity[match["code"]][cell] += 1
        elif cell == "1":
            present.add(match["code"])
        elif cell not in ("0", "-1"):
            raise LayoutError(f"{row.where}: column {column}: expected 1, 0 or -1, found {cell!r}")
    if row["annotator_id"] == _TRUTH:
        draft.truth = (draft.truth or set()) | present
    else:
        draft.annotators.add(row["annotator_id"])
        for code in present:
            draft.heard[code].add(row["annotator_id"])


def _clip(stem: str, path: Path, draft: _Draft, labels: Mapping[str, str]) -> Clip:
    order = [code for code in labels if "-" not in code] + [code for code in labels if "-" in code]
    nearness = "; ".join(
        f"{labels[code]}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(draft.proximity[code].items()))
        for code in order
        if code in draft.proximity
    )
    facts = {name.removesuffix("_id"): draft.row[name] for name in _FACTS}
    facts["borough"] = _BOROUGHS.get(facts["borough"], facts["borough"])
    facts |= {
        "annotators": str(len(draft.annotators)),
        "verified": "no" if draft.truth is None else "yes",
        "proximity": nearness,
    }
    return Clip(
        id=stem,
        source=SPEC.name,
        path=str(path),
        split=_SPLITS[draft.row["split"]],
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(
            labels=tuple(dict.fromkeys(labels[code] for code in order if code in draft.classes)),
            label_set=SPEC.name,
            votes={labels[code]: len(draft.heard[code]) for code in order if code in draft.heard},
            metadata={name: text for name, text in facts.items() if text},
        ),
        group=f"sensor-{draft.row['sensor_id']}",
        license=SPEC.license,
    )
