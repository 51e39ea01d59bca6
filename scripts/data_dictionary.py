#!/usr/bin/env python3
"""Write docs/data-dictionary.md from the contracts, or check that it is up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "data-dictionary.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/data_dictionary.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is stale")
    arguments = parser.parse_args()
    sys.path[:0] = [str(REPO / "src"), str(REPO)]
    from lakehouse.contracts import load_all
    from lakehouse.contracts.dictionary import markdown
    from lakehouse.errors import LakehouseError

    try:
        page = markdown(load_all())
    except LakehouseError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    if arguments.check:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
            return 0
        print("docs/data-dictionary.md is stale: run make docs", file=sys.stderr)
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
