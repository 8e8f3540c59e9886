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
from uniwhisper.sources._convert import run_source
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


def toy(convert: Callable[[Path, Context], Iterator[Clip]]) -> Any:
    module = ModuleType("toy")
    module.__dict__.update(SPEC=SPEC, convert=convert, __file__=__file__)
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
    with pytest.raises(ManifestError, match="unique"):
        run_source(toy(lambda root, ctx: iter([clip("a", "/a.wav"), clip("a", "/b.wav")])), tmp_path / "o", tmp_path)
    with pytest.raises(SourceError, match="absolute audio path"):
        run_source(toy(lambda root, ctx: iter([clip("a", "a.wav")])), tmp_path / "o", tmp_path)


def test_unknown_source_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a source out of asterisk"):
        get_source("nothing")
    with pytest.raises(SourceError, match="expected a source out of"):
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
