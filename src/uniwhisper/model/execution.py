"""How the network computes its loss: choices that change speed and memory, and the result only by rounding.

Every choice can be taken back to the plain way, so that each can be measured alone and be shown to leave the loss as it
is (tests/model/test_execution.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from uniwhisper.errors import ConfigError

__all__ = ["ATTENTION", "ExecutionConfig"]

ATTENTION = ("auto", "varlen", "flash", "products", "sdpa", "eager")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionConfig:
    """The tricks of the training step, each with its switch."""

    encoder: str = "packed"
    """`packed`: clips end to end at their true length; `padded`: every clip in a 30 s window with a mask."""
    decoder: str = "packed"
    """`packed`: sequences end to end, positions restart; `padded`: to the longest of the batch, with a mask."""
    logits: str = "answers"
    """`answers`: logits where an answer token is predicted; `all`: at every position of the decoder."""
    loss_chunk: int = 0
    """Rows of logits that exist at once (each is recomputed for its gradient); 0 keeps all of them."""
    attention: str = "auto"
    """Kernel: `auto` takes the fastest that the device has; `varlen` (`torch.nn.attention.varlen`), `flash`
    (flash-attn), `products` (three matrix products), `sdpa` (torch's own choice) or `eager` force one."""
    compile: bool = False
    """Compile encoder layers with `torch.compile`, lengths dynamic, so that few versions are ever built."""
    recompute: bool = False
    """Compute encoder layers again in the backward instead of keeping what is inside them: memory for time."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("encoder", ("packed", "padded")),
            ("decoder", ("packed", "padded")),
            ("logits", ("answers", "all")),
            ("attention", ATTENTION),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(f"execution.{name}: expected one of {choices}, found {getattr(self, name)!r}")
        if self.loss_chunk < 0:
            raise ConfigError(f"execution.loss_chunk: expected 0 or above, found {self.loss_chunk}")
