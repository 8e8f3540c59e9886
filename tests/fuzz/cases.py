"""How many cases the fuzz tests try; one place, so that they can be added up.

`UNIWHISPER_FUZZ_CASES=1000 pytest tests/fuzz` damages every corpus in 1000 ways instead of 150; the first ones are the
same every time.
"""

from __future__ import annotations

import os

__all__ = ["CASES", "EXAMPLES", "SLICE_CASES"]

CASES = int(os.environ.get("UNIWHISPER_FUZZ_CASES", "150"))
"""Ways to damage each fixture, in each of its layouts."""
SLICE_CASES = CASES // 3
"""Ways to damage each set of real annotation files."""
EXAMPLES = CASES
"""Inputs that hypothesis makes for each reader."""
