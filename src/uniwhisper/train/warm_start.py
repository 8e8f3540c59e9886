"""What is solved in closed form around training: the subsampler's calibration and the adapter's linear start.

Before the first step both read a sample of the training clips through the untouched encoder; after the last step the
calibration can be renewed, because training moves the features that it was estimated from. No label of any evaluation
task enters: the calibration sees audio alone, the regression sees training answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from uniwhisper.errors import ConfigError
from uniwhisper.model.packing import segment_means
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper
from uniwhisper.train.feed import Batch

__all__ = [
    "CALIBRATIONS",
    "FinishConfig",
    "StartConfig",
    "calibrate",
    "calibration",
    "clip_means",
    "ridge_start",
    "warm_start",
]

CALIBRATIONS = ("none", "center", "scale", "whiten")


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
        if self.calibration not in CALIBRATIONS:
            raise ConfigError(f"start.calibration: expected one of {CALIBRATIONS}, found {self.calibration!r}")
        if self.clips < 0 or self.clips == 1 or self.ridge <= 0 or not 0 < self.shrinkage <= 1:
            raise ConfigError("start: expected clips to be 0 or at least 2, ridge > 0 and 0 < shrinkage <= 1")
        if self.clips == 0 and self.calibration != "none":
            raise ConfigError(
                f"start: calibration {self.calibration!r} needs clips to be estimated from, found clips = 0"
            )


def calibration(
    means: Float[Tensor, "N D"], kind: str, shrinkage: float
) -> tuple[Float[Tensor, " D"], Float[Tensor, "D D"]]:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishConfig:
    """What is computed in closed form after training."""

    clips: int = 1024
    """Training clips that are read for it."""
    calibration: str = "none"
    """As in `StartConfig`, estimated from the trained features."""
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        if self.calibration not in CALIBRATIONS:
            raise ConfigError(f"finish.calibration: expected one of {CALIBRATIONS}, found {self.calibration!r}")
        if self.clips < 2 or not 0 < self.shrinkage <= 1:
            raise ConfigError("finish: expected clips >= 2 and 0 < shrinkage <= 1")


@torch.no_grad()
def clip_means(audio: AudioModel, batches: Sequence[Batch]) -> Float[Tensor, "N D"]:
    """Return the mean frame of every clip of the batches, on the CPU, where the closed forms are computed."""
    return torch.cat([segment_means(audio(batch.mels, batch.tails)).cpu() for batch in batches])


@torch.no_grad()
def calibrate(audio: AudioModel, means: Float[Tensor, "N D"], *, kind: str, shrinkage: float) -> Float[Tensor, "N D"]:
    """Fold the calibration of `kind` into the subsampler, in place, and return `means` as they become by it."""
    if kind == "none":
        return means
    centre, transform = calibration(means, kind, shrinkage)
    device = audio.subsampler.conv.weight.device
    audio.subsampler.calibrate(centre.to(device), transform.to(device))
    return (means - centre) @ transform.T


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
    norm, skip = model.adapter.norm, model.adapter.skip
    weights = norm.weight.cpu(), norm.bias.cpu()
    features = functional.layer_norm(means, norm.normalized_shape, *weights, norm.eps).double()
    centre_x, centre_y = features.mean(dim=0), targets.double().mean(dim=0)
    x, y = features - centre_x, targets.double() - centre_y
    gram = x.T @ x + config.ridge * x.var() * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, x.T @ y).T
    spread = float(y.square().sum())
    explained = 1 - float((y - x @ weight.T).square().sum()) / spread if spread else 0.0
    fitted = x @ weight.T + centre_y
    size = model.decoder.embedding.float().square().mean().sqrt().double().cpu()
    scale = size / fitted.square().mean().sqrt()
    skip.weight.copy_(weight * scale)
    skip.bias.copy_((centre_y - weight @ centre_x) * scale)
    return explained


@torch.no_grad()
def warm_start(model: UniWhisper, batches: Sequence[Batch], config: StartConfig) -> dict[str, float]:
    """Calibrate the subsampler and start the adapter from the clips in `batches`; returns what was measured."""
    embedding = model.decoder.embedding
    turns = [turn for batch in batches for turn in batch.turns]
    targets = torch.stack([embedding[torch.tensor(turn.answer)].float().mean(dim=0) for turn in turns]).cpu()
    means = clip_means(model.audio, batches)
    features = calibrate(model.audio, means, kind=config.calibration, shrinkage=config.shrinkage)
    explained = ridge_start(model, features, targets, config)
    return {"clips": float(len(features)), "explained": explained}
