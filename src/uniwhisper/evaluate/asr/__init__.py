"""The ASR probe: how much of what is said do an encoder's frames tell a frozen language model?

    frames -> adapter (learns) -> frozen LM -> transcripts

`transcribe` trains an adapter a fold and seed and returns the transcripts of every test clip. The LM never changes.
"""

from uniwhisper.evaluate.asr.config import STRICT, TINY, XARES, AsrConfig
from uniwhisper.evaluate.asr.decoders import tiny_decoder
from uniwhisper.evaluate.asr.transcribe import AsrOutcome, AsrRun, transcribe

__all__ = ["STRICT", "TINY", "XARES", "AsrConfig", "AsrOutcome", "AsrRun", "tiny_decoder", "transcribe"]
