"""CSV as RFC 4180 has it, strictly: every line of a text is in exactly one record, and what is no record says why.

Fields are separated by commas; one with a comma, a quote or a line break is in double quotes, and a quote in it is
doubled. A line ends in LF or CRLF, the last one may end with the text. Blank lines are no records.

A quote in the wrong place would swallow what follows, up to the next quote. So a line that breaks the rules is a
record of its own, with a fault, and reading goes on with the line after it. Where quotes that are well placed hold
lines that read as rows by themselves, nobody can tell which was meant: each of these lines is a record with a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')
_PLAIN = re.compile(r'[^",\r\n]*+')
# A line by itself: a quoted field, or else whatever stands before the next comma.
_LOOSE = re.compile(r'(?:"[^"]*+(?:""[^"]*+)*+"(?=,|$)|[^,]*+)(?:,|$)')

NEVER_CLOSED = "a quote that is never closed"
SWALLOWED = "quotes around lines that read as rows by themselves"
_STRAY = {
    '"': "a quote in a cell without quotes",
    "\r": "a carriage return outside of quotes",
}
_BEHIND = "text behind a closing quote"


class Record(NamedTuple):
    """A row of a CSV text: the line on which it begins (from 1), its cells, and why it is none.

    Cells of a record with a ``fault`` are what stands between the commas of its line.
    """

    line: int
    cells: list[str]
    fault: str | None = None


def records(text: str) -> Iterator[Record]:
    """The records of a text, the header among them, which says how many cells a row has. Raises nothing."""
    position, line, width = 0, 1, 0
    while position < len(text):
        end = text.find("\n", position) + 1 or len(text)
        raw = text[position:end]
        if '"' not in raw:
            found = _plain(line, _body(raw))
        else:
            whole = _quoted(text, position)
            if isinstance(whole, str):
                found = [Record(line, _body(raw).split(","), whole)]
            else:
                end, cells = whole
                found = _told_apart(text[position:end], line, width, cells)
        if found:
            width = width or len(found[0].cells)
            yield from found
        line += 1 if end - position == len(raw) else text.count("\n", position, end)
        position = end


def _plain(line: int, body: str) -> list[Record]:
    """A line without a quote; a blank one is none."""
    if not body:
        return []
    return [Record(line, body.split(","), _STRAY["\r"] if "\r" in body else None)]


def _quoted(text: str, position: int) -> tuple[int, list[str]] | str:
    """Where the record at a position ends, and its cells; or why there is none."""
    cells: list[str] = []
    while True:
        is_quoted = text.startswith('"', position)
        found = (_QUOTED if is_quoted else _PLAIN).match(text, position)
        if found is None:
            return NEVER_CLOSED
        cells.append(found[1].replace('""', '"') if is_quoted else found[0])
        position = found.end()
        behind = text[position : position + 2]
        if behind[:1] == ",":
            position += 1
        elif behind[:1] == "\n":
            return position + 1, cells
        elif behind in ("", "\r", "\r\n"):
            return position + len(behind), cells
        else:
            return _BEHIND if is_quoted and behind[0] != "\r" else _STRAY[behind[0]]


def _told_apart(raw: str, line: int, width: int, cells: list[str]) -> list[Record]:
    """The record; or, where its quotes may have swallowed rows, each of its lines as one."""
    lines = [_body(each) for each in raw.removesuffix("\n").split("\n")]
    if len(lines) == 1 or not _read_as_rows(lines, width):
        return [Record(line, cells)]
    return [Record(line + n, each.split(","), SWALLOWED) for n, each in enumerate(lines)]


def _read_as_rows(lines: Sequence[str], width: int) -> bool:
    """Whether a line in the middle has as many cells as the header, or the first and the last have."""
    is_row = [1 + sum(found[0].endswith(",") for found in _LOOSE.finditer(line)) == width for line in lines]
    return width > 1 and (any(is_row[1:-1]) or (is_row[0] and is_row[-1]))


def _body(raw: str) -> str:
    """A line without its end."""
    return raw.removesuffix("\n").removesuffix("\r")
