"""What every recipe of the package promises, and the paper's numbers in the recipe that repeats it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from uniwhisper.errors import ConfigError
from uniwhisper.recipes import get_recipe, list_recipes, make_config
from uniwhisper.recipes.align_large_v3 import alignment_only
from uniwhisper.recipes.uniwhisper_large_v3 import CLIPS_A_STEP, MEAN_CLIP_S
from uniwhisper.sources import get_source, list_sources
from uniwhisper.train.config import from_json, override
from uniwhisper.train.optim import learning_rate
from uniwhisper.weights.registry import MODELS

RECIPES = list_recipes()

PAPER_HOURS = {
    "audiocaps": 142.5,
    "audioset": 5800,
    "laion_audio": 4300,
    "wavcaps": 7600,
    "aishell1": 178,
    "gigaspeech": 10000,
    "libri_adhoc40": 4500,
    "librispeech": 860,
    "clotho": 43.6,
    "seeing_sound": 0.2,
    "sonyc_ust": 51.5,
    "tau_asc2020_mobile": 64,
    "urban_sed": 27.8,
    "vggsound": 553.3,
    "maestro": 200,
    "medleydb": 7.3,
    "mtg_jamendo": 3800,
    "musiccaps": 15.3,
    "musicnet": 34,
    "slakh2100": 145,
    "song_describer": 23,
    "yt8m_musictextclips": 11.7,
}
"""Hours after filtering. Source: the paper, table 1; its row for GuitarSet has no number in the text at hand."""


def text(name: str) -> str:
    """Return a recipe's docstring on one line."""
    return " ".join((get_recipe(name).__doc__ or "").split())


@pytest.mark.parametrize("name", RECIPES)
def test_docstring_states_command_hardware_time_and_score(name: str) -> None:
    words = text(name)
    for promise in (r"Command: `", r"Hardware( and time)?:", r"(Hardware and time:|\bTime\b)", r"Expected:"):
        assert re.search(promise, words), f"{name}: {promise}"
    assert re.search(rf"`(torchrun [^`]*-m )?uniwhisper (train )?{name}( |`)", words), "the command names the recipe"


@pytest.mark.parametrize("name", RECIPES)
def test_every_change_named_in_the_docstring_can_be_made(name: str) -> None:
    for span in re.findall(r"`([^`]*--set [^`]*)`", text(name)):
        known = re.search(rf"train ({'|'.join(RECIPES)})\b", span)
        config = made = make_config(known[1] if known else name)
        for assignment in re.findall(r"--set (\S+)", span):
            made = override(made, assignment)
        assert made != config, f"{span} changes nothing"


@pytest.mark.parametrize("name", RECIPES)
def test_configuration_is_stable_and_complete(name: str) -> None:
    config = make_config(name)
    assert config == make_config(name)
    again = from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    assert again.hash == config.hash
    assert replace(config, checkpoint_every=config.checkpoint_every + 1).hash == config.hash
    assert replace(config, seed=config.seed + 1).hash != config.hash


def test_no_two_recipes_are_the_same_run() -> None:
    assert len({make_config(name).hash for name in RECIPES}) == len(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_weights_are_registered(name: str) -> None:
    config = make_config(name)
    assert MODELS[config.encoder].kind == "whisper"
    assert MODELS[config.decoder].kind == "lm"


@pytest.mark.parametrize("name", RECIPES)
def test_positions_of_audio_are_those_of_the_adapter(name: str) -> None:
    config = make_config(name)
    assert config.batches.tokens_per_s == 25 / config.adapter.reduction


def test_large_v3_is_the_paper() -> None:
    config = make_config("uniwhisper_large_v3")
    assert MODELS[config.encoder].hub_id == "openai/whisper-large-v3"
    assert MODELS[config.decoder].hub_id == "Qwen/Qwen3-0.6B"
    assert config.optim.kind == "adamw8bit"
    assert config.optim.schedule == "cosine"
    assert config.optim.encoder_lr == 2e-5
    assert config.optim.adapter_lr == 2e-5
    assert config.optim.weight_decay == 0.01
    assert config.optim.align_steps == 1500
    assert config.optim.warmup_steps == 1500
    assert config.optim.steps == 30_000
    assert config.precision == "bf16"
    assert config.adapter.reduction == 1
    assert CLIPS_A_STEP == 8 * 32


def test_large_v3_takes_nothing_from_this_projects_own_experiments() -> None:
    config = make_config("uniwhisper_large_v3")
    assert (config.start.clips, config.start.calibration, config.finish.calibration) == (0, "none", "none")
    assert (config.ema_decay, config.original_share, config.optim.layer_decay) == (0, 0, 1)
    assert (config.optim.frozen_layers, config.family_shares) == (0, {})
    assert config.optim.weights == "fp32"


def test_large_v3_step_has_the_papers_clips_on_average() -> None:
    config = make_config("uniwhisper_large_v3")
    cost = MEAN_CLIP_S * config.batches.tokens_per_s + config.batches.text_tokens
    assert config.accumulation * config.batches.tokens / cost == pytest.approx(CLIPS_A_STEP, rel=0.001)
    assert config.accumulation % 8 == 0


def test_large_v3_aligns_for_1500_steps_and_then_lets_the_encoder_learn() -> None:
    optim = make_config("uniwhisper_large_v3").optim
    adapter = [learning_rate(optim.adapter_lr, step, 0, optim) for step in range(optim.steps)]
    encoder = [learning_rate(optim.encoder_lr, step, optim.align_steps, optim) for step in range(optim.steps)]
    assert set(encoder[:1500]) == {0.0}
    for rates, start in ((adapter, 0), (encoder, 1500)):
        assert max(rates) == pytest.approx(2e-5, rel=0.02)
        assert abs(rates.index(max(rates)) - start - 1500) < 100
        assert rates[start] < 2e-8
        assert rates[-1] < 2e-12


def test_our_sources_give_the_papers_hours() -> None:
    """The mixture is by hours, so a source that differs much from table 1 would be drawn more or less than there."""
    training = {name for name in list_sources() if "training" in get_source(name).SPEC.uses}
    assert set(PAPER_HOURS) | {"guitarset"} == training
    ours = {name: get_source(name).SPEC.hours or 0.0 for name in training}
    assert sum(ours.values()) == pytest.approx(sum(PAPER_HOURS.values()), rel=0.01)
    for name, hours in PAPER_HOURS.items():
        assert ours[name] == pytest.approx(hours, rel=0.2, abs=0.05), name


def test_alignment_is_the_adapter_alone() -> None:
    large = make_config("uniwhisper_large_v3")
    config = make_config("align_large_v3")
    optim = config.optim
    assert (optim.steps, optim.align_steps, optim.warmup_steps) == (1500, 1500, 150)
    assert all(learning_rate(optim.encoder_lr, step, optim.align_steps, optim) == 0 for step in range(optim.steps))
    assert max(learning_rate(optim.adapter_lr, step, 0, optim) for step in range(optim.steps)) > 1.9e-5
    assert replace(config, optim=large.optim) == large


def test_alignment_leaves_nothing_to_mix_into_the_encoder() -> None:
    config = alignment_only(replace(make_config("quickstart"), ema_decay=0.9), steps=40)
    assert (config.ema_decay, config.original_share) == (0, 0)
    assert config.start == make_config("quickstart").start
    with pytest.raises(ConfigError, match="steps >= 1, found 0"):
        alignment_only(config, steps=0)
