"""Ray gives the same bytes as the local engine; in processes of their own: a cluster has sockets and daemons."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

SHARED = Path(__file__).parents[3] / "shared" / "data"

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="needs the extra `ray`")


def synthetic(folder: Path) -> Path:
    """Return a table of twelve clips of noise, at two rates and in two formats."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        rate, suffix = ((44_100, "wav"), (16_000, "flac"))[number % 2]
        name = f"{number:02}.{suffix}"
        soundfile.write(str(folder / name), 0.1 * rng.standard_normal(rate // 2 + 100 * number), rate)
        rows.append({"path": name, "label": f"class {number % 3}", "split": "train"})
    return written(folder / "clips.csv", rows)


def real(folder: Path) -> Path:
    """Return a table of sixty real clips: speech, sound and music."""
    with (SHARED / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = dict.fromkeys(row["path"] for row in rows)
    chosen = set(list(paths)[:: max(1, len(paths) // 60)])
    return written(
        folder / "clips.csv", [{**row, "path": str(SHARED / row["path"])} for row in rows if row["path"] in chosen]
    )


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(folder: Path, *words: object) -> None:
    """Run the command line in `folder` with two workers, without any cluster around."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "uniwhisper", *map(str, words), "--workers", "2"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def digests(folder: Path) -> dict[str, str]:
    """Return name -> hash of every file below `folder`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    "make",
    [
        synthetic,
        pytest.param(
            real,
            marks=[pytest.mark.shared, pytest.mark.skipif(not SHARED.is_dir(), reason="needs the audio in ../shared")],
        ),
    ],
)
def test_ray_writes_the_same_bytes(make: object, tmp_path: Path) -> None:
    table = make(tmp_path)  # pyright: ignore[reportCallIssue]
    for engine in ("local", "ray"):
        run(tmp_path, "convert", "table", table, "--out", tmp_path / engine / "clips", "--engine", engine)
        run(tmp_path, "shards", tmp_path / engine / "clips", "--out", tmp_path / engine / "shards", "--engine", engine)
    local, ray = digests(tmp_path / "local"), digests(tmp_path / "ray")
    assert any(name.endswith(".tar") for name in local)
    assert local == ray
