"""Every exception that uniwhisper raises on purpose, in one tree.

    UniWhisperError
    |-- ConfigError (also ValueError)    a configuration field is missing, mistyped or out of range
    |-- SourceError                      a corpus cannot be converted
    |   |-- DownloadError                nothing that was tried delivered the file
    |   `-- LayoutError                  the folder is not laid out as its publisher distributes it
    |-- DedupError                       overlap between data sets cannot be looked for
    |-- ShardError                       a shard cannot be written or read
    |-- ManifestError                    a manifest or table row is not what the schema says
    |-- AudioError                       a file or array is not audio that can be used
    |-- WeightsError                     pretrained weights cannot be found, verified or converted
    |-- CheckpointError                  a training folder cannot be resumed or loaded
    |-- TrainingError                    a training run cannot go on
    |-- EncoderError                     an encoder breaks the embedding protocol
    |-- TaskError                        an evaluation task cannot be run on the data given
    `-- ReportError                      results cannot be read or drawn

Every message says what was expected, what was found and where, and what to do.
"""

from __future__ import annotations

__all__ = [
    "AudioError",
    "CheckpointError",
    "ConfigError",
    "DedupError",
    "DownloadError",
    "EncoderError",
    "LayoutError",
    "ManifestError",
    "ReportError",
    "ShardError",
    "SourceError",
    "TaskError",
    "TrainingError",
    "UniWhisperError",
    "WeightsError",
]


_LONGEST_CHARS = 3000
"""Of a message: what it quotes as found may be as long as a file, and nobody reads that."""


class UniWhisperError(Exception):
    """Base of every error that uniwhisper raises on purpose; the command line prints it without a traceback."""

    def __str__(self) -> str:
        """Return the message; of one that is longer than anybody reads, the beginning and the end."""
        text = super().__str__()
        half = _LONGEST_CHARS // 2
        return text if len(text) <= _LONGEST_CHARS else f"{text[:half]} [...] {text[-half:]}"


class ConfigError(UniWhisperError, ValueError):
    """A configuration field is missing, mistyped or out of range."""


class SourceError(UniWhisperError):
    """A corpus cannot be converted."""


class DownloadError(SourceError):
    """None of the ways tried delivered a file; the message lists each with its reason."""


class LayoutError(SourceError):
    """A corpus folder is not laid out as its publisher distributes it."""


class DedupError(UniWhisperError):
    """Overlap between data sets cannot be looked for."""


class ShardError(UniWhisperError):
    """A shard cannot be written or read."""


class ManifestError(UniWhisperError):
    """A manifest or table row is not what its schema says."""


class AudioError(UniWhisperError):
    """A file or array is not audio that can be used."""


class WeightsError(UniWhisperError):
    """Pretrained weights cannot be found, verified or converted."""


class CheckpointError(UniWhisperError):
    """A training folder cannot be resumed or loaded."""


class TrainingError(UniWhisperError):
    """A training run cannot go on."""


class EncoderError(UniWhisperError):
    """An encoder breaks the embedding protocol."""


class TaskError(UniWhisperError):
    """An evaluation task cannot be run on the data given."""


class ReportError(UniWhisperError):
    """Results cannot be read or drawn."""
