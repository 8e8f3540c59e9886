"""Values in publishers' JSON objects and lists of paths, checked where they are taken out.

Reads no files; everything that is not of the expected form is a LayoutError that begins with the value's place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from uniwhisper.errors import LayoutError, ManifestError

__all__ = ["gender", "plain_name", "relative_path", "text_field", "upstream_at"]

_MAX_NAME_BYTES = 255  # Source: NAME_MAX of Linux' file systems
_MAX_PATH_CHARS = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_GENDERS = {"f": "female", "female": "female", "m": "male", "male": "male"}


def text_field(row: Mapping[str, Any], name: str, where: str, *, default: str | None = None) -> str:
    """Return the field as stripped text; numbers become text too.

    Args:
        row: The object.
        name: The field.
        where: File and place, for messages.
        default: Returned where the field is missing, null or blank; without it that is an error.

    Raises:
        LayoutError: The field is missing, blank, or neither text nor finite number.
    """
    value = row.get(name)
    if value is None or value == "":
        value = default
    if (
        isinstance(value, bool)
        or not isinstance(value, str | int | float)
        or (isinstance(value, float) and not math.isfinite(value))
        or (default is None and not str(value).strip())
    ):
        fields = ", ".join(map(str, row))[:200] or "none"
        raise LayoutError(f"{where}: expected a text {name!r}, found {repr(value)[:80]} (fields: {fields})")
    return str(value).strip()


def upstream_at(where: str, make: Callable[..., str], *parts: Any) -> str:
    """Return `make(*parts)`, an identifier of `uniwhisper.identifiers`.

    Raises:
        LayoutError: There is no such identifier; the message begins with `where`.
    """
    try:
        return make(*parts)
    except ManifestError as e:
        raise LayoutError(f"{where}: {e}") from e


def gender(code: str, where: str) -> str:
    """Return `female` or `male` for a corpus's F, f, female, M, m or male.

    Raises:
        LayoutError: It is none of these.
    """
    name = _GENDERS.get(code.strip().casefold())
    if name is None:
        raise LayoutError(f"{where}: expected a gender F or M, found {code[:80]!r}")
    return name


def relative_path(text: str, where: str) -> PurePosixPath:
    """Return a path that an annotation names, which must stay below the corpus's folder.

    Raises:
        LayoutError: It is blank, absolute, longer than file systems allow, goes up with `..`, or has a control
            character in it.
    """
    path = PurePosixPath(text.removeprefix("./"))
    leaves = not path.name or path.is_absolute() or ".." in path.parts or "\\" in text or _CONTROL.search(text)
    if (
        leaves
        or len(text) > _MAX_PATH_CHARS
        or any(len(part.encode(errors="replace")) > _MAX_NAME_BYTES for part in path.parts)
    ):
        raise LayoutError(f"{where}: expected a path below the corpus's folder, found {text[:120]!r}")
    return path


def plain_name(text: str, where: str) -> str:
    """Return the name of a file in a folder that is known, without any folder of its own.

    Raises:
        LayoutError: It is blank, too long, has a slash or a control character in it, or is `.` or `..`.
    """
    if "/" in text or relative_path(text, where).name != text:
        raise LayoutError(f"{where}: expected the name of a file, without folders, found {text[:120]!r}")
    return text
