"""What a column's name says of its values.

Words of a name stand between underscores: ORDER_ID is ORDER and ID. A convention that is wrong for a column is
switched off by a line of ``off`` in config/dq_rules/, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
_KEYED: tuple[Family, ...] = ("text", "integer", "decimal")
_NUMBERS: tuple[Family, ...] = ("integer", "decimal", "float")


def words(name: str) -> list[str]:
    """ORDER_ID, orderId and "Order Id" are the words ORDER and ID."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [word.upper() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]


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
    for column in table.columns:
        for kind, params in _of(column, table, known, few):
            yield Rule(kind, (column.name,), severity, "convention", params=params)


def _of(
    column: Column, table: Table, known: Mapping[TableName, Table], few: int
) -> Iterator[tuple[Kind, dict[str, Any]]]:
    named = words(column.name)
    if not named:
        return
    if column.family in _KEYED:
        yield from _key(column, named, table, known)
    if column.family == "text":
        yield from _text(named, few)
    if column.family in ("date", "timestamp") and not _AHEAD & set(named):
        yield "not_in_future", {}
    if column.family in _NUMBERS and _AMOUNTS & set(named) and not _SIGNED & set(named) and named[-1] != "ID":
        yield "range", {"min": 0}


def _key(
    column: Column, named: list[str], table: Table, known: Mapping[TableName, Table]
) -> Iterator[tuple[Kind, dict[str, Any]]]:
    if named == ["ID"] or named == [*_entity(table.name.name), "ID"]:
        yield "not_null", {}
        yield "unique", {}
    elif named[-1] == "ID":
        found = _referred(named[:-1], column, table, known)
        if found is not None:
            parent, key = found
            yield "referential", {"to": parent.name, "to_columns": (key.name,)}


def _entity(name: str) -> list[str]:
    """What a row of a table is: DIM_CUSTOMERS has a CUSTOMER in each."""
    named = words(name)
    named = named[1:] if len(named) > 1 and named[0] in ("DIM", "FACT", "FCT", "STG", "RAW", "TBL") else named
    return [*named[:-1], singular(named[-1])] if named else []


def _referred(
    entity: list[str], column: Column, table: Table, known: Mapping[TableName, Table]
) -> tuple[Table, Column] | None:
    """The one table of the same schema that is named so, and its id; none where several are, or the types differ."""
    here = (table.name.database, table.name.schema)
    wanted = [*entity[:-1], singular(entity[-1])] if entity else []
    found = [
        other
        for name, other in known.items()
        if (name.database, name.schema) == here
        and name != table.name
        and other.kind != "view"
        and wanted == _entity(name.name)
    ]
    if len(found) != 1:
        return None
    keys = [key for key in found[0].columns if words(key.name) in (["ID"], [*wanted, "ID"])]
    fitting = [key for key in keys if key.family == column.family]
    return (found[0], fitting[0]) if len(keys) == 1 and fitting else None


def _text(named: list[str], few: int) -> Iterator[tuple[Kind, dict[str, Any]]]:
    last = named[-1]
    if last == "EMAIL" or named[-2:] in (["E", "MAIL"], ["EMAIL", "ADDRESS"], ["MAIL", "ADDRESS"]):
        yield "regex", {"pattern": EMAIL, "said": "an e-mail address"}
    elif last in _CURRENCY or named[-2:] in (["CURRENCY", "CODE"], ["CCY", "CODE"]):
        yield "accepted_values", {"values": CURRENCIES, "said": "a currency of ISO 4217"}
    elif named[-2:] in (
        ["COUNTRY", "CODE"],
        ["COUNTRY", "ISO"],
        ["ISO", "COUNTRY"],
        ["COUNTRY", "ISO2"],
        ["COUNTRY", "ISO3"],
    ):
        yield (
            "accepted_values",
            {"values": COUNTRIES, "said": "a country of ISO 3166-1, of two letters or three"},
        )
    elif last in _STATUSES:
        yield "few_values", {"max": few}
