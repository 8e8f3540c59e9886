from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from uniwhisper.errors import AudioError, ConfigError, LayoutError, ManifestError, SourceError
from uniwhisper.files import read_jsonl
from uniwhisper.manifest import read_manifest
from uniwhisper.sources import Context, SourceSpec, convert_source, get_source
from uniwhisper.sources._convert import dry_run_source, run_source
from uniwhisper.sources._read import read_csv
from uniwhisper.types import Annotation, Clip

SPEC = SourceSpec(
    name="toy",
    version="1",
    homepage="https://example.org",
    license="CC0-1.0",
    citation="nobody",
    domain="sound",
    families=("tagging",),
    languages=(),
    splits=("train",),
    description="A toy.",
    drop_tolerance=0.25,
)


def toy(convert: Callable[[Path, Context], Iterator[Clip]], **changes: Any) -> Any:
    module = ModuleType("toy")
    module.__dict__.update(SPEC=dataclasses.replace(SPEC, **changes), convert=convert, __file__=__file__)
    return module


def clip(name: str, path: Path | str) -> Clip:
    annotation = Annotation(labels=("hum",))
    return Clip(
        id=name,
        source="toy",
        path=str(path),
        split="train",
        duration_s=0.1,
        domain="sound",
        annotation=annotation,
    )


def rendering(num_clips: int, num_dropped: int) -> Any:
    def convert(root: Path, ctx: Context) -> Iterator[Clip]:
        for index in range(num_clips):
            yield clip(f"c{index}", ctx.write_audio(f"c{index}", np.zeros(1_600, np.float32)))
        for index in range(num_dropped):
            ctx.drop(f"d{index}", "no text: at all")

    return toy(convert)


def test_artifact_folder(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    conversion = run_source(rendering(3, 1), out_dir, tmp_path)
    assert (conversion.num_clips, conversion.num_dropped, conversion.reused) == (3, 1, False)
    assert [c.path for c in read_manifest(conversion.manifest)] == [str(out_dir / f"audio/c{i}.flac") for i in range(3)]
    assert list(read_jsonl(out_dir / "dropped.jsonl")) == [{"id": "d0", "reason": "no text: at all"}]
    assert (out_dir / "DONE").stat().st_mtime_ns >= (out_dir / "spec.json").stat().st_mtime_ns


def test_too_many_drops_fail_and_leave_no_marker(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"at most 25\.0% .* found 50\.0% \(2 of 4 .*2 x no text"):
        run_source(rendering(2, 2), tmp_path / "out", tmp_path)
    assert not (tmp_path / "out" / "DONE").exists()


def test_no_clip_at_all_fails(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected clips in"):
        run_source(rendering(0, 0), tmp_path / "out", tmp_path)


def test_a_failing_second_conversion_withdraws_the_marker(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    run_source(rendering(3, 0), out_dir, tmp_path)
    with pytest.raises(SourceError):
        run_source(rendering(0, 0), out_dir, tmp_path, limit=2)
    assert not (out_dir / "DONE").exists()


def test_limit_is_part_of_the_key(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    assert run_source(rendering(3, 0), out_dir, tmp_path, limit=2).num_clips == 2
    assert run_source(rendering(3, 0), out_dir, tmp_path, limit=2).reused
    assert run_source(rendering(3, 0), out_dir, tmp_path).num_clips == 3


def test_repeated_ids_and_relative_paths_are_refused(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        soundfile.write(str(tmp_path / name), np.zeros(1_600, np.float32), 16_000)
    twice = [clip("a", tmp_path / "a.wav"), clip("a", tmp_path / "b.wav")]
    with pytest.raises(ManifestError, match="unique"):
        run_source(toy(lambda root, ctx: iter(twice)), tmp_path / "o", tmp_path)
    with pytest.raises(SourceError, match="absolute audio path"):
        run_source(toy(lambda root, ctx: iter([clip("a", "a.wav")])), tmp_path / "o", tmp_path)


def test_unknown_source_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="did you mean sonicpi"):
        get_source("sonic_pi")
    with pytest.raises(SourceError, match="sources of `uniwhisper sources`, found"):
        get_source("_spec")
    with pytest.raises(LayoutError, match="nothing there"):
        convert_source("asterisk", tmp_path / "out", tmp_path / "none")
    with pytest.raises(SourceError, match="--root"):
        convert_source("table", tmp_path / "out")


@pytest.mark.parametrize("name", ["asterisk", "fillets", "ktuberling", "tuxpaint_speech"])
def test_a_wrong_folder_says_what_is_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.zip").touch()
    with pytest.raises(LayoutError, match=r"expected .*usr/share.*corpus\.zip"):
        convert_source(name, tmp_path / "out", tmp_path)


def test_written_audio_is_what_was_given(tmp_path: Path) -> None:
    wave = np.linspace(-1.5, 1.5, 4_000, dtype=np.float32)
    ctx = Context(source="toy", out_dir=tmp_path)
    samples, sample_rate = soundfile.read(str(ctx.write_audio("deep/name", wave)))
    assert sample_rate == 16_000
    np.testing.assert_allclose(samples, wave.clip(-1, 1), atol=1e-4)
    assert ctx.duration_s(tmp_path / "audio/deep/name.flac") == 0.25


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros((2, 4)), np.array([0.0, np.nan])])
def test_bad_audio_is_not_written(wave: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="clip 'x'"):
        Context(source="toy", out_dir=tmp_path).write_audio("x", wave)


def test_ids_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="stays below"):
        Context(source="toy", out_dir=tmp_path / "out").write_audio("../../x", np.zeros(10))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Toy"},
        {"license": ""},
        {"homepage": "http://example.org"},
        {"domain": "noise"},
        {"families": ()},
        {"families": ("asr", "singing")},
        {"splits": ()},
        {"drop_tolerance": 1.0},
    ],
)
def test_a_spec_states_everything(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(SPEC, **change)


def test_listing_imports_no_source() -> None:
    import subprocess

    code = (
        "import sys, uniwhisper.sources as s; names = s.list_sources();"
        "assert names and not [n for n in names if f'uniwhisper.sources.{n}' in sys.modules];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def measuring(paths: list[Path]) -> Any:
    """Return a source whose clips are measured by the driver."""

    def convert(root: Path, ctx: Context) -> Iterator[Clip]:
        for path in paths:
            yield dataclasses.replace(clip(path.stem, str(path)), duration_s=0.0)

    return toy(convert, drop_tolerance=0.9)


def test_the_driver_measures_and_drops_what_it_cannot(tmp_path: Path) -> None:
    good, broken = tmp_path / "good.wav", tmp_path / "broken.wav"
    soundfile.write(str(good), np.zeros(8_000, np.float32), 16_000)
    broken.write_bytes(b"not audio at all")
    out_dir = tmp_path / "out"
    done = run_source(measuring([good, tmp_path / "absent.wav", broken]), out_dir, tmp_path)
    assert [found.duration_s for found in read_manifest(done.manifest)] == [0.5]
    reasons = {row["id"]: row["reason"] for row in read_jsonl(out_dir / "dropped.jsonl")}
    assert reasons["absent"].startswith("audio missing: no ")
    assert reasons["broken"].startswith("audio broken: expected audio")
    assert done.num_dropped == 2


def test_spans_must_lie_within_their_recording(tmp_path: Path) -> None:
    soundfile.write(str(tmp_path / "long.wav"), np.zeros(64_000, np.float32), 16_000)

    def convert(root: Path, ctx: Context) -> Iterator[Clip]:
        for name, start_s, duration_s in (
            ("in", 1.0, 2.5),
            ("rest", 3.0, 0.0),
            ("out", 3.0, 2.0),
            ("beyond", 9.0, 0.0),
        ):
            yield dataclasses.replace(clip(name, tmp_path / "long.wav"), start_s=start_s, duration_s=duration_s)
        yield dataclasses.replace(clip("gone", tmp_path / "gone.wav"), start_s=1.0, duration_s=1.0)

    done = run_source(toy(convert, drop_tolerance=0.9), tmp_path / "out", tmp_path)
    assert [(found.id, found.duration_s) for found in read_manifest(done.manifest)] == [("in", 2.5), ("rest", 1.0)]
    reasons = {row["id"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "dropped.jsonl")}
    assert reasons["out"] == "audio too short: 4.00 s, and the clip is from 3.00 s to 5.00 s"
    assert reasons["beyond"].startswith("audio too short")
    assert reasons["gone"].startswith("audio missing")


@pytest.mark.parametrize("workers", [1, 2])
def test_manifests_do_not_depend_on_workers(workers: int, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:03}.wav" for number in range(6)]
    for number, path in enumerate(paths):
        soundfile.write(str(path), np.zeros(1_600 * (number + 1), np.float32), 16_000)
    done = run_source(measuring(paths), tmp_path / "out", tmp_path, workers=workers)
    assert [round(found.duration_s, 3) for found in read_manifest(done.manifest)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_a_dry_run_opens_no_audio_and_counts_rows(tmp_path: Path) -> None:
    def convert(root: Path, ctx: Context) -> Iterator[Clip]:
        for row in read_csv(ctx, root / "clips.csv", columns=("name",)):
            if row["name"] == "bad":
                ctx.drop("bad", "marked as bad by the publisher")
            else:
                yield dataclasses.replace(clip(row["name"], str(ctx.audio(root, row["name"]))), duration_s=0.0)

    (tmp_path / "clips.csv").write_text("name\na\nbad\nb\n", encoding="utf-8")
    found = dry_run_source(toy(convert), tmp_path)
    assert found.rows == {"clips.csv": 3}
    assert [one.id for one in found.clips] == ["a", "b"]
    assert [item.reason for item in found.dropped] == ["marked as bad by the publisher"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.csv"]


def naming(path: Path | str, **changes: Any) -> Any:
    """Return a source with one clip, whose audio is at `path`."""
    return toy(lambda root, ctx: iter([dataclasses.replace(clip("c", path), **changes)]), drop_tolerance=0.9)


def sounding(path: Path, duration_s: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), np.zeros(round(duration_s * 16_000), np.float32), 16_000)
    return path


@pytest.mark.parametrize("name", ["../secret.wav", "a/../../secret.wav", "../root2/a.wav"])
def test_audio_outside_of_the_corpus_is_refused(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path in (root / "a" / "x.wav", tmp_path / "secret.wav", tmp_path / "root2" / "a.wav"):
        sounding(path)
    with pytest.raises(LayoutError, match=rf"clip 'c': expected audio in {root}, found .*outside of the corpus"):
        run_source(naming(f"{root}/{name}"), tmp_path / "out", root)
    with pytest.raises(LayoutError, match="outside of the corpus"):
        dry_run_source(naming(f"{root}/{name}"), root)
    assert run_source(naming(f"{root}/a/../a/x.wav"), tmp_path / "out", root).num_clips == 1


def test_links_in_the_corpus_and_tables_of_ones_own_may_lead_anywhere(tmp_path: Path) -> None:
    real = sounding(tmp_path / "disk" / "x.wav").parent
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "audio").symlink_to(real)
    (tmp_path / "linked").symlink_to(tmp_path / "root")
    for root in (tmp_path / "root", tmp_path / "linked"):
        done = run_source(naming((tmp_path / "root" / "audio" / "x.wav").absolute()), tmp_path / root.name / "o", root)
        assert done.num_clips == 1
    (tmp_path / "root" / "t.csv").write_text(f"path,label\n../disk/x.wav,dog\n{real}/x.wav,dog\n")
    assert convert_source("table", tmp_path / "out", tmp_path / "root" / "t.csv").num_clips == 2


def test_stated_durations_are_compared_with_the_audio(tmp_path: Path) -> None:
    path = sounding(tmp_path / "x.wav", 2.0)

    def found(duration_s: float, start_s: float = 0.0) -> list[float]:
        source = toy(
            lambda root, ctx: iter(
                [clip("y", path), dataclasses.replace(clip("c", path), duration_s=duration_s, start_s=start_s)]
            ),
            drop_tolerance=0.9,
        )
        run_source(source, tmp_path / "out", tmp_path, limit=round(duration_s * 100))
        return [each.duration_s for each in read_manifest(tmp_path / "out" / "manifest.jsonl") if each.id == "c"]

    assert found(1.5) == [1.5]
    assert found(2.25) == [2.0], "an end a little after the audio's is the audio's"
    assert found(1.25, 1.0) == [1.0]
    assert found(9.0) == []
    (row,) = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    assert row["reason"] == "audio too short: 2.00 s, and the clip is from 0.00 s to 9.00 s"


def test_an_error_about_a_clip_names_the_rows_that_speak_of_it(tmp_path: Path) -> None:
    def convert(root: Path, ctx: Context) -> Iterator[Clip]:
        for row in read_csv(ctx, root / "clips.csv", columns=("name",)):
            yield clip(f"part/{row['name']}", root / "x.wav")

    sounding(tmp_path / "x.wav")
    (tmp_path / "clips.csv").write_text("name,note\na-1,x\nb,a-12\nc,d\na-1,y\n", encoding="utf-8")
    expected = rf"'part/a-1' for both .*x\.wav.*\. See {tmp_path}/clips\.csv:2, {tmp_path}/clips\.csv:5$"
    with pytest.raises(ManifestError, match=expected):
        run_source(toy(convert), tmp_path / "out", tmp_path)
    with pytest.raises(ManifestError, match=r"See .*clips\.csv:2, .*clips\.csv:5$"):
        dry_run_source(toy(convert), tmp_path)


def test_what_was_dropped_is_listed_even_if_it_was_too_much(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"the first is 'd0', no text: at all\. All are in {tmp_path}/out/dropped"):
        run_source(rendering(2, 2), tmp_path / "out", tmp_path)
    assert [row["id"] for row in read_jsonl(tmp_path / "out" / "dropped.jsonl")] == ["d0", "d1"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"measured": 5}', '{"measured": {"num_clips": 1}}'])
def test_a_damaged_record_means_that_the_work_is_done_again(content: str, tmp_path: Path) -> None:
    assert not run_source(rendering(3, 0), tmp_path / "out", tmp_path).reused
    (tmp_path / "out" / "spec.json").write_text(content)
    assert not run_source(rendering(3, 0), tmp_path / "out", tmp_path).reused
    assert run_source(rendering(3, 0), tmp_path / "out", tmp_path).reused


def test_names_in_another_encoding_are_spelt_out(tmp_path: Path) -> None:
    ctx = Context(source="toy", out_dir=tmp_path)
    ctx.drop("caf\udce9", "no text: \ud83d")
    assert [(item.id, item.reason) for item in ctx.dropped] == [("caf\\udce9", "no text: \\ud83d")]


@pytest.mark.parametrize("stem", ["", ".", "..", "../x", "/etc/passwd", "a/../../x", "x\x00", "x" * 300])
def test_audio_is_looked_for_below_its_folder_alone(stem: str, tmp_path: Path) -> None:
    for dry_run in (False, True):
        with pytest.raises(LayoutError, match=r"toy: audio in .*: expected a path below the corpus's folder"):
            Context(source="toy", out_dir=tmp_path, dry_run=dry_run).audio(tmp_path, stem)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "sounds").touch()
    ctx = Context(source="toy", out_dir=tmp_path)
    with pytest.raises(LayoutError, match=r"toy: expected a folder at .*sounds, found something else"):
        ctx.require_folder(tmp_path / "sounds", tmp_path)
