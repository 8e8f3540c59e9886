"""What is special about the corpora of environmental sound, and rows that none of their publishers would write."""

from __future__ import annotations

import csv
import hashlib
import tarfile
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run
from uniwhisper.sources.vocal_imitation import _folds  # pyright: ignore[reportPrivateUsage]
from uniwhisper.types import Clip

from .damage import copied, damaged

SHARED = Path(__file__).parents[3] / "shared"
JAMS = "annotations/train/soundscape_train_uniform1736.jams"


def clips(name: str, root: Path) -> dict[str, Clip]:
    return {clip.id: clip for clip in dry_run(name, root).clips}


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "expected"),
    [
        ("desed", "metadata/eval/public.tsv", "0.000\t2.081", "2.081\t0.000", r"public\.tsv:2: offset: expected a num"),
        ("desed", "metadata/eval/public.tsv", "3.847", "-3", r"public\.tsv:3: onset: expected a number from 0"),
        ("desed", "metadata/train/weak.tsv", "ringing,Speech", "ringing,Spech", r"weak\.tsv:2: expected one of the 10"),
        ("desed", "metadata/train/weak.tsv", "event_labels", "labels", r"weak\.tsv: expected the columns"),
        ("desed", "metadata/train/weak.tsv", "30.000_40.000", "40.000_30.000", r"weak\.tsv:2: .*start_s < end_s"),
        ("esc50", "meta/esc50.csv", "2,43,car_horn", "2,43,siren", r"esc50\.csv:3: expected category"),
        ("esc50", "meta/esc50.csv", "A-43.wav,2,", "A-43.wav,4,", r"esc50\.csv:3: expected a name <fold>"),
        ("esc50", "meta/esc50.csv", "dog,True", "dog,False", r"esc50\.csv:2: expected category, src_file, take, esc10"),
        ("esc50", "meta/esc50.csv", ",103051,A", ",103052,A", r"esc50\.csv:4: expected category, src_file"),
        ("fsd50k", "FSD50K.ground_truth/dev.csv", ",val", ",eval", r"dev\.csv:3: expected split train or val"),
        ("fsd50k", "FSD50K.ground_truth/dev.csv", "Bird,", "Brid,", r"dev\.csv:3: expected one of the 200 labels"),
        ("fsd50k", "FSD50K.ground_truth/eval.csv", "37199", "x7199", r"eval\.csv:2: .*freesound id"),
        ("fsd50k", "FSD50K.metadata/pp_pnp_ratings_FSD50K.json", "{", "[{", r"ratings_FSD50K\.json: expected JSON"),
        (
            "fsdkaggle2018",
            "FSDKaggle2018.meta/train_post_competition.csv",
            "358827",
            "n/a",
            r"train_post_competition\.csv:3: .*freesound id",
        ),
        (
            "fsdkaggle2018",
            "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv",
            "Oboe",
            "None",
            r"scoring_clips\.csv:3: expected one of the 41 labels",
        ),
        ("seeing_sound", "jams/soundscape_1.jams", '"role": "foreground", ', "", r"soundscape_1\.jams: .* no role"),
        (
            "sonyc_ust",
            "annotations.csv",
            "train,5,05_000066.wav,34",
            "test,5,05_000066.wav,34",
            r"csv:3: expected split",
        ),
        ("sonyc_ust", "annotations.csv", "-74.0,1,", "-74.0,2,", r"csv:2: column 1-1_.*_presence: expected 1, 0 or -1"),
        (
            "sonyc_ust",
            "annotations.csv",
            "8_dog_presence",
            "8_dog_heard",
            r"csv: expected 8 coarse and 29 fine columns",
        ),
        ("tau_asc2020_mobile", "meta.csv", "\tlisbon-1000", "\tlisbon-1001", r"meta\.csv:2: expected scene, location"),
        ("tau_asc2020_mobile", "meta.csv", "audio/tram-", "audio/tram_", r"meta\.csv:6: expected audio/<scene>"),
        (
            "tau_asc2020_mobile",
            "evaluation_setup/fold1_test.csv",
            "-b.wav",
            ".wav",
            r"fold1_test\.csv:2: expected audio",
        ),
        ("urban_sed", JAMS, '"jackhammer"', '"hammer"', r"1736\.jams: annotation 0 .* observation 2: expected one of"),
        ("urban_sed", JAMS, '"duration": 1.0', '"duration": -1.0', r"1736\.jams: .*duration: expected a number from 0"),
        ("urbansound8k", "metadata/UrbanSound8K.csv", "58.5,62.5", "62.5,58.5", r"8K\.csv:3: column end"),
        (
            "urbansound8k",
            "metadata/UrbanSound8K.csv",
            "3,dog_bark",
            "3,siren",
            r"8K\.csv:2: expected a name <Freesound",
        ),
        ("urbansound8k", "metadata/UrbanSound8K.csv", ",100263,", ",100264,", r"8K\.csv:3: expected fsID 100263"),
        ("urbansound8k", "metadata/UrbanSound8K.csv", "1,5,3", "1,11,3", r"8K\.csv:2: expected fold 1 to 10"),
        ("vocal_imitation", "vocal_imitations.txt", "\tTrue\tFalse", "\tyes\tFalse", r"txt:2: expected included to be"),
        (
            "vocal_imitation",
            "vocal_imitations.txt",
            "Scratch_ref",
            "Scrtch_ref",
            r"txt:6: expected one of the 302 labels",
        ),
        ("vocal_imitation", "original_recordings_license.csv", ",157166\n", ",?\n", r"license\.csv:2: .*freesound id"),
        ("vocal_imitation", "vocal_imitations_assessment.txt", "87.0", "870", r"assessment\.txt:2: column rating"),
    ],
)
def test_a_bad_row_is_named(name: str, file: str, old: str, new: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=expected):
        dry_run(name, damaged(name, tmp_path, file, old, new))


@pytest.mark.parametrize(
    ("name", "tar", "expected"),
    [
        ("desed", "wds-audio-train-000000.tar", "expected one of the 10 labels"),
        ("esc50", "wds-audio-fold-3-000000.tar", "expected a name <fold>"),
        ("fsd50k", "fsd50k_train_0000000.tar", "expected one of the 200 labels"),
        ("fsdkaggle2018", "fsd18_test_0000000.tar", "expected one of the 41 labels"),
        ("urbansound8k", "urbansound_fold7_0000000.tar", "expected one of the 10 labels"),
        ("vocal_imitation", "vocal_imitations_fold01_0000000.tar", "expected one of the 302 labels"),
    ],
)
def test_a_bad_sample_is_named(name: str, tar: str, expected: str, tmp_path: Path) -> None:
    path = copied(name, tmp_path, "xares") / tar
    with tarfile.open(path) as archive:
        (member, *_) = [member for member in archive if member.name.endswith(".json")]
    content = bytearray(path.read_bytes())
    place = slice(member.offset_data, member.offset_data + member.size)
    content[place] = b"{}".ljust(member.size) if name != "desed" else b'[{"onset":0,"offset":1}]'.ljust(member.size)
    path.write_bytes(content)
    with pytest.raises(LayoutError, match=rf"{tar}:.*{expected}"):
        dry_run(name, path.parent)


def test_both_layouts_name_a_clip_alike(tmp_path: Path) -> None:
    for name in ("esc50", "fsd50k", "urbansound8k", "vocal_imitation"):
        own = clips(name, copied(name, tmp_path / name))
        tars = clips(name, copied(name, tmp_path / name, "xares"))
        for clip_id in own.keys() & tars.keys():
            assert own[clip_id].annotation.labels == tars[clip_id].annotation.labels
            assert own[clip_id].upstream_ids[:1] == tars[clip_id].upstream_ids[:1]
        assert own.keys() & tars.keys() or name == "urbansound8k"


def test_tars_without_the_tables_lack_their_facts(tmp_path: Path) -> None:
    root = copied("fsdkaggle2018", tmp_path, "xares")
    with_table = clips("fsdkaggle2018", root)["001ca53d"]
    (root / "FSDKaggle2018.meta" / "train_post_competition.csv").unlink()
    without = clips("fsdkaggle2018", root)["001ca53d"]
    assert with_table.upstream_ids == ("freesound:358827",)
    assert (without.upstream_ids, without.annotation.labels) == ((), with_table.annotation.labels)


def test_hear_folds_hold_every_class_and_are_equal_in_size() -> None:
    codes = {f"{code:03}X-{take}": f"{code:03}X_reference" for code in range(90) for take in range(14)}
    folds = _folds(codes)
    assert list(folds) == list(codes)
    sizes = [list(folds.values()).count(f"fold{index}") for index in (1, 2, 3)]
    assert sizes == [420, 420, 420]
    assert len({(folds[name], code) for name, code in codes.items()}) == 3 * 90
    assert _folds(dict(reversed(codes.items()))) == folds
    # What split_k_folds of hearpreprocess 2021.1.1 gives for these names, at its second draw.
    digest = hashlib.sha256(" ".join(folds.values()).encode()).hexdigest()
    assert digest == "e20eb1f8119a1be4a7dc2a7966573a1d516986fa72502a7715e2aa918b17fbdd"


def test_hear_folds_of_a_part_are_the_first_draw() -> None:
    # Source: random.Random("split_k_folds") shuffles a, b, c, d; the first fold gets what does not divide evenly.
    assert _folds(dict.fromkeys("abcd", "one")) == _folds(dict.fromkeys("dcba", "one"))
    assert sorted(_folds(dict.fromkeys("abcd", "one")).values()) == ["fold1", "fold1", "fold2", "fold3"]
    assert set(_folds({"a": "one", "b": "two"}).values()) == {"fold1", "fold2"}


def test_sonyc_labels_are_the_verified_ones_else_what_anyone_heard(tmp_path: Path) -> None:
    root = copied("sonyc_ust", tmp_path)
    volunteers, verified = clips("sonyc_ust", root)["05_000066"], clips("sonyc_ust", root)["07_000001"]
    assert volunteers.annotation.votes["car horn"] == 1
    assert "car horn" in volunteers.annotation.labels
    assert "other unknown impact machinery" in verified.annotation.votes
    assert verified.annotation.labels == ("non machinery impact",)


def test_recordings_outside_the_fold_go_with_their_location(tmp_path: Path) -> None:
    root = copied("tau_asc2020_mobile", tmp_path)
    name = "street_pedestrian-barcelona-150-4572-s6"
    assert clips("tau_asc2020_mobile", root)[name].split == "test"
    assert clips("tau_asc2020_mobile", root)["airport-lisbon-1000-40000-s1"].split == "train"
    with (root / "evaluation_setup" / "fold1_train.csv").open("a", encoding="utf-8") as file:
        file.write(f"audio/{name}.wav\tstreet_pedestrian\n")
    assert clips("tau_asc2020_mobile", root)[name].split == "train", "what the fold names, it decides"


def test_urban_sed_keeps_the_split_of_its_sources(tmp_path: Path) -> None:
    found = clips("urban_sed", copied("urban_sed", tmp_path))
    assert {clip.split: clip.id for clip in found.values()} == {
        "train": "soundscape_train_uniform1736",
        "valid": "soundscape_validate_uniform3",
        "test": "soundscape_test_uniform9",
    }


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs ../shared/data")
def test_all_of_esc50_by_name(tmp_path: Path) -> None:
    """The 2,000 names, folds and classes of the real corpus, written as the publisher writes them."""
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    esc10 = {"0", "1", "10", "11", "12", "20", "21", "38", "40", "41"}
    groups: dict[str, str] = {}
    with (SHARED / "data" / "eval_esc50.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            stem = Path(row["path"]).stem
            fold, source, take, target = stem.split("-")
            rows.append(f"{stem}.wav,{fold},{target},{row['label']},{target in esc10},{source},{take}")
            groups[stem] = row["group"]
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = clips("esc50", tmp_path)
    assert len(found) == 2000
    assert {stem: clip.group for stem, clip in found.items()} == groups
    splits: dict[str, set[str]] = {}
    for clip in found.values():
        splits.setdefault(clip.upstream_ids[0], set()).add(clip.split)
    assert {name for name, folds in splits.items() if len(folds) > 1} == {
        f"freesound:{number}" for number in (131943, 134049, 209698, 234879)
    }, "the publisher's split, four recordings of two classes in two folds each"
