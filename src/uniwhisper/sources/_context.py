"""What the driver hands to a source's `convert(root, ctx)`: finding audio, counting rows, and saying what is left out.

A source yields clips whose `path` is absolute. It need not open audio: where it yields `duration_s=0` the driver reads
the header, and drops the clip with a reason where the file is missing or broken. Whatever the source itself leaves out
goes through `Context.drop`; audio that it has to decode or render goes through `Context.write_audio`. In a dry run
(`Context.dry_run`) only annotations are there, no audio: `Context.audio` then returns the path that the audio would
have.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from uniwhisper import audio
from uniwhisper.clips import file_duration_s
from uniwhisper.errors import AudioError, LayoutError, SourceError
from uniwhisper.sources._fields import relative_path

__all__ = ["AUDIO_SUFFIXES", "Context", "Dropped", "writable"]

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a", ".webm", ".mp4", ".aac", ".sph", ".aif", ".aiff")
"""What `Context.audio` takes for audio, best first: where several files have the same stem, the first one counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A clip that a source left out, and why."""

    id: str
    reason: str


class Context:
    """What a source's `convert` gets from the driver: where audio goes, and who hears about dropped clips."""

    def __init__(self, *, source: str, out_dir: Path, dry_run: bool = False) -> None:
        """Make a context for one conversion of `source` into `out_dir`."""
        self.source = source
        self.audio_dir = out_dir.resolve() / "audio"
        self.dry_run = dry_run
        self.dropped: list[Dropped] = []
        self.rows: Counter[Path] = Counter()
        """Annotation file -> rows read from it."""
        self._listings: dict[Path, dict[str, Path]] = {}

    def drop(self, clip_id: str, reason: str) -> None:
        """Record that the clip is left out; the driver writes every one of them to `dropped.jsonl`."""
        self.dropped.append(Dropped(id=writable(clip_id), reason=writable(reason)))

    def audio(self, folder: Path, stem: str, suffixes: Iterable[str] = AUDIO_SUFFIXES) -> Path:
        """Return the audio file `folder/stem.*`, whatever its format, or `folder/stem.wav` where there is none.

        A missing file needs no check: the driver drops its clip and says so. `stem` may hold folders and dots; the
        folder is listed once. In a dry run nothing is looked for.

        Raises:
            LayoutError: `stem` is blank or leaves the folder.
        """
        place = folder / relative_path(stem, f"{self.source}: audio in {folder}")
        if not self.dry_run:
            listing = self._listing(place.parent)
            for suffix in suffixes:
                if found := listing.get(f"{place.name}{suffix}"):
                    return found
        return place.with_name(f"{place.name}.wav")

    def _listing(self, folder: Path) -> dict[str, Path]:
        """Return name, its last suffix in lower case -> path of the files in `folder`."""
        if folder not in self._listings:
            found = sorted(folder.iterdir()) if folder.is_dir() else []
            self._listings[folder] = {path.stem + path.suffix.lower(): path for path in found}
        return self._listings[folder]

    def duration_s(self, path: Path) -> float:
        """Return the file's duration in seconds.

        Raises:
            AudioError: The file is not audio, or it holds no samples.
        """
        return file_duration_s(path)

    def write_audio(self, clip_id: str, wave: np.ndarray) -> Path:
        """Write mono samples at 16 kHz in [-1, 1] as FLAC (16 bits) and return the absolute path.

        Args:
            clip_id: The clip's id; it becomes the file's name below `audio/`, slashes making folders.
            wave: float array [samples].

        Raises:
            SourceError: The id would leave the folder.
            AudioError: The array is empty, not one-dimensional or not finite.
        """
        path = Path(os.path.normpath(self.audio_dir / f"{clip_id}.flac"))
        if not path.is_relative_to(self.audio_dir):
            raise SourceError(f"{self.source}: expected a clip id that stays below {self.audio_dir}, found {clip_id!r}")
        if wave.ndim != 1 or wave.size == 0 or not np.isfinite(wave).all():
            raise AudioError(f"{self.source}: clip {clip_id!r}: expected finite mono samples, found shape {wave.shape}")
        clipped = np.clip(wave, -1.0, 1.0)  # a decoder's overshoot would wrap around in 16 bits
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(str(path), clipped, audio.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        except (OSError, soundfile.LibsndfileError) as e:
            raise SourceError(
                f"{self.source}: expected to write clip {clip_id[:80]!r} below {self.audio_dir}: {e}"
            ) from e
        return path

    def require(self, path: Path, root: Path) -> Path:
        """Return `path` if it exists.

        Raises:
            LayoutError: It does not; the message shows what is in `root` instead.
        """
        if path.exists():
            return path
        found = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) if root.is_dir() else "no such folder"
        raise LayoutError(
            f"{self.source}: expected {path} (found in {root}: {found or 'nothing'}). "
            f"Give the folder that holds the unpacked corpus, or no folder to have it fetched"
        )

    def require_folder(self, path: Path, root: Path) -> Path:
        """Return `path` if it is a folder.

        Raises:
            LayoutError: It is not there, or is something else.
        """
        if not self.require(path, root).is_dir():
            raise LayoutError(f"{self.source}: expected a folder at {path}, found something else; unpack it again")
        return path


def writable(text: str) -> str:
    """Return `text` with what UTF-8 cannot hold, such as a file name in another encoding, spelt as an escape."""
    return text.encode(errors="backslashreplace").decode()
