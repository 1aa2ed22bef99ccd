#!/usr/bin/env python3
"""Prints docs/commands.md, the pages of help in one: python tools/commands.py > docs/commands.md"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.__main__ import VERBS, overview, parser_of

HEAD = """# Commands

Written by `python tools/commands.py > docs/commands.md` from what `--help` prints. Where the package is installed,
`ressformer VERB` is the same as `python -m experiments VERB`. It finds its own modules whatever lies in the working
folder, and looks for yours there last.
"""


def main() -> None:
    """Print the page."""
    print(HEAD)
    print(f"```text\n{overview()}```")
    for verb in VERBS:
        print(f"\n## {verb}\n\n```text\n{parser_of(verb).format_help()}```")


if __name__ == "__main__":
    main()
