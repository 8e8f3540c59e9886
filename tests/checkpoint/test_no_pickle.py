from __future__ import annotations

import ast
import re
from pathlib import Path

import uniwhisper

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
    found.pop("train/workers.py", None)  # asks whether an error of its own can pass between processes; reads no file
    assert {name: uses for name, uses in found.items() if uses} == {}
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in modules}
    loads = {name: text for name, text in texts.items() if "torch.load" in text}
    assert sorted(loads) == ["encoders/_hub.py", "weights/openai.py"], "formats of others, read as tensors alone"
    for name, text in loads.items():
        calls = re.findall(r"torch\.load\(.*?\)", text)
        assert calls
        assert all("weights_only=True" in call for call in calls), name
