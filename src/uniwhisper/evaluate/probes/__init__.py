"""Train probes on frozen embeddings, by either protocol: every fold, seed and learning rate in batched products.

Reads: embeddings, targets and a split plan's folds. Returns: test predictions of every seed, made once.
Guarantees: the result depends neither on the number of threads nor on which models are trained beside which (up to
the last bits of a batched product). Protocol `strict`: standardisation uses the training part, early stopping and the
learning rate use the validation part, and the test part and its labels reach nothing but the final predictions.
Protocol `xares`: what X-ARES does, which keeps the epoch that is best on whatever part the plan calls valid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uniwhisper.evaluate.probes.config import FrameOutcome, ProbeConfig, ProbeOutcome, XaresProbeConfig
from uniwhisper.evaluate.probes.data import ClipData
from uniwhisper.evaluate.probes.frames import train_frame_probes
from uniwhisper.evaluate.probes.strict import fit_strict
from uniwhisper.evaluate.probes.xares import fit_xares
from uniwhisper.evaluate.splits import Fold
from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.threads import one_thread_each

__all__ = ["FrameOutcome", "ProbeConfig", "ProbeOutcome", "XaresProbeConfig", "train_frame_probes", "train_probes"]


def train_probes(
    features: np.ndarray,
    targets: np.ndarray,
    folds: Sequence[Fold],
    *,
    num_classes: int,
    config: ProbeConfig | XaresProbeConfig,
    settings: XaresSettings | None = None,
    want_scores: bool = False,
    device: str = "cpu",
) -> tuple[ProbeOutcome, ...]:
    """Train every fold, seed and learning rate and return one outcome a fold.

    Args:
        features: Embeddings [N, D].
        targets: Class indices [N], or a 0/1 matrix [N, C].
        folds: Row indices of every train, valid and test part.
        num_classes: C.
        config: How to train; its type is the protocol.
        settings: The task's epochs and batch size under `xares` (by default X-ARES's own defaults); `strict` has
            no use for them.
        want_scores: Return log-probabilities of a single-label task too, for metrics that rank.
        device: Torch device that trains.

    Raises:
        TaskError: An embedding is not finite.
    """
    with one_thread_each():
        data = ClipData(features, targets, folds, num_classes, device)
        if isinstance(config, XaresProbeConfig):
            return fit_xares(data, config, settings or XaresSettings(), want_scores=want_scores)
        return fit_strict(data, config, want_scores=want_scores)
