"""The alignment stage of the large recipe by itself: the adapter learns to speak to the LM, the encoder stays."""

from __future__ import annotations

from dataclasses import replace

from uniwhisper.errors import ConfigError
from uniwhisper.recipes.uniwhisper_large_v3 import uniwhisper_large_v3
from uniwhisper.train.config import TrainConfig

__all__ = ["align_large_v3", "alignment_only"]


def align_large_v3() -> TrainConfig:
    """Return the first 1,500 steps of `uniwhisper_large_v3` with an encoder that does not learn.

    Command: `torchrun --nproc-per-node 8 -m uniwhisper train align_large_v3 --data SHARDS --out runs/align`, or without
    torchrun on one GPU. `uniwhisper_large_v3` runs both stages in one.
    Hardware: as `uniwhisper_large_v3`, with about half of its memory: the encoder keeps nothing for a backward.
    Time, computed and never measured: 0.7 EFLOP, ten minutes on eight A800 at half of the data sheet's rate.
    Expected: Whisper large-v3's own scores, at 40 ms a frame; what falls is the loss. It answers whether an adapter, an
    LM or a wording of prompts works before the encoder is let go.

    1,500 steps are the paper's warm-up "to align the audio and text representation spaces" (section 3.2), read as a
    stage of its own. The rate warms up over the first tenth and falls to 0 at the end.
    """
    return alignment_only(uniwhisper_large_v3(), steps=1_500)


def alignment_only(config: TrainConfig, *, steps: int) -> TrainConfig:
    """Return `config` with `steps` steps, in all of which only the adapter learns.

    Nothing is averaged or mixed into the encoder, which stays as it came; calibration is left as it is.

    Raises:
        ConfigError: `steps` is below 1.
    """
    if steps < 1:
        raise ConfigError(f"alignment_only: expected steps >= 1, found {steps}")
    optim = replace(config.optim, steps=steps, align_steps=steps, warmup_steps=steps // 10)
    return replace(config, optim=optim, ema_decay=0.0, original_share=0.0)
