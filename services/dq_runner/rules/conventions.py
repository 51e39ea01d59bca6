"""What a column's name says of its values.

Words of a name stand between underscores: ORDER_ID is ORDER and ID. A convention that is wrong for a column is
switched off by a line of ``off`` in config/dq_rules/, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from dq_runner.model import Column, Family, Kind, Rule, Severity, Table, TableName
from dq_runner.rules.codes import COUNTRIES, CURRENCIES, listed

EMAIL = r"[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:].]+"

#: A date that is expected to lie ahead.
_AHEAD = frozenset(
    listed("""
    DUE DEADLINE END ENDS ENDED ETA EXPIRES EXPIRE EXPIRED EXPIRY EXPIRATION ESTIMATED EXPECTED FORECAST FUTURE
    MATURITY NEXT PLANNED PROMISED PROJECTED RENEWAL RENEWS SCHEDULED TARGET THROUGH TO UNTIL VALID
""")
)
#: What is counted or paid, and not below zero.
_AMOUNTS = frozenset(
    listed("""
    AMOUNT AMT COST COUNT FEE PRICE QTY QUANTITY RATE REVENUE SALARY SUBTOTAL TAX TOTAL WEIGHT
""")
)
#: With one of these, it may well be.
_SIGNED = frozenset(
    listed("""
    ADJUSTMENT ALLOWANCE BALANCE CHANGE CORRECTION CREDIT DELTA DIFF DIFFERENCE DISCOUNT GAIN GROWTH LOSS MARGIN
    NET PROFIT REFUND REFUNDED REFUNDS RETURN RETURNED REVERSAL VARIANCE WRITEOFF
""")
)
_STATUSES = frozenset(
    listed("""
    STATUS STATE TYPE KIND CATEGORY STAGE PHASE PRIORITY SEVERITY CHANNEL TIER SEGMENT
""")
)
_CURRENCY = frozenset({"CURRENCY", "CCY", "CURR"})
_EMAILS = (("E", "MAIL"), ("EMAIL", "ADDRESS"), ("MAIL", "ADDRESS"))
_COUNTRIES = (
    ("COUNTRY", "CODE"),
    ("ISO", "COUNTRY"),
    *(("COUNTRY", code) for code in ("ISO", "ISO2", "ISO3")),
)
_PREFIXES = ("DIM", "FACT", "FCT", "STG", "RAW", "TBL")
_KEYED: tuple[Family, ...] = ("text", "integer", "decimal")
_NUMBERS: tuple[Family, ...] = ("integer", "decimal", "float")


@lru_cache(maxsize=65_536)
def words(name: str) -> tuple[str, ...]:
    """ORDER_ID, orderId and "Order Id" are the words ORDER and ID."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return tuple(word.upper() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word)


def singular(word: str) -> str:
    """ORDERS is of ORDER, CURRENCIES of CURRENCY, ADDRESSES of ADDRESS."""
    for ending, instead in (
        ("IES", "Y"),
        ("SSES", "SS"),
        ("XES", "X"),
        ("CHES", "CH"),
        ("SHES", "SH"),
        ("SS", "SS"),
        ("S", ""),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    return word


def conventions(
    table: Table, known: Mapping[TableName, Table], severity: Severity, few: int
) -> Iterator[Rule]:
    """The rules that the names of a table's columns stand for."""
    siblings = _siblings(table, known)
    for column in table.columns:
        for kind, params in _of(column, table, siblings, few):
            yield Rule(kind, (column.name,), severity, "convention", params=params)


Siblings = Mapping[tuple[str, ...], Sequence[Table]]
Found = Iterator[tuple[Kind, dict[str, Any]]]


def _siblings(table: Table, known: Mapping[TableName, Table]) -> Siblings:
    """The other tables of the schema by what a row of theirs is."""
    here = (table.name.database, table.name.schema)
    found: dict[tuple[str, ...], list[Table]] = {}
    for name, other in known.items():
        if (name.database, name.schema) == here and name != table.name and other.kind != "view":
            found.setdefault(_entity(name.name), []).append(other)
    return found


def _of(column: Column, table: Table, siblings: Siblings, few: int) -> Found:
    named = words(column.name)
    if not named:
        return
    if column.family in _KEYED:
        yield from _key(column, named, table, siblings)
    if column.family == "text":
        yield from _text(named, few)
    if column.family in ("date", "timestamp") and not _AHEAD & set(named):
        yield "not_in_future", {}
    if column.family in _NUMBERS and _is_amount(named):
        yield "range", {"min": 0}


def _is_amount(named: tuple[str, ...]) -> bool:
    each = {*named, *map(singular, named)}
    return bool(_AMOUNTS & each) and not _SIGNED & each and named[-1] != "ID"


def _key(column: Column, named: tuple[str, ...], table: Table, siblings: Siblings) -> Found:
    if named in (("ID",), (*_entity(table.name.name), "ID")):
        yield "not_null", {}
        yield "unique", {}
    elif named[-1] == "ID":
        for parent, key in _referred(named[:-1], column, siblings):
            yield "referential", {"to": parent.name, "to_columns": (key.name,)}


@lru_cache(maxsize=65_536)
def _entity(name: str) -> tuple[str, ...]:
    """What a row of a table is: DIM_CUSTOMERS has a CUSTOMER in each."""
    named = words(name)
    return _one(named[1:] if len(named) > 1 and named[0] in _PREFIXES else named)


def _one(named: tuple[str, ...]) -> tuple[str, ...]:
    return (*named[:-1], singular(named[-1])) if named else ()


def _referred(entity: tuple[str, ...], column: Column, siblings: Siblings) -> list[tuple[Table, Column]]:
    """The one table that is named so, with its id; none where several are, or where the types differ."""
    wanted = _one(entity)
    tables = siblings.get(wanted, ())
    keys = [
        (table, key)
        for table in tables
        for key in table.columns
        if words(key.name) in (("ID",), (*wanted, "ID"))
    ]
    return keys if len(tables) == len(keys) == 1 and keys[0][1].family == column.family else []


def _text(named: tuple[str, ...], few: int) -> Found:
    last = named[-1]
    if last == "EMAIL" or named[-2:] in _EMAILS:
        yield "regex", {"pattern": EMAIL, "said": "an e-mail address"}
    elif last in _CURRENCY or (named[-1] == "CODE" and _CURRENCY & set(named[-2:])):
        yield "accepted_values", {"values": CURRENCIES, "said": "a currency of ISO 4217"}
    elif named[-2:] in _COUNTRIES:
        said = "a country of ISO 3166-1, of two letters or three"
        yield "accepted_values", {"values": COUNTRIES, "said": said}
    elif last in _STATUSES:
        yield "few_values", {"max": few}
