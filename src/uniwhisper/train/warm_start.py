"""Closed-form starts: the adapter's linear map by ridge regression, and the subsampler's calibration.

Both read a sample of the training clips through the untouched encoder, before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from uniwhisper.errors import ConfigError
from uniwhisper.model.packing import segment_means
from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.feed import Batch

__all__ = ["StartConfig", "calibrate", "calibration", "ridge_start", "warm_start"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StartConfig:
    """What is computed in closed form before training."""

    clips: int = 1024
    """Training clips that are read for it; 0 starts from random weights."""
    ridge: float = 10.0
    """Penalty of the regression, relative to features of unit variance."""
    calibration: str = "none"
    """`none`, `center` (subtract the training mean), `scale` (and divide by the deviation) or `whiten`."""
    shrinkage: float = 0.1
    """For `whiten`: share of the mean variance added to every direction, so that noise is not blown up."""

    def __post_init__(self) -> None:
        if self.calibration not in ("none", "center", "scale", "whiten"):
            raise ConfigError(f"start.calibration: expected none, center, scale or whiten, found {self.calibration!r}")
        if self.clips < 0 or self.ridge <= 0 or not 0 < self.shrinkage <= 1:
            raise ConfigError("start: expected clips >= 0, ridge > 0 and 0 < shrinkage <= 1")


def calibration(
    means: Float[Tensor, "N D"], kind: str, shrinkage: float
) -> tuple[Float[Tensor, D], Float[Tensor, "D D"]]:
    """Return the centre and the linear map that `kind` asks for, estimated from clip means.

    `whiten` is the symmetric (ZCA) map of the shrunken covariance, so each feature stays as close as it can to the
    feature it was.
    """
    centre = means.mean(dim=0)
    identity = torch.eye(means.shape[1], dtype=means.dtype)
    if kind == "center":
        return centre, identity
    if kind == "scale":
        return centre, torch.diag(1 / means.std(dim=0).clamp(min=1e-6))
    covariance = torch.cov(means.T.double())
    covariance = (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().mean() * identity.double()
    values, vectors = torch.linalg.eigh(covariance)
    return centre, (vectors @ torch.diag(values.clamp(min=1e-12).rsqrt()) @ vectors.T).to(means.dtype)


@torch.no_grad()
def calibrate(model: UniWhisper, means: Float[Tensor, "N D"], config: StartConfig) -> None:
    """Fold the configured calibration into the subsampler, in place."""
    if config.calibration != "none":
        centre, transform = calibration(means, config.calibration, config.shrinkage)
        model.audio.subsampler.calibrate(centre, transform)


@torch.no_grad()
def ridge_start(
    model: UniWhisper, means: Float[Tensor, "N D"], targets: Float[Tensor, "N Q"], config: StartConfig
) -> float:
    """Set the adapter's linear map to the ridge solution from mean feature to mean answer embedding.

    The result is scaled to the root mean square of the decoder's own embeddings, so the decoder sees inputs of the
    size it knows.

    Returns:
        The share of the targets' variance that the map explains on the clips given.
    """
    features = model.adapter.norm(means).double()
    centre_x, centre_y = features.mean(dim=0), targets.double().mean(dim=0)
    x, y = features - centre_x, targets.double() - centre_y
    gram = x.T @ x + config.ridge * x.var() * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, x.T @ y).T
    explained = 1 - float((y - x @ weight.T).square().sum() / y.square().sum())
    fitted = x @ weight.T + centre_y
    scale = model.decoder.embedding.float().square().mean().sqrt().double() / fitted.square().mean().sqrt()
    model.adapter.skip.weight.copy_(weight * scale)
    model.adapter.skip.bias.copy_((centre_y - weight @ centre_x) * scale)
    return explained


@torch.no_grad()
def warm_start(model: UniWhisper, batches: Sequence[Batch], config: StartConfig) -> dict[str, float]:
    """Calibrate the subsampler and start the adapter from the clips in `batches`; returns what was measured."""
    means, targets = [], []
    for batch in batches:
        means.append(segment_means(model.audio(batch.mels, batch.silence)))
        embedding = model.decoder.embedding
        targets.extend(embedding[torch.tensor(turn.answer)].float().mean(dim=0) for turn in batch.turns)
    features = torch.cat(means)
    calibrate(model, features, config)
    if config.calibration != "none":
        centre, transform = calibration(features, config.calibration, config.shrinkage)
        features = (features - centre) @ transform.T
    explained = ridge_start(model, features, torch.stack(targets), config)
    return {"clips": float(len(features)), "explained": explained}
