"""`python -m uniwhisper`: the same as the `uniwhisper` command."""

from __future__ import annotations

from uniwhisper.cli import main

if __name__ == "__main__":
    main()
