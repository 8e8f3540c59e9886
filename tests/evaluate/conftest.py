"""A table factory and a toy encoder, so that no test needs audio, weights or a network."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest


class ToyEncoder:
    """Embeds a file by the numbers that it holds; counts what it is asked for."""

    name = "toy"

    def __init__(self, fingerprint: str = "toy-1", scale: float = 1.0) -> None:
        self.fingerprint = fingerprint
        self.scale = scale
        self.embedded: list[Path] = []

    def embed(self, paths: Sequence[Path]) -> np.ndarray:
        self.embedded += list(paths)
        rows = [np.array(path.read_text(encoding="utf-8").split(), dtype=np.float32) for path in paths]
        return np.stack(rows) * np.array([1.0, 1.0, self.scale, self.scale], dtype=np.float32)


@pytest.fixture
def encoder() -> ToyEncoder:
    return ToyEncoder()


@pytest.fixture
def make_encoder() -> type[ToyEncoder]:
    return ToyEncoder


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows (dicts) as a CSV with a "file" for each path."""

    def write(rows: list[dict[str, str]], name: str = "eval_toy.csv", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        table = tmp_path / name
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        for row in rows:
            if "missing" in row["path"] or (tmp_path / row["path"]).exists():
                continue
            kind = sum(map(ord, row["label"])) % 4
            values = np.eye(4)[kind] * 1.5 + rng.normal(size=4)
            (tmp_path / row["path"]).write_text(" ".join(f"{value:.6f}" for value in values), encoding="utf-8")
        return table

    return write


@pytest.fixture
def toy_rows() -> Callable[..., list[dict[str, str]]]:
    """Return a function that makes n rows of three classes with the splits given, in turn."""

    def make(num_clips: int, splits: Sequence[str], *, num_groups: int = 0, prefix: str = "c") -> list[dict[str, str]]:
        rows = []
        for i in range(num_clips):
            split = splits[(i // 3) % len(splits)]
            row = {"path": f"{prefix}{i}.txt", "label": "abc"[i % 3], "split": split}
            if num_groups:
                row["group"] = f"{split}-g{(i // 3) % num_groups}"
            rows.append(row)
        return rows

    return make
