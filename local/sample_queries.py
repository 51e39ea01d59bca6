"""athena_queries/sample_queries.sql, taken apart into its named queries."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "athena_queries" / "sample_queries.sql"
_SECTION = re.compile(r"^-- section: (.+)$")
_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$")


@dataclass(frozen=True)
class Query:
    """A named query: what it answers, in one line, and its statement without the semicolon."""

    name: str
    section: str
    answers: str
    sql: str


class MalformedFile(ValueError):
    """The file does not have its form; the message names the line."""


class UnknownQuery(LookupError):
    """There is no query of that name; the message names those that come near."""


def parse(text: str) -> dict[str, Query]:
    """Queries by name, in the order of the file. Raises MalformedFile."""
    found: dict[str, Query] = {}
    lines = text.splitlines()
    section = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if match := _SECTION.match(line):
            section = match[1]
        elif match := _NAME.match(line):
            start, name = number, match[1]
            while number < len(lines) and not lines[number].rstrip().endswith(";"):
                number += 1
            block = lines[start : number + 1]
            number += 1
            if len(block) < 2 or not block[0].startswith("-- ") or not block[-1].rstrip().endswith(";"):
                raise MalformedFile(
                    f"line {start}: {name} needs a comment line that says what it answers, then a statement;"
                )
            if any(_NAME.match(each) or _SECTION.match(each) for each in block):
                raise MalformedFile(f"line {start}: {name} has no semicolon before the next header")
            if name in found:
                raise MalformedFile(f"line {start}: there are two queries {name}")
            sql = "\n".join(block[1:]).rstrip().removesuffix(";")
            found[name] = Query(name, section, block[0].removeprefix("-- "), sql)
        elif line.strip() and not line.startswith("--"):
            raise MalformedFile(f"line {number}: a statement without `-- name:` before it: {line}")
    return found


def load() -> dict[str, Query]:
    """The queries of the repository's file."""
    return parse(FILE.read_text(encoding="utf-8"))


def named(name: str) -> Query:
    """One of them. Raises UnknownQuery."""
    queries = load()
    try:
        return queries[name]
    except KeyError:
        near = difflib.get_close_matches(name, queries, n=3) or list(queries)
        raise UnknownQuery(f"there is no query {name} in {FILE.name}; there are: {', '.join(near)}") from None


def listing(queries: dict[str, Query]) -> str:
    """Names and what they answer, by section."""
    width = max(map(len, queries))
    lines: list[str] = []
    section = ""
    for query in queries.values():
        if query.section != section:
            section = query.section
            lines += ["", f"{section[0].upper()}{section[1:]}"]
        lines.append(f"  {query.name:<{width}}  {query.answers}")
    return "\n".join(lines[1:])
