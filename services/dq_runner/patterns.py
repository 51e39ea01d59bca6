"""Patterns of names, as config/dq_platform.yaml and config/dq_rules/ write them.

``*`` is any run of characters and ``?`` any one; case makes no difference, as in Snowflake's own names without quotes.
A part in double quotes is the very name, dots, stars and case included: ``SALES.PUBLIC."odd.name"``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

from dq_runner.model import TableName

_PART = re.compile(r'"(?:[^"]|"")*"|[^".]+', re.DOTALL)


def parts(pattern: str) -> tuple[str, ...]:
    """The parts between the dots. Raises ValueError where one is empty or a quote is not closed."""
    found: list[str] = []
    place = 0
    while True:
        match = _PART.match(pattern, place)
        if match is None or match.group() == '""':
            raise ValueError("names with dots between them, a name with a dot or a quote in double quotes")
        found.append(match.group())
        place = match.end()
        if place == len(pattern):
            return tuple(found)
        if pattern[place] != ".":
            raise ValueError("names with dots between them, a name with a dot or a quote in double quotes")
        place += 1


def matches(pattern: str, name: str) -> bool:
    """Whether one part of a pattern means this name."""
    return _compiled(pattern).fullmatch(name) is not None


def matches_table(pattern: str, table: TableName) -> bool:
    """Whether a pattern of three parts means this table; one of fewer parts means its last names."""
    names = (table.database, table.schema, table.name)
    found = parts(pattern)
    return all(matches(part, name) for part, name in zip(reversed(found), reversed(names), strict=False))


def is_exact(pattern: str) -> bool:
    """Whether a pattern means one name and no more."""
    return all(part.startswith('"') or not set("*?") & set(part) for part in parts(pattern))


def plain(part: str) -> str:
    """The name in a part: without its quotes."""
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


@lru_cache(maxsize=4096)
def _compiled(part: str) -> re.Pattern[str]:
    if part.startswith('"'):
        return re.compile(re.escape(plain(part)))
    first, *others = (
        "".join("." if sign == "?" else re.escape(sign) for sign in piece) for piece in re.split(r"\*+", part)
    )
    # What follows a star is taken where it is found first, for good: trying all places would take ages.
    between = "".join(f"(?>.*?{piece})" for piece in others[:-1])
    last = f".*{others[-1]}" if others else ""
    return re.compile(f"{first}{between}{last}", re.IGNORECASE | re.DOTALL)


def _of(least: int, most: int, form: str) -> AfterValidator:
    def check(value: str) -> str:
        if not least <= len(parts(value)) <= most:
            raise ValueError(form)
        return value

    return AfterValidator(check)


#: A name of one part.
NamePattern = Annotated[str, _of(1, 1, "one name or pattern, without dots")]
#: SCHEMA, or DATABASE.SCHEMA.
SchemaPattern = Annotated[str, _of(1, 2, "SCHEMA or DATABASE.SCHEMA")]
#: TABLE, SCHEMA.TABLE, or all three.
TablePattern = Annotated[str, _of(1, 3, "DATABASE.SCHEMA.TABLE, or its last parts")]
#: DATABASE.SCHEMA.TABLE, each a name or a pattern.
FullPattern = Annotated[str, _of(3, 3, "DATABASE.SCHEMA.TABLE")]


def written(table: TableName) -> str:
    """A table's name as a pattern that means it: what would be read as something else in double quotes."""
    return ".".join(map(_written, (table.database, table.schema, table.name)))


def _written(name: str) -> str:
    return name if re.fullmatch(r"[\w$]+", name) else '"' + name.replace('"', '""') + '"'
