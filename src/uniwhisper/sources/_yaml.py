"""Reader of YAML annotation files: one object in a file, plain values only.

Reads one file through PyYAML's safe loader, which makes no objects of its own; returns the object at its top. A file
whose anchors repeat its parts without bound is refused before they are. The caller counts its records in
`Context.rows`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

import yaml

from uniwhisper.errors import LayoutError

__all__ = ["read_yaml"]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, and not everywhere
_MAX_NODES = 1_000_000
_MAX_NUMBER_CHARS = 100
_MAX_DEPTH = 64


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the object in a YAML file.

    Raises:
        LayoutError: The file is missing, not UTF-8, not YAML, repeats its parts without bound, or holds something else
            than an object with named fields.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        _check_depth(text)
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _num_nodes(node, {})
            content = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except OSError as e:
        raise LayoutError(f"expected the annotation file {path}, found none that can be read ({e})") from e
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        raise LayoutError(f"{path}: expected YAML, found: {' '.join(str(e).split())[:300]}") from e
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise LayoutError(f"{path}: expected an object with named fields, found {str(content)[:60]!r}")
    return cast(dict[str, Any], content)


def _check_depth(text: str) -> None:
    """Raise ValueError if objects and lists stand in one another deeper than any do; loaders would run out of stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError(f"objects or lists in one another, more than {_MAX_DEPTH} deep")


def _num_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many nodes there are from `node` on, where one that is repeated by an anchor counts every time.

    Raises:
        ValueError: They are too many, one holds itself, an object has a name twice, or a value is no text or number for
            Python.
    """
    if isinstance(node, yaml.ScalarNode):
        node.value.encode()
        if node.tag.endswith((":int", ":float")) and len(node.value) > _MAX_NUMBER_CHARS:
            raise ValueError(f"a number of {len(node.value)} digits at line {node.start_mark.line + 1}")
        return 1
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MAX_NODES  # until it is known: what holds itself is without bound
    if isinstance(node, yaml.MappingNode):
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"{twice[0][:80]!r} twice in the object at line {node.start_mark.line + 1}")
    parts = (part for pair in node.value for part in pair) if isinstance(node, yaml.MappingNode) else node.value
    total = 1 + sum(_num_nodes(part, known) for part in parts)
    if total > _MAX_NODES:
        raise ValueError(f"an object that repeats its parts without bound at line {node.start_mark.line + 1}")
    known[id(node)] = total
    return total
