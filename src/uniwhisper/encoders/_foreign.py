"""Code that is not ours: how it is imported, told apart from other code and weights, and called clip by clip.

Reads modules and their files; writes nothing. Guarantees that clips of different lengths never share a call, because
padding is inert in no model that does not say so, and that whatever foreign code raises becomes an `EncoderError`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from uniwhisper.errors import EncoderError
from uniwhisper.files import content_hash

__all__ = [
    "equal_lengths",
    "fingerprint_of",
    "import_file",
    "import_module",
    "in_one_length",
    "foreign_errors",
    "whole_number",
]

_BATCH_S = 60.0


@contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Turn whatever is raised within the block into an `EncoderError` that begins with `what`; ours pass."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as e:
        raise EncoderError(f"{what}, found {type(e).__name__}: {e}") from e


@contextmanager
def _importable_from(*folders: Path) -> Iterator[None]:
    """Let modules of these folders be imported within the block: console scripts do not see the current folder."""
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


def import_module(name: str, asked: str) -> ModuleType:
    """Return the module `name`, from what is installed or from the current folder.

    Raises:
        EncoderError: It cannot be imported; `asked` is how the message calls it.
    """
    with _importable_from(Path.cwd()), foreign_errors(_not_importable(asked, name)):
        return importlib.import_module(name)


def _not_importable(asked: str, name: str) -> str:
    return f"{asked}: expected an importable module {name!r} (installed, or below {Path.cwd()})"


def import_file(path: Path) -> ModuleType:
    """Return the module that the Python file `path` is; it may import what lies beside it or below the current folder.

    Raises:
        EncoderError: There is no such file, or it cannot be run.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        raise EncoderError(f"expected a Python file at {path}, found none")
    name = f"_uniwhisper_{path.stem}_{content_hash(str(path))[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise EncoderError(f"expected a Python file (.py) at {path}, found one that Python cannot load")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        with _importable_from(Path.cwd(), path.parent), foreign_errors(f"{path}: expected a file that can be imported"):
            spec.loader.exec_module(module)
    except EncoderError:
        del sys.modules[name]
        raise
    return module


def fingerprint_of(instance: object, *more: object, files: Sequence[Path] = ()) -> tuple[str, str]:
    """Return a hash of what decides the frames of `instance`, and what it does not cover (empty where it covers all).

    Args:
        instance: A torch module, whose parameters and buffers are hashed, or any object.
        more: Further values that decide the frames: names, versions, options.
        files: Source files of the code; by default the one that defines the class of `instance`.
    """
    sources = [_hash_file(path) for path in files or _source_of(instance)]
    state = instance.state_dict() if callable(getattr(instance, "state_dict", None)) else {}  # type: ignore[attr-defined]
    weights = [[name, *_hash_tensor(value)] for name, value in sorted(state.items()) if hasattr(value, "detach")]
    missing = ""
    if not weights:
        missing = (
            "made from the source file alone: if weights change and the file does not, give the class a fingerprint"
        )
    return content_hash([type(instance).__qualname__, sources, weights, [str(value) for value in more]]), missing


def _source_of(instance: object) -> tuple[Path, ...]:
    try:
        return (Path(inspect.getfile(type(instance))),)
    except (TypeError, OSError):  # defined in an interactive session or in C
        return ()


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hash_tensor(value: Any) -> tuple[str, list[int], str]:
    import torch

    data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return str(value.dtype), list(value.shape), hashlib.sha256(data).hexdigest()


def whole_number(value: Any, what: str) -> int:
    """Return `value` as an int.

    Raises:
        EncoderError: It is no whole number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value <= 0:
        raise EncoderError(f"expected {what} to be a whole number above 0, found {value!r}")
    return int(value)


def equal_lengths(waves: Sequence[np.ndarray], sample_rate: int) -> Iterator[list[int]]:
    """Yield the positions of waves of equal length, at most a minute of sound at a time (or one wave)."""
    by_length: dict[int, list[int]] = {}
    for number, wave in enumerate(waves):
        by_length.setdefault(len(wave), []).append(number)
    for length, numbers in by_length.items():
        step = max(1, int(_BATCH_S * sample_rate / max(1, length)))
        for start in range(0, len(numbers), step):
            yield numbers[start : start + step]


def in_one_length(
    waves: Sequence[np.ndarray],
    sample_rate: int,
    forward: Callable[[Any], Any],
    *,
    name: str,
    dim: int,
    device: str = "cpu",
) -> list[np.ndarray]:
    """Return the frames `[T, dim]` of every wave, calling `forward` with `[B, samples]` of one length at a time.

    Raises:
        EncoderError: `forward` raises, or gives something else than a finite `[B, T, dim]`.
    """
    import torch

    found: list[np.ndarray] = [np.empty(0)] * len(waves)
    for numbers in equal_lengths(waves, sample_rate):
        batch = torch.from_numpy(np.stack([waves[n] for n in numbers])).to(device)
        shape = f"{list(batch.shape)} at {sample_rate} Hz"
        with torch.inference_mode(), foreign_errors(f"{name}: expected frames for a batch {shape}"):
            frames = forward(batch)
        if not isinstance(frames, torch.Tensor):
            raise EncoderError(f"{name}: expected a tensor for a batch {shape}, found {type(frames).__name__}")
        if frames.ndim != 3 or frames.shape[0] != len(numbers) or frames.shape[2] != dim:
            raise EncoderError(
                f"{name}: expected [{len(numbers)}, T, {dim}] for a batch {shape}, found {list(frames.shape)}; "
                "check the order of the axes and the stated width"
            )
        if frames.shape[1] == 0:
            raise EncoderError(f"{name}: expected at least one frame for a batch {shape}, found none")
        values = frames.float().cpu().numpy()
        if not np.isfinite(values).all():
            raise EncoderError(f"{name}: expected finite frames for a batch {shape}, found NaN or infinite ones")
        for number, value in zip(numbers, values, strict=True):
            found[number] = np.ascontiguousarray(value)
    return found
