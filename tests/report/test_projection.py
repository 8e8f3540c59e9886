from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uniwhisper.errors import ReportError
from uniwhisper.report.projection import FRAME, project, read_embeddings, task_maps

from .inputs import make_embeddings


def test_projection_keeps_clusters_together_and_is_deterministic() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 20))
    labels = np.arange(60) % 3
    vectors = (centres[labels] + 0.05 * rng.normal(size=(60, 20))).astype(np.float32)
    places = project(vectors)
    assert np.array_equal(places, project(vectors))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(60, np.inf))
    assert (labels[distances.argmin(axis=1)] == labels).all()


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_few_or_equal_vectors_have_finite_places(count: int) -> None:
    rng = np.random.default_rng(0)
    for vectors in (
        rng.normal(size=(count, 8)),
        np.ones((count, 8)),
        np.zeros((count, 8)),
        rng.normal(size=(count, 1)),
    ):
        places = project(vectors.astype(np.float32))
        assert places.shape == (count, 2)
        assert np.isfinite(places).all()


def test_maps_show_common_clips_sampled_evenly(tmp_path: Path) -> None:
    first = read_embeddings(make_embeddings(tmp_path / "a.npz", {"t": ["x", "y"]}, clips_per_label=30))
    second = read_embeddings(make_embeddings(tmp_path / "b.npz", {"t": ["x", "y"], "u": ["z"]}, clips_per_label=20))
    one, other = task_maps([first, second], limit=16)
    assert (one.task, other.task) == ("t", "u")
    assert one.num_clips == 40
    assert [point.label for point in one.points].count("x") == 8
    assert other.places[0] is None
    for places in one.places:
        assert places is not None
        assert places.shape == (16, 2)
        assert places.min() >= 0
        assert places.max() <= FRAME


def test_the_second_map_is_turned_onto_the_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(8, 6))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    arrays: dict[str, Any] = {
        "labels": np.array(["a"] * 8),
        "task": np.array("t"),
        "paths": np.array([str(i) for i in range(8)]),
    }
    np.savez(tmp_path / "a.npz", vectors=vectors, **arrays)
    np.savez(tmp_path / "b.npz", vectors=vectors @ turn, **arrays)
    (one,) = task_maps([read_embeddings(tmp_path / name) for name in ("a.npz", "b.npz")])
    first, second = one.places
    assert first is not None
    assert second is not None
    assert np.abs(first - second).max() <= 1


def test_embeddings_that_cannot_be_used_are_a_report_error(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"labels": np.array(["a", "b"]), "task": np.array("t"), "paths": np.array(["1", "2"])}
    for name, vectors in {"nan": np.full((2, 2), np.nan), "flat": np.zeros(2), "short": np.zeros((3, 2))}.items():
        np.savez(tmp_path / f"{name}.npz", vectors=vectors, **arrays)
        with pytest.raises(ReportError, match="expected"):
            read_embeddings(tmp_path / f"{name}.npz")
    with pytest.raises(ReportError, match="missing"):
        read_embeddings(tmp_path / "missing.npz")
    pickled: dict[str, Any] = {**arrays, "labels": np.array([{"a"}, {"b"}], dtype=object)}
    np.savez(tmp_path / "pickled.npz", vectors=np.zeros((2, 2)), **pickled)
    with pytest.raises(ReportError, match="pickled"):
        read_embeddings(tmp_path / "pickled.npz")
    np.savez(tmp_path / "good.npz", vectors=np.eye(2), **arrays)
    np.savez(tmp_path / "others.npz", vectors=np.eye(2), **{**arrays, "paths": np.array(["3", "4"])})
    with pytest.raises(ReportError, match="none in common"):
        task_maps([read_embeddings(tmp_path / name) for name in ("good.npz", "others.npz")])
