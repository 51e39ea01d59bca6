"""Texts of sources on a terminal: shown, never obeyed."""

from __future__ import annotations

from typing import TextIO


def harmless(text: str) -> str:
    """One line, with what a terminal would obey or nobody would see spelt out: controls, escapes, directions."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def say(text: str = "", file: TextIO | None = None) -> None:
    """Print a text of one or more lines (to stdout by default); within the lines everything is harmless."""
    print("\n".join(map(harmless, text.split("\n"))), file=file)
