"""TAU Urban Acoustic Scenes 2020 Mobile, development set: 23,040 recordings of 10 s of ten scenes in ten cities.

Reads `meta.csv` (scene, location, device), `evaluation_setup/fold1_train.csv` and `fold1_test.csv`, and `audio/*.wav`,
recorded at once by three devices and simulated for six more. Kept: the scene; city, location and device as facts. A
location is a group, because its recordings are cut from few long ones and repeated by device. The publisher's fold
names 13,965 recordings for training and 2,970 for testing at other locations and leaves 6,105 out, most from devices
that are heard in the test alone; those go where their location goes, so that all 64 hours can be used and no location
is on both sides. Nothing is dropped by annotation.

Source: https://zenodo.org/records/3819968 (README.md: file names, meta data, fold); sizes and md5s:
https://github.com/DCASE-REPO/dcase_util (dcase_util/datasets/tut.py, 0.2.20).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._vocabulary import vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_FILES = "https://zenodo.org/records/3819968/files/TAU-urban-acoustic-scenes-2020-mobile-development"
_ARCHIVES = (
    (1_726_039_031, "b1e85b8a908d3d6a6ab73268f385d5c8"),
    (1_782_268_370, "4310a13cc2943d6ce3f70eba7ba4c784"),
    (1_870_468_865, "ed38956c4246abb56190c1e9b602b7b8"),
    (1_879_413_176, "97ab8560056b6816808dedc044dcc023"),
    (1_823_936_584, "b50f5e0bfed33cd8e52cb3e7f815c6cb"),
    (1_827_246_144, "fbf856a3a86fff7520549c899dc94372"),
    (1_728_630_243, "0dbffe7b6e45564da649378723284062"),
    (1_748_646_043, "bb6f77832bf0bd9f786f965beb251b2e"),
    (1_780_487_215, "a65596a5372eab10c78e08a0de797c9e"),
    (1_726_068_853, "2ad595819ffa1d56d2de4c7ed43205a6"),
    (1_744_480_272, "0ad29f7040a4e6a22cfd639b3a6738e5"),
    (1_738_707_195, "e5f4400c6b9697295fab4cf507155a2f"),
    (1_835_797_785, "8855ab9f9896422746ab4c5d89d8da2f"),
    (1_846_390_881, "092ad744452cd3e7de78f988a3d13020"),
    (1_869_032_508, "4b5eb85f6592aebf846088d9df76b420"),
    (436_971_777, "2e0a89723e58a3836be019e6996ae460"),
)
"""Size and md5 of audio.1.zip to audio.16.zip."""

SPEC = SourceSpec(
    name="tau_asc2020_mobile",
    version="2020",
    homepage="https://zenodo.org/records/3819968",
    license="free for non-commercial use, under Tampere University's own terms (LICENSE of the doc archive)",
    citation="T. Heittola, A. Mesaros and T. Virtanen, Acoustic scene classification in DCASE 2020 Challenge: "
    "generalization across devices and low complexity solutions, DCASE 2020",
    domain="sound",
    families=("classification", "audio_text_matching"),
    languages=(),
    splits=("train", "test"),
    uses=("training",),
    description="23,040 recordings of 10 s: ten urban scenes in ten European cities, nine devices.",
    remotes=(
        Remote(url=f"{_FILES}.meta.zip", size_bytes=214_159, checksum="md5:6eae9db553ce48e4ea246e34e50a3cf5"),
        *(
            Remote(url=f"{_FILES}.audio.{index}.zip", size_bytes=size_bytes, checksum=f"md5:{md5}")
            for index, (size_bytes, md5) in enumerate(_ARCHIVES, start=1)
        ),
    ),
    placement="meta.csv  annotations\nevaluation_setup/fold1_{train,test}.csv  split\n"
    "audio/*.wav  recordings (all of this as in the archives' folder "
    "TAU-urban-acoustic-scenes-2020-mobile-development)",
    num_clips=23_040,
    hours=64.0,
)

_SCENES = vocabulary(
    SPEC.name,
    "airport bus metro metro_station park public_square shopping_mall street_pedestrian street_traffic tram",
)
_NAME = re.compile(r"audio/(?P<scene>[a-z_]+)-(?P<city>[a-z]+)-(?P<location>\d+)-(?P<segment>\d+)-(?P<device>\w+)\.wav")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of meta.csv.

    Raises:
        LayoutError: A table is missing, a scene is unknown, or a name is not of the publisher's form or contradicts
            its row.
    """
    table = ctx.require(root / "meta.csv", root)
    train, test = (set(_names(root, ctx, split)) for split in ("train", "test"))
    if both := sorted(train & test):
        raise LayoutError(f"{ctx.source}: expected every recording in one part of the fold, found {both[0]} in both")
    test_locations = {_location(_match(name, "")) for name in test}
    for row in read_csv(ctx, table, columns=("filename", "scene_label", "identifier", "source_label"), delimiter="\t"):
        name = row["filename"]
        match = _match(name, row.where)
        found = (match["scene"], _location(match), match["device"])
        if found != (row["scene_label"], row["identifier"], row["source_label"]):
            raise LayoutError(f"{row.where}: expected scene, location and device {found}, found {dict(row)}")
        tests = name in test or (name not in train and row["identifier"] in test_locations)
        stem = name.removeprefix("audio/").removesuffix(".wav")
        yield Clip(
            id=stem,
            source=SPEC.name,
            path=str(ctx.audio(root / "audio", stem)),
            split="test" if tests else "train",
            duration_s=0.0,
            domain="sound",
            annotation=Annotation(
                labels=(_SCENES.label(row["scene_label"], row.where),),
                label_set=SPEC.name,
                metadata={fact: match[fact] for fact in ("city", "location", "segment", "device")},
            ),
            group=row["identifier"],
            license=SPEC.license,
        )


def _names(root: Path, ctx: Context, split: str) -> Iterator[str]:
    """Yield the file names that the fold puts into a split."""
    table = ctx.require(root / "evaluation_setup" / f"fold1_{split}.csv", root)
    for row in read_csv(ctx, table, columns=("filename",), delimiter="\t"):
        _match(row["filename"], row.where)
        yield row["filename"]


def _match(name: str, where: str) -> re.Match[str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise LayoutError(f"{where}: expected audio/<scene>-<city>-<location>-<segment>-<device>.wav, found {name!r}")
    return match


def _location(match: re.Match[str]) -> str:
    return f"{match['city']}-{match['location']}"
