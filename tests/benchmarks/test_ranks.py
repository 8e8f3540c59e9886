"""The benchmark of two ranks against one, run with toys: so that it still runs, and still notices other losses."""

from __future__ import annotations

from pathlib import Path

import pytest

import bench_ranks  # type: ignore[import-not-found]
from tiny import tiny_clips, tiny_lm, tiny_whisper
from uniwhisper.manifest import write_manifest


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the options that make a benchmark of toys."""
    folder = tmp_path_factory.mktemp("toys")
    encoder = tiny_whisper(folder / "whisper", width=32, heads=2, n_audio_ctx=100)
    decoder = tiny_lm(folder / "lm", chat=True)
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, tiny_clips(folder / "clips"))
    settings = [f"encoder={encoder}", f"decoder={decoder}", "batches.tokens=100", "batches.text_tokens=20"]
    settings += ["adapter.hidden=16", "cache_mb=1", "start.clips=4"]
    return [
        *("--data", str(manifest), "--steps", "4", "--repeats", "1"),
        *(word for one in settings for word in ("--set", one)),
    ]


@pytest.mark.slow
def test_two_ranks_have_the_losses_of_one(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Few ways, because starting processes is what takes long here; the others are settings of the same."""
    kept = ("1 rank, all threads", "1 rank, 1 thread", "2 ranks (DDP), 1 thread each")
    ways = {name: way for name, way in bench_ranks.ways(1).items() if name in kept}
    monkeypatch.setattr(bench_ranks, "ways", lambda cores: ways)
    monkeypatch.setattr(bench_ranks, "SHARDING", ("fsdp",))
    text = bench_ranks.main(words)
    for name in kept:
        assert f"| {name} " in text
    assert "2 ranks (fsdp) up to step 2, 1 rank from there: loss differs by" in text
    assert "largest difference of a step's loss, threads being the same" in text


def test_other_losses_stop_the_benchmark(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(options: object, way: bench_ranks.Way, out: Path, *, stop_after: int = 0) -> list[dict[str, object]]:
        out.mkdir()
        other = 1e-3 if "machine.sharding=fsdp" in way.settings else 0.0
        figures = {"num_examples": 2, "seconds": 1.0, "memory_mb": 5.0, "loss": 2.0 + other}
        return [{"step": step, **figures} for step in range(4)]

    monkeypatch.setattr(bench_ranks, "trained", rows)
    monkeypatch.setattr(bench_ranks, "resumed", lambda options, folder, sharding: [2.0] * 4)
    with pytest.raises(SystemExit, match=r"losses differ: .*FSDP2"):
        bench_ranks.report(bench_ranks._options(words), tmp_path)


def test_gap_is_the_largest() -> None:
    assert bench_ranks.gap([1.0, 2.0, 3.3], [1.0, 2.2, 3.0]) == pytest.approx(0.1)
    with pytest.raises(SystemExit, match="expected the losses of 2 steps, found 1"):
        bench_ranks.gap([1.0], [1.0, 1.0])
