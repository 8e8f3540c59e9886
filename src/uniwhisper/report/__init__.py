"""Show what was measured: results in, one self-contained HTML page out, and the paper's tables and figures as files.

    files -> reading, details, training, projection, players -> view -> tables, sections, paper_tables, plates -> page

Nothing is measured here: scores and intervals come from the results as they stand.
"""

from __future__ import annotations

from uniwhisper.report.page import write_report

__all__ = ["write_report"]
