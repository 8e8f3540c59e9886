from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from uniwhisper.batches import BatchConfig
from uniwhisper.errors import ConfigError
from uniwhisper.instructions import InstructionConfig
from uniwhisper.train.config import TrainConfig, from_json, override
from uniwhisper.train.optim import OptimConfig
from uniwhisper.train.warm_start import FinishConfig, StartConfig


def test_json_goes_there_and_back() -> None:
    config = TrainConfig(
        encoder="whisper-tiny",
        batches=BatchConfig(weights={"bells": 0.5}, tokens=77),
        instructions=InstructionConfig(tags=False, answer_style="sentence"),
        family_shares={"asr": 0.25},
        optim=OptimConfig(layer_decay=0.9),
        start=StartConfig(calibration="whiten"),
        finish=FinishConfig(clips=7, calibration="scale"),
        accumulation=3,
        parallel=2,
    )
    back = from_json(json.loads(json.dumps(config.to_json())))
    assert back == config
    assert back.hash == config.hash
    assert from_json({}) == TrainConfig()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"stepz": 1}, r"config top level: unknown fields \['stepz'\]"),
        ({"optim": {"stepz": 1}}, r"config optim\.: unknown fields \['stepz'\]; known: .*'steps'"),
        ({"precision": "fp16"}, "precision: expected bf16 or fp32, found 'fp16'"),
        ({"optim": {"steps": 0}}, "steps >= 1"),
        ({"family_shares": {"asr": 1.0, "karaoke": 1.0}}, r"family_shares names \['karaoke'\]"),
    ],
)
def test_unknown_and_impossible_fields_are_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_json(value)


@pytest.mark.parametrize("value", [{"optim": {"steps": "many"}}, {"seed": "x"}, {"optim": 3}])
def test_mistyped_json_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        from_json(value)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("optim.encoder_lr=1e-5", {"optim": OptimConfig(encoder_lr=1e-5)}),
        ("optim.steps=7", {"optim": OptimConfig(steps=7)}),
        ("precision=fp32", {"precision": "fp32"}),
        ("instructions.tags=False", {"instructions": InstructionConfig(tags=False)}),
        ("batches.weights.bells=0.5", {"batches": BatchConfig(weights={"bells": 0.5})}),
        ("batches.weights.fsd50k.v2=2", {"batches": BatchConfig(weights={"fsd50k.v2": 2.0})}),
        ("family_shares.asr=0", {"family_shares": {"asr": 0.0}}),
        ("encoder=a=b", {"encoder": "a=b"}),
    ],
)
def test_override_reads_the_type_of_the_field(assignment: str, expected: dict[str, Any]) -> None:
    found = override(TrainConfig(), assignment)
    assert found == replace(TrainConfig(), **expected)
    assert type(found.optim.steps) is int
    assert type(found.optim.encoder_lr) is float


def test_overrides_of_one_mapping_add_up() -> None:
    config = override(override(TrainConfig(), "batches.weights.a=1"), "batches.weights.b=2")
    assert config.batches.weights == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.steps", "expected field=value"),
        ("=3", "expected field=value"),
        ("optim.stepz=3", "--set optim.stepz: no field 'stepz'; expected one of .*steps, "),
        ("nothing=3", "no field 'nothing'"),
        ("optim=3", "optim has parts; name one of"),
        ("seed.x=3", "seed has no parts"),
        ("optim.steps=1.5", "expected int, found '1.5'"),
        ("optim.encoder_lr=fast", "expected float, found 'fast'"),
        ("instructions.tags=yes", "expected true or false, found 'yes'"),
        ("batches.weights=3", "expected weights.NAME=number"),
        ("batches.weights.a=much", "expected float, found 'much'"),
        ("optim.steps=0", "steps >= 1"),
    ],
)
def test_override_refuses_what_does_not_fit(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(TrainConfig(), assignment)


def test_hash_is_of_what_decides_the_weights() -> None:
    config = TrainConfig()
    for change in ({"checkpoint_every": 1}, {"keep_checkpoints": 9}, {"cache_mb": 1.0}):
        assert replace(config, **change).hash == config.hash
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"encoder": "whisper-tiny"},
        {"optim": OptimConfig(steps=1)},
        {"batches": BatchConfig(weights={"a": 1.0})},
        {"original_share": 0.5},
        {"finish": FinishConfig(calibration="center")},
        {"accumulation": 2},
    ]
    assert len({config.hash, *(replace(config, **change).hash for change in changes)}) == len(changes) + 1
    assert len(config.hash) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"accumulation": 0},
        {"checkpoint_every": 0},
        {"keep_checkpoints": 0},
        {"parallel": 2},
        {"parallel": 0},
        {"ema_decay": 1.0},
        {"ema_decay": -0.1},
        {"original_share": 1.1},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        TrainConfig(**change)
