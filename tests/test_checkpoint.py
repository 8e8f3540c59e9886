from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import uniwhisper
from tiny import randomise
from uniwhisper import checkpoint as module
from uniwhisper.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_audio_model,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_audio_model,
    save_checkpoint,
)
from uniwhisper.errors import CheckpointError
from uniwhisper.files import read_json, sha256_file, write_json
from uniwhisper.model.dims import EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.uniwhisper import AudioModel

KEY = "k" * 64
DIMS = EncoderDims(n_mels=4, n_audio_ctx=6, n_audio_state=8, n_audio_head=2, n_audio_layer=1)


def a_checkpoint(step: int, *, average: bool = False) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    tensors = {"audio.x": torch.randn(3, 4, generator=generator), "adapter.y": torch.randn(2, generator=generator)}
    return Checkpoint(
        model=tensors,
        optim={"0.step": torch.tensor(float(step)), "0.exp_avg": torch.randn(3, 4, generator=generator)},
        average={"average.x": torch.randn(3, generator=generator)} if average else {},
        state={"step": step, "config_hash": KEY, "drawn": {"bells": 7}},
    )


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("average", [False, True])
def test_what_is_saved_is_loaded(tmp_path: Path, average: bool) -> None:
    saved = a_checkpoint(12, average=average)
    folder = save_checkpoint(tmp_path, saved, keep=2)
    assert folder == tmp_path / "step_0000012" == latest_checkpoint(tmp_path)
    loaded = load_checkpoint(folder, config_hash=KEY)
    assert same(loaded.model, saved.model)
    assert same(loaded.optim, saved.optim)
    assert same(loaded.average, saved.average)
    assert loaded.state == saved.state
    files = {"DONE", "model.safetensors", "optim.safetensors", "state.json"}
    assert {path.name for path in folder.iterdir()} == files | ({"average.safetensors"} if average else set())


def test_only_the_newest_are_kept_and_one_step_is_replaced(tmp_path: Path) -> None:
    for step in (1, 2, 3, 3, 10):
        save_checkpoint(tmp_path, a_checkpoint(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_0000003", "step_0000010"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nothing") is None
    assert latest_checkpoint(tmp_path) is None


def test_a_checkpoint_without_done_is_not_the_newest(tmp_path: Path) -> None:
    older, newer = (save_checkpoint(tmp_path, a_checkpoint(step), keep=5) for step in (1, 2))
    (newer / "DONE").unlink()
    assert latest_checkpoint(tmp_path) == older
    with pytest.raises(CheckpointError):
        load_checkpoint(newer, config_hash=KEY)


@pytest.mark.parametrize("broken", ["model.safetensors", "optim.safetensors", "state.json", "DONE"])
def test_a_kill_while_saving_leaves_the_older_checkpoint(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = save_checkpoint(tmp_path, a_checkpoint(1), keep=1)

    def dies(original: Any) -> Any:
        def write(target: Any, *args: Any, **options: Any) -> Any:
            if broken in ("DONE", Path(target).name):
                raise KeyboardInterrupt
            return original(target, *args, **options)

        return write

    with monkeypatch.context() as patch:
        for name in ("mark_done",) if broken == "DONE" else ("_save", "write_json"):
            patch.setattr(module, name, dies(getattr(module, name)))
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, a_checkpoint(2), keep=1)
    assert latest_checkpoint(tmp_path) == older
    assert same(load_checkpoint(older, config_hash=KEY).model, a_checkpoint(1).model)
    newer = save_checkpoint(tmp_path, a_checkpoint(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == [newer.name]  # nothing of the failed attempt is left


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, a_checkpoint(1), keep=1)
    with pytest.raises(CheckpointError, match=r"kkkkkkkk there, other here.*Use another --out"):
        load_checkpoint(folder, config_hash="other")


@pytest.mark.parametrize("name", ["model.safetensors", "optim.safetensors", "average.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "missing", "garbage"])
def test_damaged_tensors_are_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    folder = save_checkpoint(tmp_path, a_checkpoint(1, average=True), keep=1)
    path = folder / name
    if damage == "missing":
        if name.startswith("average"):
            pytest.skip("a run that averages nothing has no such file")
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5] if damage == "cut" else b"\xff" * 100)
    with pytest.raises(CheckpointError, match=rf"expected safetensors at .*{name}.*delete the folder"):
        load_checkpoint(folder, config_hash=KEY)


def test_optimizer_state_goes_there_and_back() -> None:
    def build() -> tuple[nn.Module, torch.optim.AdamW]:
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        return net, torch.optim.AdamW([{"params": [net.weight], "lr": 0.1}, {"params": [net.bias], "lr": 0.2}])

    (net, optimizer), (twin, restored) = build(), build()
    assert optimizer_tensors(optimizer) == {}
    x = torch.randn(4, 3)
    for _ in range(3):
        net(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    tensors = {name: value.clone() for name, value in optimizer_tensors(optimizer).items()}  # as a file would
    assert set(tensors) == {f"{n}.{name}" for n in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")}
    restore_optimizer(restored, tensors)
    twin.load_state_dict(net.state_dict())
    for model, adam in ((net, optimizer), (twin, restored)):
        model(x).square().sum().backward()
        adam.step()
    assert same(dict(twin.state_dict()), dict(net.state_dict()))
    assert [group["lr"] for group in restored.param_groups] == [0.1, 0.2]


@pytest.fixture
def audio_model() -> AudioModel:
    model = AudioModel(AudioEncoder(DIMS))
    randomise(model, 1)
    return model


def test_encoder_folder_goes_there_and_back(tmp_path: Path, audio_model: AudioModel) -> None:
    folder = save_audio_model(tmp_path / "encoder", audio_model, {"steps": 3})
    loaded = load_audio_model(folder)
    assert not loaded.training
    assert loaded.encoder.dims == DIMS
    assert same(dict(loaded.state_dict()), dict(audio_model.state_dict()))
    config = read_json(folder / "config.json")
    assert config["provenance"] == {"steps": 3}
    assert config["hop_ms"] == 40
    assert (folder / "DONE").read_text().strip() == sha256_file(folder / "model.safetensors")


def test_a_kill_while_saving_the_encoder_leaves_no_finished_folder(
    tmp_path: Path, audio_model: AudioModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})

    def dies(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        save_audio_model(folder, audio_model, {})
    with pytest.raises(CheckpointError, match=r"expected a finished encoder folder .*\(with DONE\), found none"):
        load_audio_model(folder)


def test_folder_of_another_kind_is_refused(tmp_path: Path, audio_model: AudioModel) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})
    write_json(folder / "config.json", read_json(folder / "config.json") | {"format": "something-else"})
    with pytest.raises(CheckpointError, match="expected format 'uniwhisper-encoder', found 'something-else'"):
        load_audio_model(folder)


@pytest.mark.parametrize("change", [{"d_model": 16}, {"encoder_layers": 2}, {"num_mel_bins": 5}])
def test_weights_that_do_not_fit_the_sizes_are_refused(
    tmp_path: Path, audio_model: AudioModel, change: dict[str, int]
) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})
    write_json(folder / "config.json", read_json(folder / "config.json") | change)
    with pytest.raises(CheckpointError, match=r"does not fit its config\.json"):
        load_audio_model(folder)


def test_changed_encoder_weights_are_refused(tmp_path: Path, audio_model: AudioModel) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})
    state = load_file(folder / "model.safetensors")
    state["encoder.conv1.weight"] += 1
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError):
        load_audio_model(folder)


PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def is_constant(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def forbidden(tree: ast.AST) -> list[str]:
    """Return what in a module could write or run a pickle; naming the error that reading one raises is harmless."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = {alias.name.partition(".")[0]: alias.asname for alias in node.names}
            found += [name for name, other in named.items() if name in PICKLERS and (name != "pickle" or other)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            top, names = node.module.partition(".")[0], {alias.name for alias in node.names}
            if top in PICKLERS or (top == "torch" and names & {"load", "save"}):
                found.append(f"from {node.module}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "pickle" and node.attr != "UnpicklingError":
                found.append(f"pickle.{node.attr}")
            if node.value.id == "torch" and node.attr == "save":
                found.append("torch.save")
        elif isinstance(node, ast.Call):
            options = {option.arg: option.value for option in node.keywords}
            if ast.unparse(node.func) == "torch.load" and not is_constant(options.get("weights_only"), True):
                found.append("torch.load")
            if "allow_pickle" in options and not is_constant(options["allow_pickle"], False):
                found.append("allow_pickle")
    return found


def test_the_search_for_pickles_finds_them() -> None:
    lines = {
        "pickle.loads(x)": "pickle.loads",
        "import dill": "dill",
        "import pickle as p": "pickle",
        "from torch import load": "from torch",
        "from joblib import dump": "from joblib",
        "torch.save(1, 'x')": "torch.save",
        "torch.load('x')": "torch.load",
        "torch.load('x', weights_only=False)": "torch.load",
        "numpy.load('x', allow_pickle=True)": "allow_pickle",
    }
    assert {line: forbidden(ast.parse(line)) for line in lines} == {line: [found] for line, found in lines.items()}
    harmless = "import torch\ntorch.load('x', weights_only=True)\nnumpy.load('x', allow_pickle=False)"
    assert forbidden(ast.parse(harmless)) == []


def test_nothing_in_the_package_pickles() -> None:
    root = Path(uniwhisper.__file__).parent
    modules = sorted(root.rglob("*.py"))
    assert len(modules) > 50
    found = {str(path.relative_to(root)): forbidden(ast.parse(path.read_text(encoding="utf-8"))) for path in modules}
    assert {name: uses for name, uses in found.items() if uses} == {}
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in modules}
    loads = {name: text for name, text in texts.items() if "torch.load" in text}
    assert sorted(loads) == ["encoders/_hub.py", "weights/openai.py"], "formats of others, read as tensors alone"
    for name, text in loads.items():
        calls = re.findall(r"torch\.load\(.*?\)", text)
        assert calls
        assert all("weights_only=True" in call for call in calls), name
