"""The registry is a folder: recipes are put into one that belongs to the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from uniwhisper import recipes
from uniwhisper.errors import ConfigError
from uniwhisper.recipes import get_recipe, list_recipes, make_config
from uniwhisper.train.config import TrainConfig


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    recipes.__path__.append(str(tmp_path))
    yield tmp_path
    recipes.__path__.remove(str(tmp_path))


def write(folder: Path, name: str, body: str) -> None:
    text = f"from uniwhisper.train.config import TrainConfig\n\n\ndef {name}():\n    return {body}\n"
    (folder / f"{name}.py").write_text(text, encoding="utf-8")


def test_a_file_is_a_recipe(folder: Path) -> None:
    before = list_recipes()
    write(folder, "registry_good", "TrainConfig(seed=5)")
    write(folder, "_registry_private", "TrainConfig()")
    assert list_recipes() == tuple(sorted([*before, "registry_good"]))
    assert get_recipe("registry_good")() == TrainConfig(seed=5)
    assert make_config("registry_good").seed == 5


def test_every_recipe_of_the_package_makes_a_configuration() -> None:
    for name in list_recipes():
        assert isinstance(make_config(name), TrainConfig)
        assert get_recipe(name).__doc__, f"{name} says its command, hardware, time and expected score"


def test_unknown_recipe_lists_those_there_are(folder: Path) -> None:
    write(folder, "registry_listed", "TrainConfig()")
    with pytest.raises(ConfigError, match=r"out of .*registry_listed.*, or module\.path:function; found 'nothing'"):
        get_recipe("nothing")


def test_file_without_its_function(folder: Path) -> None:
    (folder / "registry_empty.py").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recipe 'registry_empty': expected a function 'registry_empty' in uniwhi"):
        get_recipe("registry_empty")


def test_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "registry_own", "TrainConfig(seed=9)")
    monkeypatch.syspath_prepend(tmp_path)
    assert make_config("registry_own:registry_own").seed == 9
    with pytest.raises(ConfigError, match="expected a function 'other' in registry_own, found None"):
        get_recipe("registry_own:other")


@pytest.mark.parametrize("name", ["no_such_module:recipe", ":recipe", "os.no_such:recipe"])
def test_module_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match="expected an importable module"):
        get_recipe(name)


def test_recipe_that_returns_something_else(folder: Path) -> None:
    write(folder, "registry_wrong", "{'seed': 1}")
    with pytest.raises(ConfigError, match="recipe 'registry_wrong': expected it to return a TrainConfig, found dict"):
        make_config("registry_wrong")
