from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uniwhisper.errors import ConfigError
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.data import training_data
from uniwhisper.train.run import Run
from uniwhisper.train.start import begin
from uniwhisper.train.warm_start import FinishConfig, StartConfig, calibrate, calibration, clip_means, warm_start

from .conftest import World


@pytest.fixture
def started(world: World, config: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., Run]:
    """Return a function that starts a run; `start` holds the changes of the start alone."""

    def start(**changes: Any) -> Run:
        made = config(start=changes)
        return begin(made, training_data(world.clips), tmp_path / "out", "key")

    return start


def test_ridge_is_the_closed_form_at_the_size_of_the_embeddings(started: Callable[..., Run]) -> None:
    run = started(clips=0)
    batches = [run.feed.batch(number) for number in range(3)]
    report = warm_start(run.model, batches, StartConfig(ridge=5.0))
    model = run.model
    with torch.no_grad():
        x = model.adapter.norm(clip_means(run.model.audio, batches)).double().numpy()
    embedding = model.decoder.embedding.double().numpy()
    y = np.stack([embedding[list(turn.answer)].mean(axis=0) for batch in batches for turn in batch.turns])
    # Ridge as least squares with extra rows, which is another way to the same solution.
    centred, penalty = x - x.mean(axis=0), np.sqrt(5.0 * (x - x.mean(axis=0)).var(ddof=1))
    rows = np.vstack([centred, penalty * np.eye(x.shape[1])])
    weight = np.linalg.lstsq(rows, np.vstack([y - y.mean(axis=0), np.zeros((x.shape[1], y.shape[1]))]), rcond=None)[0]
    fitted = centred @ weight + y.mean(axis=0)
    explained = 1 - ((fitted - y) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
    fitted *= np.sqrt((embedding**2).mean() / (fitted**2).mean())
    with torch.no_grad():
        found = model.adapter.skip(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(found, fitted, atol=1e-4)
    assert report["clips"] == len(x)
    assert report["explained"] == pytest.approx(explained, abs=1e-6)
    assert 0 < report["explained"] < 1


def test_start_is_deterministic_and_depends_on_the_clips(started: Callable[..., Run]) -> None:
    first, again, fewer, none = started(), started(), started(clips=4), started(clips=0)
    weights = [run.model.adapter.skip.weight for run in (first, again, fewer, none)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])
    assert torch.equal(first.model.adapter.fc1.weight, none.model.adapter.fc1.weight)
    assert torch.equal(first.model.audio.encoder.conv1.weight, none.model.audio.encoder.conv1.weight)


def test_means_of_random_features_are_mapped_as_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(400, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3.0
    for kind in ("center", "scale", "whiten"):
        centre, transform = calibration(means, kind, 1e-6)
        mapped = (means - centre) @ transform.T
        torch.testing.assert_close(mapped.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
        if kind == "center":
            assert torch.equal(transform, torch.eye(6))
        if kind == "scale":
            torch.testing.assert_close(mapped.std(dim=0), torch.ones(6), atol=1e-4, rtol=0)
        if kind == "whiten":
            torch.testing.assert_close(torch.cov(mapped.T), torch.eye(6), atol=1e-3, rtol=0)
            torch.testing.assert_close(transform, transform.T, atol=1e-4, rtol=1e-4)  # the symmetric root


def test_clip_means_are_the_means_of_the_clips_frames(started: Callable[..., Run]) -> None:
    run = started(clips=0)
    batches = [run.feed.batch(number) for number in range(2)]
    means = clip_means(run.model.audio, batches)
    with torch.no_grad():
        clips = [(m, s) for batch in batches for m, s in zip(batch.mels, batch.tails, strict=True)]
        alone = [run.model.audio([mel], [silence]).values.mean(dim=0) for mel, silence in clips]
    torch.testing.assert_close(means, torch.stack(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["none", "center", "scale", "whiten"])
def test_calibrate_returns_what_the_model_computes_afterwards(started: Callable[..., Run], kind: str) -> None:
    run = started(clips=0)
    batches = [run.feed.batch(number) for number in range(4)]
    returned = calibrate(run.model.audio, clip_means(run.model.audio, batches), kind=kind, shrinkage=0.2)
    torch.testing.assert_close(returned, clip_means(run.model.audio, batches), atol=1e-3, rtol=1e-3)


def test_shrinkage_holds_noise_down() -> None:
    means = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e-4])
    gains = [float(calibration(means, "whiten", shrinkage)[1][1, 1]) for shrinkage in (1e-6, 0.1, 1.0)]
    assert gains[0] > 100 > gains[1] > gains[2]


@pytest.mark.parametrize("kind", ["none", "center", "scale"])
def test_calibration_is_folded_into_the_audio_model(started: Callable[..., Run], kind: str) -> None:
    run = started(clips=0)
    batches = [run.feed.batch(number) for number in range(3)]
    before = clip_means(run.model.audio, batches)
    warm_start(run.model, batches, StartConfig(calibration=kind))
    after = clip_means(run.model.audio, batches)
    if kind == "none":
        assert torch.equal(before, after)
        return
    torch.testing.assert_close(after.mean(dim=0), torch.zeros(after.shape[1]), atol=1e-4, rtol=0)
    spread = torch.ones(after.shape[1]) if kind == "scale" else before.std(dim=0)
    torch.testing.assert_close(after.std(dim=0), spread, atol=1e-3, rtol=1e-3)


def test_ridge_fits_the_calibrated_features(started: Callable[..., Run]) -> None:
    run = started(clips=0)
    batches = [run.feed.batch(number) for number in range(3)]
    warm_start(run.model, batches, StartConfig(calibration="scale"))
    weight = run.model.adapter.skip.weight.clone()
    warm_start(run.model, batches, StartConfig(calibration="none"))  # on what the model computes by now
    torch.testing.assert_close(run.model.adapter.skip.weight, weight, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "change", [{"calibration": "zca"}, {"clips": -1}, {"ridge": 0.0}, {"shrinkage": 0.0}, {"shrinkage": 1.5}]
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="start"):
        StartConfig(**change)


@pytest.mark.parametrize("change", [{"calibration": "zca"}, {"clips": 1}, {"shrinkage": 0.0}])
def test_impossible_finishes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="finish"):
        FinishConfig(**change)


def test_calibration_without_clips_is_refused() -> None:
    with pytest.raises(ConfigError):
        StartConfig(clips=0, calibration="whiten")


def test_clips_with_one_answer_are_no_obstacle(started: Callable[..., Run]) -> None:
    run = started(clips=0)
    batch = run.feed.batch(0)
    turns = [batch.turns[0]] * len(batch.turns)
    batch = type(batch)(**{**{name: getattr(batch, name) for name in batch.__slots__}, "turns": turns})
    assert np.isfinite(warm_start(run.model, [batch], StartConfig())["explained"])
