"""A subset of SOQL: SELECT fields | COUNT() FROM object [WHERE ...] [ORDER BY ...] [LIMIT n] [OFFSET n].

Conditions: = != <> < <= > >= LIKE IN NOT IN, AND OR NOT, parentheses; literals: 'text', datetimes, dates, numbers,
true, false, null. As in Salesforce a datetime literal needs a zone and must not be quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.saas import times

Row = Mapping[str, Any]
Test = Callable[[Row], bool]

TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^'\\]|\\.)*')
    | (?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)
    | (?P<date>\d{4}-\d\d-\d\d)
    | (?P<number>[+-]?\d+(?:\.\d+)?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    | (?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)


class SoqlError(Exception):
    """A query that Salesforce refuses, with its error code."""

    def __init__(self, message: str, code: str = "MALFORMED_QUERY") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Query:
    fields: tuple[str, ...]  # empty: COUNT()
    source: str
    where: Test
    order: tuple[tuple[str, bool, bool], ...]  # field, descending, nulls first
    limit: int | None
    offset: int


def parse(text: str, schema: Mapping[str, Mapping[str, str]]) -> Query:
    """Check a query against the objects and their fields (name: type) and compile it."""
    return _Parser(text, schema).query()


class _Parser:
    def __init__(self, text: str, schema: Mapping[str, Mapping[str, str]]) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        self._schema = schema
        self._fields: dict[str, str] = {}  # lower-case name: name
        self._types: Mapping[str, str] = {}
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = TOKEN.match(text, position)
            if match is None:
                raise SoqlError(f"unexpected token: '{text[position : position + 10]}'")
            self._tokens.append((str(match.lastgroup), str(match[str(match.lastgroup)])))
            position = match.end()

    def query(self) -> Query:
        self._expect("SELECT")
        names: list[str] = []
        if self._is("COUNT"):
            self._next()
            self._expect("(")
            self._expect(")")
        else:
            names.append(self._word())
            while self._is(","):
                self._next()
                names.append(self._word())
        self._expect("FROM")
        source = self._word()
        known = {name.lower(): name for name in self._schema}
        if source.lower() not in known:
            raise SoqlError(f"sObject type '{source}' is not supported.", "INVALID_TYPE")
        source = known[source.lower()]
        self._types = self._schema[source]
        self._fields = {name.lower(): name for name in self._types}
        fields = tuple(self._field(name) for name in names)
        if len(set(fields)) < len(fields):
            repeated = next(name for name in fields if fields.count(name) > 1)
            raise SoqlError(f"duplicate field selected: {repeated}", "MALFORMED_QUERY")
        where: Test = _always
        if self._is("WHERE"):
            self._next()
            where = self._or()
        order: list[tuple[str, bool, bool]] = []
        if self._is("ORDER"):
            self._next()
            self._expect("BY")
            order.append(self._sort())
            while self._is(","):
                self._next()
                order.append(self._sort())
        limit = self._count("LIMIT")
        offset = self._count("OFFSET") or 0
        if offset > 2000:
            raise SoqlError("Maximum SOQL offset allowed is 2000", "NUMBER_OUTSIDE_VALID_RANGE")
        if self._at < len(self._tokens):
            raise SoqlError(f"unexpected token: '{self._tokens[self._at][1]}'")
        return Query(fields, source, where, tuple(order), limit, offset)

    # Tokens ----------------------------------------------------------------------------------------------------

    def _is(self, word: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at][1].upper() == word

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise SoqlError("unexpected token: '<EOF>'")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, word: str) -> None:
        kind, text = self._next()
        if text.upper() != word or kind == "text":
            raise SoqlError(f"expecting '{word}', found '{text}'")

    def _word(self) -> str:
        kind, text = self._next()
        if kind != "word":
            raise SoqlError(f"unexpected token: '{text}'")
        return text

    def _field(self, name: str) -> str:
        found = self._fields.get(name.lower())
        if found is None:
            raise SoqlError(f"No such column '{name}' on entity.", "INVALID_FIELD")
        return found

    def _count(self, word: str) -> int | None:
        if not self._is(word):
            return None
        self._next()
        kind, text = self._next()
        if kind != "number" or not text.isdigit():
            raise SoqlError(f"unexpected token: '{text}'")
        return int(text)

    def _sort(self) -> tuple[str, bool, bool]:
        field, descending, nulls_first = self._field(self._word()), False, True
        if self._is("ASC") or self._is("DESC"):
            descending = self._next()[1].upper() == "DESC"
        if self._is("NULLS"):
            self._next()
            nulls_first = self._next()[1].upper() == "FIRST"
        return field, descending, nulls_first

    # Conditions ------------------------------------------------------------------------------------------------

    def _or(self) -> Test:
        tests = [self._and()]
        while self._is("OR"):
            self._next()
            tests.append(self._and())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _and(self) -> Test:
        tests = [self._not()]
        while self._is("AND"):
            self._next()
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _not(self) -> Test:
        if self._is("NOT"):
            self._next()
            test = self._not()
            return lambda row: not test(row)
        if self._is("("):
            self._next()
            test = self._or()
            self._expect(")")
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        field = self._field(self._word())
        kind, sign = self._next()
        sign = sign.upper()
        if sign == "NOT":
            self._expect("IN")
            sign = "NOT IN"
        if sign in ("IN", "NOT IN"):
            self._expect("(")
            values = {self._literal(field)}
            while self._is(","):
                self._next()
                values.add(self._literal(field))
            self._expect(")")
            return lambda row: (comparable(self._types[field], row.get(field)) in values) == (sign == "IN")
        if sign == "LIKE":
            pattern = str(self._literal(field))
            expression = re.compile(
                re.escape(pattern).replace("%", ".*").replace("_", "."), re.IGNORECASE | re.DOTALL
            )
            return lambda row: bool(expression.fullmatch(str(row.get(field) or "")))
        if kind != "sign" or sign not in SIGNS:
            raise SoqlError(f"unexpected token: '{sign}'")
        value, compare = self._literal(field), SIGNS[sign]
        if sign in ("=", "!=", "<>"):
            return lambda row: compare(comparable(self._types[field], row.get(field)), value)
        if value is None:
            raise SoqlError(f"invalid operator on null: {sign}")

        def test(row: Row) -> bool:
            found = comparable(self._types[field], row.get(field))
            return found is not None and type(found) is type(value) and compare(found, value)

        return test

    def _literal(self, field: str) -> Any:
        kind, text = self._next()
        wanted = self._types[field]
        if kind == "word" and text.lower() == "null":
            return None
        if kind == "text":
            if wanted in ("datetime", "boolean"):
                raise SoqlError(
                    f"{field}: value of filter criterion for field '{field}' must be of type {wanted} and should not "
                    "be enclosed in quotes",
                    "INVALID_FIELD",
                )
            return re.sub(r"\\(.)", r"\1", text[1:-1]).lower()
        if wanted == "boolean" and kind == "word" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if wanted == "datetime" and kind == "datetime" and re.search(r"(Z|[+-]\d\d:?\d\d)$", text):
            return times.parse(text)
        if wanted == "datetime" and kind in ("datetime", "date"):
            raise SoqlError(
                f"value of filter criterion for field '{field}' must be of type dateTime", "INVALID_FIELD"
            )
        raise SoqlError(f"unexpected token: '{text}'")


def _always(row: Row) -> bool:
    return True


SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<>": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def comparable(kind: str, value: Any) -> str | bool | datetime | None:
    """A stored value as conditions and sorting see it: text without case, times as times."""
    if value is None or value == "":
        return None
    if kind == "boolean":
        return bool(value) if isinstance(value, bool) else str(value).lower() == "true"
    if kind == "datetime":
        return times.parse(value)
    return str(value).lower()


def ordered(rows: list[Row], query: Query, kinds: Mapping[str, str]) -> list[Row]:
    """Rows in the query's order; equal ones keep theirs."""
    for field, descending, nulls_first in reversed(query.order):
        present = [r for r in rows if comparable(kinds[field], r.get(field)) is not None]
        absent = [r for r in rows if comparable(kinds[field], r.get(field)) is None]
        present.sort(key=lambda r: _sortable(comparable(kinds[field], r.get(field))), reverse=descending)
        rows = absent + present if nulls_first else present + absent
    return rows


def _sortable(value: Any) -> Any:
    return value
