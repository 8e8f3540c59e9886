"""What is special about the captioned and tagged corpora, and rows that none of their publishers would write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.manifest import read_manifest
from uniwhisper.sources import convert_source, dry_run
from uniwhisper.types import Clip

from .conversion import FIXTURES


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return where a test puts its corpus."""
    return tmp_path / "root"


def copied(name: str, corpus: Path) -> Path:
    """Return a copy of the fixture that a test may spoil."""
    shutil.copytree(FIXTURES / name / "root", corpus)
    return corpus


def edit(path: Path, old: str, new: str, encoding: str = "utf-8") -> None:
    text = path.read_text(encoding=encoding)
    assert old in text
    path.write_text(text.replace(old, new), encoding=encoding)


def clips(name: str, corpus: Path) -> dict[str, Clip]:
    return {clip.id: clip for clip in dry_run(name, corpus).clips}


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "expected"),
    [
        ("audiocaps", "train.csv", "fixtureAC01", "tooShort", r"train\.csv:2: .*YouTube id"),
        ("audiocaps", "val.csv", "audiocap_id,youtube_id", "id,youtube_id", r"val\.csv: expected the columns"),
        ("audiocaps", "test.csv", "fixtureAC07,10,", "fixtureAC07,10", r"test\.csv:3: expected 4 cells"),
        (
            "audioset",
            "eval_segments.csv",
            "27.500, 37.500",
            "37.500, 27.500",
            r"eval_segments\.csv:4: .*start_s < end_s",
        ),
        ("audioset", "eval_segments.csv", "/m/09x0r", "/m/zzz", r"eval_segments\.csv:4: expected one of the 5 labels"),
        (
            "audioset",
            "balanced_train_segments.csv",
            ', "/m/04rlf"',
            "",
            r"segments\.csv:5: expected one of the 5 labels",
        ),
        ("audioset", "audioset_train_strong.tsv", "/t/dd00138", "/t/x", r"strong\.tsv:3: expected one of the 7 labels"),
        (
            "audioset",
            "audioset_train_strong.tsv",
            "2.000\t2.5",
            "2.000\t1.5",
            r"strong\.tsv:3: column end_time_seconds",
        ),
        ("audioset", "audioset_train_strong.tsv", "_20000", "-20000", r"strong\.tsv:4: segment_id"),
        ("audioset", "ontology.json", '"name"', '"title"', r"ontology\.json: expected a list of objects"),
        (
            "clotho",
            "clotho_captions_evaluation.csv",
            "Car.wav",
            "Cat.wav",
            r"evaluation\.csv:2: expected a row for 'Cat",
        ),
        ("clotho", "clotho_metadata_validation.csv", "1001,", "x1,", r"metadata_validation\.csv:2: .*freesound id"),
        (
            "clotho",
            "clotho_metadata_validation.csv",
            "manufacturer",
            "by",
            r"metadata_validation\.csv: expected the col",
        ),
        ("musiccaps", "musiccaps-public.csv", "['guitar']", "guitar", r"musiccaps-public\.csv:4: expected aspect_list"),
        ("musiccaps", "musiccaps-public.csv", "True,True", "True,Yes", r"public\.csv:4: expected is_audioset_eval"),
        ("musiccaps", "musiccaps-public.csv", "A guitar is strummed.", "", r"public\.csv:4: expected a caption"),
        ("song_describer", "song_describer.csv", "4,1007274", "4,track", r"song_describer\.csv:5: .*jamendo id"),
        ("vggsound", "vggsound.csv", "skiing", "flying", r"vggsound\.csv:4: expected one of the 4 classes"),
        ("vggsound", "vggsound.csv", "skiing,train", "skiing,dev", r"vggsound\.csv:4: expected the part"),
        ("vggsound", "vggsound.csv", ",30,skiing", ",-3,skiing", r"vggsound\.csv:4: start: expected a number from 0"),
        (
            "wavcaps",
            "json_files/FreeSound/fsd_final.json",
            '"180913"',
            '"x"',
            r"fsd_final\.json: data\[0\]: .*freesound",
        ),
        (
            "wavcaps",
            "json_files/FreeSound/fsd_final.json",
            '" "',
            "7",
            r"fsd_final\.json: data\[1\]: expected a record with a caption",
        ),
        ("wavcaps", "json_files/AudioSet_SL/as_final.json", "Yfix", "fix", r"as_final\.json: data\[0\]: .*YouTube id"),
        (
            "laion_audio",
            "BBCSoundEffects/train/1.json",
            '"A busy street with cars and horns"',
            "{}",
            r"1\.json: .*text",
        ),
        ("laion_audio", "epidemic_sound_effects/test/7.json", '"tag": [', '"tag": [3, ', r"7\.json: expected tag"),
        ("laion_audio", "epidemic_sound_effects/test/7.json", "130586", '"1 2"', r"7\.json: expected an identifier"),
        ("wavcaps", "json_files/SoundBible/sb_final.json", '"2218"', '"../2218"', r"data\[0\]: expected a path below"),
        ("wavcaps", "json_files/SoundBible/sb_final.json", '"id"', '"no"', r"sb_final\.json: data\[0\]: .*'id'"),
        ("song_describer", "song_describer.csv", "74/1007274", "../1007274", r"csv:5: expected a path below"),
        (
            "clotho",
            "clotho_captions_development.csv",
            "Gone.wav",
            "/Gone.wav",
            r"development\.csv:4: expected a row for",
        ),
        ("yt8m_musictextclips", "train.csv", "60,70", "70,60", r"train\.csv:4: .*start_s < end_s"),
    ],
)
def test_a_bad_row_is_named(name: str, file: str, old: str, new: str, expected: str, corpus: Path) -> None:
    edit(copied(name, corpus) / file, old, new)
    with pytest.raises(LayoutError, match=expected):
        dry_run(name, corpus)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("audiocaps", r"expected .*train\.csv"),
        ("audioset", r"class_labels_indices\.csv"),
        ("clotho", r"clotho_captions_development\.csv"),
        ("laion_audio", r"expected folders <collection>/<part>"),
        ("musiccaps", r"musiccaps-public\.csv"),
        ("song_describer", r"song_describer\.csv"),
        ("vggsound", r"stat\.csv"),
        ("wavcaps", r"fsd_final\.json"),
        ("yt8m_musictextclips", r"train\.csv"),
    ],
)
def test_an_empty_folder_says_what_is_missing(name: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=expected):
        dry_run(name, tmp_path)


def test_audioset_reads_any_of_its_tables(corpus: Path) -> None:
    root = copied("audioset", corpus)
    for name in ("balanced_train_segments.csv", "eval_segments.csv", "audioset_eval_strong.tsv"):
        (root / name).unlink()
    found = clips("audioset", root)
    assert sorted(found) == ["fixtureAS03_150", "fixtureAS06_20"]
    (root / "audioset_train_strong.tsv").unlink()
    assert not clips("audioset", root)["fixtureAS03_150"].annotation.events


def test_clotho_needs_the_freesound_ids_of_a_conversion(corpus: Path, tmp_path: Path) -> None:
    root = copied("clotho", corpus)
    (root / "clotho_metadata_evaluation.csv").unlink()
    assert not clips("clotho", root)["evaluation/Car"].upstream_ids
    with pytest.raises(LayoutError, match=r"clotho_metadata_evaluation\.csv"):
        convert_source("clotho", tmp_path / "out", root)


def test_clotho_counts_latin1_rows_once(corpus: Path) -> None:
    root = copied("clotho", corpus)
    assert dry_run("clotho", root).rows["clotho_metadata_development.csv"] == 3
    edit(root / "clotho_metadata_development.csv", "Gone.wav,none,", "Gone.wav,", encoding="latin-1")
    with pytest.raises(LayoutError, match=r"clotho_metadata_development\.csv:4: expected 7 cells, found 6"):
        dry_run("clotho", root)


def test_laion_audio_gives_the_same_clips_from_tars_and_from_folders(corpus: Path, tmp_path: Path) -> None:
    root = copied("laion_audio", corpus)
    from_tars = clips("laion_audio", root)
    for folder in ("train_1", "test"):
        part = root / "freesound_no_overlap" / folder
        shutil.unpack_archive(part / "0.tar", tmp_path / folder)
        (part / "0.tar").unlink()
        for path in (tmp_path / folder).rglob("*.*"):
            path.rename(part / path.name)
    from_folders = clips("laion_audio", root)
    del from_folders["freesound_no_overlap/train/3"]  # JSON alone: the driver drops it for want of audio
    assert {name: clip.annotation for name, clip in from_folders.items()} == {
        name: clip.annotation for name, clip in from_tars.items()
    }
    assert all(clip.license == from_tars[name].license for name, clip in from_folders.items())
    assert all(clip.upstream_ids == from_tars[name].upstream_ids for name, clip in from_folders.items())


def test_laion_audio_refuses_a_part_of_another_name(corpus: Path) -> None:
    root = copied("laion_audio", corpus)
    (root / "audiostock/train").rename(root / "audiostock/split")
    with pytest.raises(LayoutError, match="audiostock/split: expected a part named train, valid, test"):
        dry_run("laion_audio", root)


def test_song_describer_needs_only_captions(corpus: Path) -> None:
    root = copied("song_describer", corpus)
    for name in ("song_describer_14_04_23.mtg-jamendo.tsv", "audio_metadata.tsv", "audio_licenses.txt"):
        (root / name).unlink()
    clip = clips("song_describer", root)["1004034"]
    assert clip.annotation.captions == ("A slow, calm tune", "Soft synthesizers")
    assert (clip.annotation.labels, clip.license) == ((), "")
    assert "attribution" not in clip.annotation.metadata


def test_vggsound_reads_the_older_list_of_files_where_there_is_no_newer(corpus: Path) -> None:
    root = copied("vggsound", corpus)
    newer = clips("vggsound", root)
    (root / "test.csv").write_text('a-b_c-d_e-f_000300.mp4,"bird chirping, tweeting"\n', encoding="utf-8")
    assert clips("vggsound", root) == newer
    (root / "vggsound.csv").unlink()
    clip = clips("vggsound", root)["a-b_c-d_e-f_300"]
    assert (clip.split, clip.annotation.labels) == ("test", ("bird chirping, tweeting",))
    edit(root / "test.csv", "_000300", "")
    with pytest.raises(LayoutError, match=r"test\.csv:1: expected <YouTube id>_<start"):
        dry_run("vggsound", root)


def test_wavcaps_refuses_a_pointer_in_the_place_of_a_table(corpus: Path) -> None:
    table = copied("wavcaps", corpus) / "json_files/FreeSound/fsd_final.json"
    table.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 147300685\n", encoding="utf-8")
    with pytest.raises(LayoutError, match=r"fsd_final\.json: expected JSON"):
        dry_run("wavcaps", corpus)
    table.write_text(json.dumps([{"id": "1", "caption": "A."}]), encoding="utf-8")
    with pytest.raises(LayoutError, match=r"fsd_final\.json: expected an object with a list 'data', found list"):
        dry_run("wavcaps", corpus)


def test_wavcaps_finds_audio_where_the_archives_put_it(corpus: Path, tmp_path: Path) -> None:
    root = copied("wavcaps", corpus)
    unpacked = root / "mnt/fast/nobackup/scratch4weeks/xm00178/WavCaps/data/waveforms"
    unpacked.mkdir(parents=True)
    (root / "FreeSound_flac").rename(unpacked / "FreeSound_flac")
    (root / "json_files/FreeSound/fsd_final.json").write_text(
        '{"data": [{"id": "180913", "caption": "A ringtone is playing."}]}', encoding="utf-8"
    )
    (root / "json_files/SoundBible/sb_final.json").unlink()
    clips = read_manifest(convert_source("wavcaps", tmp_path / "out", root).manifest)
    assert [Path(clip.path).parent.name for clip in clips] == [
        "AudioSet_SL_flac",
        "BBC_Sound_Effects_flac",
        "FreeSound_flac",
    ]
    assert Path(clips[-1].path).is_relative_to(unpacked)
