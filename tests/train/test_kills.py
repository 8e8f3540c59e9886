"""A run that is killed at random moments ends with the same bits as one that was left alone, on one rank and on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from uniwhisper.files import write_json
from uniwhisper.manifest import write_manifest

from .conftest import World

PROGRAM = Path(__file__).with_name("killing.py")


def killed_runs(world: World, folder: Path, *, ranks: int, runs: int) -> list[Path]:
    """Return the folders of the undisturbed run and of the killed ones, all finished."""
    config = world.config(
        optim={"steps": 12, "align_steps": 3},
        accumulation=2,
        ema_decay=0.8,
        original_share=0.25,
        start={"calibration": "center"},
        checkpoint_every=2,
    )
    write_json(folder / "config.json", config.to_json())
    write_manifest(folder / "manifest.jsonl", world.clips)
    command = [sys.executable, str(PROGRAM), str(folder), str(ranks), str(runs), str(7 + ranks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=900)
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    unfinished = [row for row in rows if not row["done"]]
    texts = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.txt"))
    assert not unfinished, texts
    assert len(rows) == runs + 1
    # A killed rank ends the others: within a minute, whatever else the machine does.
    assert all(row["seconds"] < 60 for row in rows[1:])
    return [folder / row["run"] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "runs"), [(1, 20), (2, 20)])
def test_killed_at_random_and_run_again_gives_the_same_bits(
    world: World, tmp_path: Path, ranks: int, runs: int
) -> None:
    reference, *others = killed_runs(world, tmp_path, ranks=ranks, runs=runs)
    expected = (reference / "encoder" / "model.safetensors").read_bytes()
    different = [out.name for out in others if (out / "encoder" / "model.safetensors").read_bytes() != expected]
    assert different == []
    steps = [[json.loads(line)["step"] for line in (out / "metrics.jsonl").open()] for out in others]
    assert steps == [list(range(12))] * runs
