"""The shape of the package: light imports, small files, plain names, true `__all__`, sources that stand alone.

The direction of imports is the contract in pyproject.toml, which `lint-imports` checks.
"""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "uniwhisper"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "transformers", "sklearn", "scipy", "numpy", "soundfile", "huggingface_hub", "rich", "tensorboard")
MAX_START_S = 0.3
ATTEMPTS = 5
MAX_LINES = 450
MAX_SOURCE_LINES = 200
MAX_FUNCTION_LINES = 70
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}


def ids(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def loaded_by(code: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after running `code`."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def start_s(arguments: list[str]) -> float:
    """Return the processor time of a process: what it takes on a free core, however busy this machine is."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


HELP = "from uniwhisper.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass"


@pytest.mark.parametrize("code", ["import uniwhisper", HELP], ids=["import", "help"])
def test_start_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


@pytest.mark.parametrize("arguments", [["-c", "import uniwhisper"], ["-m", "uniwhisper", "--help"]])
def test_start_is_fast(arguments: list[str]) -> None:
    times: list[float] = []
    while len(times) < ATTEMPTS and min(times, default=MAX_START_S) >= MAX_START_S:
        times.append(start_s(arguments))
    assert min(times) < MAX_START_S, times


def test_lazy_public_names_are_those_declared() -> None:
    import uniwhisper

    assert all(hasattr(uniwhisper, name) for name in uniwhisper.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = uniwhisper.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_module_is_small_and_documented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    is_source = path.parent.name == "sources" and not path.name.startswith("_") and path.name != "table.py"
    assert len(text.splitlines()) <= (MAX_SOURCE_LINES if is_source else MAX_LINES)
    assert text.isascii(), "code is ASCII; write other characters as escapes"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the module docstring says what it reads, writes and guarantees"
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES]
    assert not long, f"functions longer than {MAX_FUNCTION_LINES} lines: {long}"


def test_test_files_are_small() -> None:
    long = [path for path in (ROOT / "tests").rglob("*.py") if len(path.read_text("utf-8").splitlines()) > MAX_LINES]
    assert not long


def test_names_say_something() -> None:
    parts = {part for path in MODULES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not {part.lstrip("_") for part in parts} & FORBIDDEN_NAMES


def defined_names(tree: ast.Module) -> set[str]:
    """Return the names that a module binds at its top level, also below `if` and `try`."""
    names: set[str] = set()
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.If):
            waiting += [*node.body, *node.orelse]
        elif isinstance(node, ast.Try):
            waiting += node.body
    return names


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_all_is_there_and_true(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    declared = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
    ]
    own = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [name for name in own if not name.startswith("_")]
    assert declared or not public, f"no __all__, but {public} are public"
    names = declared[0] if declared else []
    assert len(names) == len(set(names))
    assert set(names) <= defined_names(tree)


def test_sources_are_independent_of_each_other() -> None:
    folder = PACKAGE / "sources"
    names = {path.stem for path in folder.glob("[!_]*.py")}
    assert names
    for name in names:
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        imported = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        siblings = {module.split(".")[2] for module in imported if module.startswith("uniwhisper.sources.")}
        assert not siblings & (names - {name}), f"{name} imports another source"


def test_no_path_of_a_machine_is_written_down() -> None:
    pattern = re.compile(r"(?<![\w>./-])/(work|home|root|tmp)/")
    paths = [*MODULES, ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("*.md"), *ROOT.glob("dev/*.md")]
    assert not [path.relative_to(ROOT) for path in paths if pattern.search(path.read_text(encoding="utf-8"))]


def test_only_two_environment_variables_are_ours() -> None:
    allowed = {"UNIWHISPER_HOME", "UNIWHISPER_OFFLINE"}
    texts = [path.read_text(encoding="utf-8") for path in [*MODULES, ROOT / "Makefile"]]
    words = {word for text in texts for word in text.replace('"', " ").replace("'", " ").split()}
    ours = {
        word.partition("=")[0].strip("`.,;:()") for word in words if word.startswith(("UNIWHISPER_", "`UNIWHISPER_"))
    }
    assert ours
    assert ours <= allowed
    assert os.environ["UNIWHISPER_HOME"], "the tests' own home, see conftest.py"
