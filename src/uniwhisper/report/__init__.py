"""Show what was measured: results in, one self-contained HTML page out.

    files -> reading, training, projection, players -> figures, tables, sections -> page

Nothing is measured here: scores and intervals come from the results as they stand.
"""

from __future__ import annotations

from uniwhisper.report.page import write_report

__all__ = ["write_report"]
