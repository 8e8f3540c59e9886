from __future__ import annotations

from uniwhisper.errors import LayoutError


def test_messages_stay_readable_whatever_they_quote() -> None:
    assert str(LayoutError("file:7: expected a number, found 'x'")) == "file:7: expected a number, found 'x'"
    long = str(LayoutError(f"file:7: expected a number, found {'x' * 10_000!r}; give the publisher's own file"))
    assert long.startswith("file:7: expected a number, found 'xxx")
    assert long.endswith("xxx'; give the publisher's own file")
    assert len(long) < 3_100
