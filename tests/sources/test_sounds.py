"""Named sounds: tables of labels, names as words, and what the single sources make of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.files import read_jsonl
from uniwhisper.instructions import families, render
from uniwhisper.manifest import read_manifest
from uniwhisper.sources import convert_source, get_source
from uniwhisper.sources._context import Context
from uniwhisper.sources._sounds import label_rows, listed_clips, sound_clip, words
from uniwhisper.types import DOMAINS, Clip

from .conversion import FIXTURES, convert_fixture

TABLES = ("game_sfx", "gcompris", "lmms", "scratch", "sonicpi")
SOURCES = (*TABLES, "game_music", "tuxpaint_sfx")


def clips_of(name: str, tmp_path: Path) -> dict[str, Clip]:
    conversion, _ = convert_fixture(name, tmp_path)
    return {clip.id: clip for clip in read_manifest(conversion.manifest)}


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("HorseGallop", "horse gallop"),
        ("horse_gallop-2", "horse gallop"),
        ("Laugh-male3", "laugh male"),
        ("808", ""),
        ("LRBark_1_LA_cut", "lrbark la cut"),
    ],
)
def test_words(stem: str, expected: str) -> None:
    assert words(stem) == expected


@pytest.mark.parametrize("name", TABLES)
def test_table_of_labels_is_well_formed(name: str) -> None:
    rows = label_rows(name)
    assert len({row.pattern for row in rows}) == len(rows)
    for row in rows:
        assert row.domain in DOMAINS, row
        assert bool(row.labels) == bool(row.caption), row
        assert not row.caption or (row.caption[0].isupper() and row.caption.endswith(".")), row
        assert len(set(row.labels)) == len(row.labels), row


@pytest.mark.parametrize("name", TABLES)
def test_no_row_is_hidden_by_an_earlier_one(name: str) -> None:
    patterns = [row.pattern for row in label_rows(name)]
    for index, pattern in enumerate(patterns):
        example = Path(pattern.replace("*", "0").replace("?", "0"))
        hidden_by = [earlier for earlier in patterns[:index] if example.match(earlier)]
        assert not hidden_by, f"{pattern} can never count: {hidden_by}"


@pytest.mark.parametrize("name", SOURCES)
def test_clips_render_as_tagging_and_captioning(name: str, tmp_path: Path) -> None:
    for clip in clips_of(name, tmp_path).values():
        assert {"captioning", "tagging"} <= set(families(clip))
        assert set(families(clip)) <= set(get_source(name).SPEC.families)
        assert render(clip, "captioning", 0).answer == clip.annotation.captions[0]


@pytest.mark.parametrize("name", SOURCES)
def test_empty_folder_is_refused(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(LayoutError, match=f"{name}: expected .*usr/share"):
        convert_source(name, tmp_path / "out", root)


def test_sound_that_is_no_audio_is_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/games/simutrans/pak/sound"
    folder.mkdir(parents=True)
    (folder / "seagulls.wav").write_bytes(b"no audio at all")
    ctx = Context(source="game_sfx", out_dir=tmp_path / "out")
    spec = get_source("game_sfx").SPEC
    assert not list(listed_clips(spec, ctx, tmp_path, ("usr/share/games/simutrans/pak/sound",)))
    assert [(item.id, item.reason.split(":")[0]) for item in ctx.dropped] == [
        ("games/simutrans/pak/sound/seagulls.wav", "not audio")
    ]


def test_shortest_sound_is_kept_and_a_shorter_one_dropped(tmp_path: Path) -> None:
    scratch = FIXTURES / "scratch/root/usr/share/scratch/Media/Sounds"
    ctx = Context(source="scratch", out_dir=tmp_path)

    def made(name: str) -> Clip | None:
        path = scratch / name
        return sound_clip(
            get_source("scratch").SPEC, ctx, path, member=name, domain="sound", labels=("wolf",), caption="A wolf."
        )

    assert made("Effects/Pop.wav") is None
    assert ctx.dropped[0].reason.startswith("too short: 0.050 s")
    assert made("Animal/WolfHowl.wav") is not None


def test_sonicpi_takes_the_freesound_id_from_the_readme(tmp_path: Path) -> None:
    clips = clips_of("sonicpi", tmp_path)
    assert clips["sonic-pi/samples/bd_boom.flac"].upstream_ids == ("freesound:123",)
    assert clips["sonic-pi/samples/loop_mehackit1.flac"].upstream_ids == ("freesound:456",), (
        "the README writes mehackit_1"
    )
    assert clips["sonic-pi/samples/misc_crow.flac"].upstream_ids == ()


def test_tuxpaint_leaves_speech_to_another_source(tmp_path: Path) -> None:
    clips = clips_of("tuxpaint_sfx", tmp_path)
    known = {*clips, *(row["id"] for row in read_jsonl(tmp_path / "dropped.jsonl"))}
    assert not [clip_id for clip_id in known if "_desc" in clip_id or "symbols" in clip_id]
    assert clips["animals/mammals/lamb.ogg"].annotation.labels == ("baby sheep", "animal")
    assert clips["animals/insects/mosquito.ogg"].annotation.captions == ("The sound of a mosquito.",), (
        "named by its file"
    )


def test_game_sfx_names_the_licence_of_each_package(tmp_path: Path) -> None:
    licenses = {clip.id.split("/")[1]: clip.license for clip in clips_of("game_sfx", tmp_path).values()}
    assert licenses == {
        "minetest": "CC-BY-SA-3.0",
        "simutrans": "Artistic-1.0",
        "sound-icons": "GPL-2.0-or-later",
    }


def test_variants_of_a_sound_are_one_group(tmp_path: Path) -> None:
    clips = [clip for clip in clips_of("game_sfx", tmp_path).values() if "grass" in clip.id]
    assert len(clips) == 2
    assert len({clip.group for clip in clips}) == 1


def test_music_is_cut_into_pieces_of_one_group(tmp_path: Path) -> None:
    clips = list(clips_of("game_music", tmp_path).values())
    durations = [clip.duration_s for clip in clips if clip.group == "neverball/bgm/track1"]
    assert durations == [10.0, 6.0]
    assert [clip.duration_s for clip in clips if clip.group == "frozen-bubble/snd/introzik"] == [10.0], (
        "1 s is no piece"
    )
    assert [clip.duration_s for clip in clips if clip.group == "neverball/bgm/inter"] == [2.0], "a track is never lost"
