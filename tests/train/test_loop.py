"""What a run does to weights and files; resuming has its own file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from uniwhisper.checkpoint import latest_checkpoint, load_audio_model
from uniwhisper.errors import AudioError, CheckpointError, ConfigError, UniWhisperError
from uniwhisper.files import read_json
from uniwhisper.model.packing import segment_means
from uniwhisper.train import loop
from uniwhisper.train import start as starting
from uniwhisper.train.config import TrainConfig, from_json
from uniwhisper.train.data import training_data
from uniwhisper.train.loop import Interrupted, train
from uniwhisper.train.metrics import read_metrics
from uniwhisper.train.run import Run
from uniwhisper.train.start import begin, build_model
from uniwhisper.train.step import train_step

from .conftest import World


def start(world: World, config: TrainConfig, out: Path) -> Run:
    return begin(config, training_data(world.clips), out, "key")


def digest(module: torch.nn.Module) -> str:
    """Return the hash of every bit of a module's state."""
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        state.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return state.hexdigest()


def encoder_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_one_small_batch_is_overfitted(world: World, config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    steady = {"steps": 250, "align_steps": 0, "warmup_steps": 5, "min_share": 1.0, "encoder_lr": 3e-3}
    run = start(world, config(optim=steady), tmp_path)
    batch = run.feed.batch(0)
    rows = []
    for run.step in range(240):
        rows.append(train_step(run, [batch])["loss"])
    assert rows[0] > 4.0
    assert rows[-1] < 0.3 * rows[0]


def test_decoder_is_bit_identical_and_unknown_to_the_optimiser(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    run = start(world, config(optim={"align_steps": 2}), tmp_path)
    before, audio_before = digest(run.model.decoder), digest(run.model.audio)
    run.model.train()
    for run.step in range(6):
        train_step(run, [run.feed.batch(run.step)])
    assert digest(run.model.decoder) == before
    assert digest(run.model.audio) != audio_before
    assert not any(module.training for module in run.model.decoder.modules())
    assert all(parameter.grad is None for parameter in run.model.decoder.parameters())
    frozen = {id(parameter) for parameter in run.model.decoder.parameters()}
    assert not any(id(p) in frozen for group in run.optimizer.param_groups for p in group["params"])
    assert not any(id(p) in frozen for p in run.optimizer.state)
    positions = run.model.audio.encoder.embed_positions.weight
    assert torch.equal(positions, build_model(run.config).audio.encoder.embed_positions.weight)


def test_alignment_leaves_the_encoder_bit_identical(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    run = start(world, config(optim={"align_steps": 3}), tmp_path)
    audio, adapter = digest(run.model.audio), digest(run.model.adapter)
    for run.step in range(3):
        row = train_step(run, [run.feed.batch(run.step)])
        assert (row["lr_encoder"], row["grad_norm_encoder"]) == (0.0, 0.0)
    assert digest(run.model.audio) == audio
    assert digest(run.model.adapter) != adapter
    run.step = 3
    row = train_step(run, [run.feed.batch(3)])
    assert row["lr_encoder"] > 0
    assert row["grad_norm_encoder"] > 0
    assert digest(run.model.audio) != audio


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainConfig]:
    """The folder of a run of 12 steps, and its configuration."""
    out = tmp_path_factory.mktemp("run")
    config = world.config(optim={"steps": 12}, batches={"weights": {"talk": 2.0}}, accumulation=2)
    assert train(config, world.clips, out, quiet=True) == out / "encoder"
    return out, config


def test_a_run_leaves_what_it_promises(finished: tuple[Path, TrainConfig], world: World) -> None:
    out, config = finished
    assert {path.name for path in out.iterdir()} >= {"config.json", "metrics.jsonl", "tensorboard", "encoder", "DONE"}
    assert from_json(read_json(out / "config.json")["config"]) == config
    assert load_audio_model(out / "encoder").encoder.dims.n_audio_state == 32
    provenance = read_json(out / "encoder" / "config.json")["provenance"]
    assert provenance["steps"] == 12
    assert provenance["config"] == config.to_json()
    assert sum(provenance["clips_drawn"].values()) == sum(
        row["num_examples"] for row in read_metrics(out / "metrics.jsonl")
    )
    assert provenance["mixture"] == pytest.approx({"bells": 6 / 14, "talk": 8 / 14})


def test_metrics_say_what_happened(finished: tuple[Path, TrainConfig]) -> None:
    out, config = finished
    rows = read_metrics(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(12))
    for row in rows:
        assert {"loss", "grad_norm", "examples_per_s", "data_wait_share", "seconds"} <= row.keys()
        assert set(row["loss_by_source"]) <= {"bells", "talk"}
        assert set(row["loss_by_family"]) <= {"asr", "classification", "audio_text_matching"}
        assert row["examples_per_s"] == pytest.approx(row["num_examples"] / row["seconds"])
    assert [row["lr_encoder"] > 0 for row in rows] == [step >= config.optim.align_steps for step in range(12)]
    assert read_json(latest_checkpoint(out / "checkpoints") / "state.json")["step"] == 12  # type: ignore[operator]


def test_a_finished_run_is_not_run_again(
    finished: tuple[Path, TrainConfig], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "build_model", lambda *arguments: pytest.fail("a finished run was started again"))
    assert train(finished[1], world.clips, finished[0], quiet=True) == finished[0] / "encoder"


@pytest.mark.parametrize("change", [{"seed": 1}, {"optim": {"steps": 13}}])
def test_a_folder_of_another_configuration_is_refused(
    finished: tuple[Path, TrainConfig], world: World, change: dict[str, Any]
) -> None:
    config = world.config(
        **({"batches": {"weights": {"talk": 2.0}}, "accumulation": 2, "optim": {"steps": 12}} | change)
    )
    with pytest.raises(CheckpointError, match="begun with another configuration or other clips"):
        train(config, world.clips, finished[0], quiet=True)


def test_a_folder_of_other_clips_is_refused(finished: tuple[Path, TrainConfig], world: World) -> None:
    with pytest.raises(CheckpointError, match="other clips"):
        train(finished[1], world.clips[:-1], finished[0], quiet=True)


@pytest.mark.parametrize("change", ["duration", "annotation"])
def test_a_folder_of_clips_that_changed_is_refused(
    finished: tuple[Path, TrainConfig], world: World, change: str
) -> None:
    clip = world.clips[0]
    note = replace(clip.annotation, labels=("frog",))
    changed = replace(clip, duration_s=9.0) if change == "duration" else replace(clip, annotation=note)
    with pytest.raises(CheckpointError, match="other clips"):
        train(finished[1], [changed, *world.clips[1:]], finished[0], quiet=True)


def test_clips_of_other_splits_change_nothing(finished: tuple[Path, TrainConfig], world: World) -> None:
    extra = [replace(world.clips[0], id="held-out", split="valid"), *world.clips]
    assert train(finished[1], extra, finished[0], quiet=True) == finished[0] / "encoder"
    with pytest.raises(ConfigError, match="expected clips with split 'train', found 1 clips"):
        training_data(extra[:1])


def test_settings_that_decide_nothing_may_change(finished: tuple[Path, TrainConfig], world: World) -> None:
    config = replace(finished[1], checkpoint_every=3, keep_checkpoints=7, cache_mb=0.0)
    assert train(config, world.clips, finished[0], quiet=True) == finished[0] / "encoder"


def test_original_share_mixes_the_start_back_in(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"optim": {"steps": 6, "align_steps": 1}, "start": {"calibration": "center"}}
    found = {
        share: encoder_of(
            train(config(original_share=share, **options), world.clips, tmp_path / str(share), quiet=True)
        )
        for share in (0.0, 0.25, 1.0)
    }
    original = start(world, config(**options), tmp_path / "start").model.audio.state_dict()
    for name, trained in found[0.0].items():
        assert torch.equal(found[1.0][name], original[name])
        torch.testing.assert_close(found[0.25][name], 0.75 * trained + 0.25 * original[name], atol=1e-6, rtol=0)
    assert not torch.equal(found[0.0]["encoder.conv1.weight"], original["encoder.conv1.weight"])


def test_finish_calibrates_what_was_trained(world: World, config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    options: dict[str, Any] = {"optim": {"steps": 6, "align_steps": 1}}
    plain, scaled = (
        load_audio_model(
            train(config(finish={"calibration": kind}, **options), world.clips, tmp_path / kind, quiet=True)
        )
        for kind in ("none", "scale")
    )
    assert digest(plain.encoder) == digest(scaled.encoder)  # it changes the subsampler alone
    assert digest(plain.subsampler) != digest(scaled.subsampler)
    run = start(world, config(**options), tmp_path / "other")
    batches, number = [], 6
    while sum(len(batch.mels) for batch in batches) < 8:
        wanted = 8 - sum(len(batch.mels) for batch in batches)
        batches.append(run.feed.collate(run.order.batch(number)[:wanted]))
        number += 1
    with torch.no_grad():
        means = torch.cat([segment_means(scaled(batch.mels, batch.tails)) for batch in batches])
    torch.testing.assert_close(means.mean(dim=0), torch.zeros(32), atol=1e-3, rtol=0)
    torch.testing.assert_close(means.std(dim=0), torch.ones(32), atol=1e-3, rtol=0)


def test_ema_is_the_average_of_what_was_trained(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Tensor]] = []
    step = loop.train_step

    def watch(run: Run, group: Any, **settings: Any) -> dict[str, Any]:
        if not seen:
            seen.append({name: value.clone() for name, value in run.model.audio.state_dict().items()})
        row = step(run, group, **settings)
        seen.append({name: value.clone() for name, value in run.model.audio.state_dict().items()})
        return row

    monkeypatch.setattr(loop, "train_step", watch)
    made = config(ema_decay=0.7, optim={"steps": 6, "align_steps": 2})
    final = encoder_of(train(made, world.clips, tmp_path, quiet=True))
    for name, start_value in seen[0].items():
        average = start_value.double()
        for weights in seen[1:]:  # steps of the alignment phase leave the weights, so they leave the average too
            average = 0.7 * average + 0.3 * weights[name].double()
        torch.testing.assert_close(final[name].double(), average, atol=1e-5, rtol=0)
    assert not torch.equal(final["encoder.conv1.weight"], seen[-1]["encoder.conv1.weight"])


def test_a_clip_that_cannot_be_read_stops_the_run_by_name(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF and nothing more")
    clips = [*world.clips[:3], replace(world.clips[3], path=str(tmp_path / "broken.wav")), *world.clips[4:]]
    with pytest.raises(AudioError, match=r"clip 'bells-3' of 'bells': .*broken\.wav"):
        train(config(start={"clips": 0}), clips, tmp_path / "out", quiet=True)


def test_a_loss_that_is_not_finite_stops_the_run_by_step(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    wild = {"adapter_lr": 1e30, "clip_norm": 1e30, "align_steps": 20}
    with pytest.raises(UniWhisperError, match="step"):
        train(config(optim=wild), world.clips, tmp_path, quiet=True)


def test_clips_without_any_family_stop_the_run(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    shares = {"classification": 0.0, "audio_text_matching": 0.0}
    with pytest.raises(ConfigError, match="every one of them has share 0"):
        train(config(family_shares=shares), world.clips, tmp_path, quiet=True)


def test_warm_start_reads_clips_that_training_reaches_last(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(starting, "warm_start", lambda model, batches, settings: read.extend(batches) or {"clips": 1.0})
    run = start(world, config(start={"clips": 7}, optim={"steps": 3}), tmp_path)
    examples = [example for batch in read for example in batch.examples]
    assert len(examples) == 7
    assert read[0].examples == run.feed.batch(3).examples[: len(read[0].examples)]
    assert read_json(tmp_path / "warm_start.json") == {"clips": 1.0}


def test_bf16_runs_end_to_end(world: World, config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    folder = train(config(precision="bf16", optim={"steps": 5, "align_steps": 1}), world.clips, tmp_path, quiet=True)
    assert {tensor.dtype for tensor in encoder_of(folder).values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in encoder_of(folder).values())


def test_stop_after_leaves_a_checkpoint_and_says_how_to_go_on(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match=r"stopped after step 3; saved .*step_0000003\. Run the same command again"):
        train(config(), world.clips, tmp_path, quiet=True, stop_after=3)
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint == tmp_path / "checkpoints" / "step_0000003"
    assert checkpoint is not None
    drawn = read_json(checkpoint / "state.json")["state"]["provenance"]["clips_drawn"]
    counted: Counter[str] = Counter()
    run = start(world, config(), tmp_path / "other")
    for number in range(3):
        counted.update(draw.source for draw in run.order.batch(number))
    assert drawn == dict(counted)
    assert not (tmp_path / "encoder").exists()
