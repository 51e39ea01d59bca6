"""Texts of sources on a terminal: shown, never obeyed."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def harmless(text: str) -> str:
    """One line, with what a terminal would obey or nobody would see spelt out: controls, escapes, directions."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def say(text: str = "", file: TextIO | None = None) -> None:
    """Print a text of one or more lines (to stdout by default); within the lines everything is harmless."""
    print("\n".join(map(harmless, text.split("\n"))), file=file)


def say_lake(program: str, lake_uri: str) -> None:
    """Name the lake that a command reads, on stderr. On a laptop all lakes are of one bucket: the endpoint tells them
    apart."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    say(f"{program}: lake {lake_uri}" + (f" at {endpoint}" if endpoint else ""), file=sys.stderr)
