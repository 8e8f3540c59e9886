"""Folders of hub models for the families of encoders: found on disk or fetched, and hashed.

Tried in this order: the folder that was named; `home()/encoders/<owner>--<name>/`, where anybody may place files by
hand; what `weights.resolve` knows (its cache, the hub library's cache, the hub); the hub once more for weights that are
published as a pickle only. Those are read with torch's restricted unpickler, which holds tensors and plain values and
runs no code. `UNIWHISPER_OFFLINE=1` forbids every download.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from uniwhisper.encoders._family import Model, find, folder_config, is_hub_id
from uniwhisper.errors import WeightsError
from uniwhisper.files import content_hash, home, is_offline, sha256_file
from uniwhisper.weights import resolve

__all__ = [
    "config_files",
    "find_folder",
    "fingerprint_of",
    "load_pretrained",
    "load_tensors",
    "model_type_of",
    "placed_folder",
    "weight_files",
]

_PICKLE = "pytorch_model.bin"
_NEEDED = ["config.json", "preprocessor_config.json", _PICKLE]
_ANSWER_S = 10.0
_UNUSED = ("masked_spec_embed",)
"""Weights that only pretraining uses; several published files lack them."""


def placed_folder(hub_id: str) -> Path:
    """Return the folder in which files of `hub_id` may be placed by hand."""
    return home() / "encoders" / hub_id.replace("/", "--")


def find_folder(name: str, models: tuple[Model, ...]) -> Path:
    """Return a folder with config.json and weights for a family's model, a hub id or a folder.

    Raises:
        WeightsError: There is none; the message lists what was tried and where to place the files.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        _require_model(folder)
        return folder.resolve()
    model = find(models, name)
    hub_id = model.hub_id if model else name
    placed = placed_folder(hub_id)
    if placed.is_dir():
        _require_model(placed)
        return placed
    if not is_hub_id(hub_id):
        raise WeightsError(f"expected a folder or a hub id (owner/name), found {name!r}")
    failures: list[str] = []
    try:
        return resolve(hub_id)
    except WeightsError as e:
        failures.append(str(e).partition("\nGive a folder")[0])
    for local_only in (True, False):
        found = _snapshot(hub_id, failures, local_only=local_only)
        if found:
            return found
    raise WeightsError(
        f"expected the weights of {name!r} (hub repository {hub_id}), found none.\n" + "\n".join(failures) + "\n"
        f"Fetch config.json, preprocessor_config.json and model.safetensors (or {_PICKLE}) of {hub_id} on a machine "
        f"that reaches the hub, and place them in {placed}, or name the folder they lie in"
    )


def _snapshot(hub_id: str, failures: list[str], *, local_only: bool) -> Path | None:
    """Return the hub library's folder of a repository whose weights are a pickle, or None with the reason noted."""
    import huggingface_hub

    way = f"{_PICKLE} in the hub library's cache" if local_only else f"{_PICKLE} on the hub"
    if is_offline() and not local_only:
        failures.append(f"{way}: not asked, UNIWHISPER_OFFLINE=1")
        return None
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                hub_id, allow_patterns=_NEEDED, etag_timeout=_ANSWER_S, local_files_only=local_only
            )
        )
        _require_model(folder)
    except WeightsError as e:
        failures.append(f"{way}: {e}")
    except Exception as e:  # the hub library lets through whatever its HTTP client raises
        failures.append(f"{way}: {type(e).__name__}: {(str(e).strip().splitlines() or ['no reason given'])[0][:300]}")
    else:
        return folder
    return None


def model_type_of(hub_id: str) -> str:
    """Return the `model_type` in the configuration of a hub repository; asks the hub if it lies nowhere on disk.

    Raises:
        WeightsError: Its configuration cannot be had.
    """
    from huggingface_hub import hf_hub_download

    for folder in (placed_folder(hub_id), home() / "weights" / hub_id.replace("/", "--")):
        if config := folder_config(folder):
            return str(config.get("model_type", ""))
    try:
        path = hf_hub_download(hub_id, "config.json", etag_timeout=_ANSWER_S, local_files_only=is_offline())
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except Exception as e:  # the hub library lets through whatever its HTTP client raises
        why = "UNIWHISPER_OFFLINE=1" if is_offline() else f"{type(e).__name__}"
        raise WeightsError(
            f"expected the configuration of {hub_id!r}, which no family of encoders knows by name, from the hub; it "
            f"cannot be had ({why}). Place the repository's files in {placed_folder(hub_id)}, or name the folder "
            "they lie in"
        ) from e
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights in `folder`: safetensors where there are any, else the pickle."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / "model.safetensors.index.json").is_file():
        return sorted(folder.glob("model-*.safetensors"))
    return [folder / _PICKLE] if (folder / _PICKLE).is_file() else []


def fingerprint_of(files: list[Path], *facts: Any) -> str:
    """Return the hash of the bytes of `files` (in order) and of `facts`, such as precision and preprocessing."""
    return content_hash([[sha256_file(path) for path in files], *facts])


def config_files(folder: Path) -> list[Path]:
    """Return the files beside the weights that decide what the model computes."""
    return [p for p in (folder / "config.json", folder / "preprocessor_config.json") if p.is_file()]


def load_pretrained(folder: Path) -> Any:
    """Return the transformers model in `folder`, in eval mode, every weight of it read from the files.

    Raises:
        WeightsError: Weights are missing or do not fit config.json: nothing is ever left at random values.
    """
    import warnings

    from transformers import AutoModel, logging

    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # it reports the pretraining heads that are left out
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, report = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as e:  # transformers raises OSError, ValueError, RuntimeError and what its readers raise
        raise WeightsError(f"expected a model that transformers reads in {folder}, found: {e}") from e
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
    missing = sorted(str(key) for key in report["missing_keys"] if not str(key).endswith(_UNUSED))
    wrong = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing or wrong:
        found = f"none for {', '.join(missing[:5])}" if missing else f"other shapes of {', '.join(wrong[:5])}"
        raise WeightsError(f"expected weights for every part of the model in {folder}, found {found}")
    return model.eval().requires_grad_(False)


def load_tensors(path: Path) -> Any:
    """Return what a weight file holds: tensors by name, or a mapping with them; no code in it is ever run.

    Raises:
        WeightsError: It is damaged, or a pickle that holds more than tensors and plain values.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as e:
        raise WeightsError(f"expected weights at {path}, found nothing there") from e
    except SafetensorError as e:
        raise WeightsError(f"expected safetensors in {path}, found: {e}; fetch the file again") from e
    except Exception as e:  # torch raises RuntimeError, EOFError, UnpicklingError and more for a file it cannot read
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0][:300]
        raise WeightsError(
            f"expected tensors and plain values in {path}, found what torch's restricted unpickler refuses: {reason}. "
            "Fetch the file again; a pickle that holds other objects can run code and is not read"
        ) from e


def _require_model(folder: Path) -> None:
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not weight_files(folder):
        missing.append(f"model.safetensors (or {_PICKLE})")
    if missing:
        names = sorted(p.name for p in folder.iterdir())
        raise WeightsError(
            f"expected {' and '.join(missing)} in {folder}, found {', '.join(names[:8]) or 'nothing'}; "
            "place the files of the hub repository there"
        )
