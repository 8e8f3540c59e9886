"""uniwhisper: a universal audio encoder grown from Whisper, with the proof that it got better."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["Encoder", "__version__", "load"]

if TYPE_CHECKING:
    from uniwhisper.embed import Encoder, load


def __getattr__(name: str) -> object:
    """Import the heavy public names on first use, so that `import uniwhisper` stays light."""
    if name in ("Encoder", "load"):
        from uniwhisper import embed

        return getattr(embed, name)
    raise AttributeError(f"module 'uniwhisper' has no attribute {name!r}")
