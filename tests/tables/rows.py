"""Rows in and out of the transforms' tests: Bronze rows by what matters, results as dicts that compare exactly."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from types import ModuleType
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType, TimestampType

from lakehouse import contracts
from lakehouse.contracts.spark import schema
from lakehouse.session import local_frame

Row = dict[str, Any]

UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
NOON = dt.datetime(2025, 1, 15, 12, tzinfo=UTC)

DEFAULTS: dict[str, Row] = {
    "bronze.snowflake_orders": {
        "status": "PLACED",
        "amount": Decimal("10.00"),
        "currency": "EUR",
        "loaded_at": NOON,
    },
    "bronze.kafka_orders": {
        "topic": "orders_events",
        "partition": 0,
        "offset": 0,
        "broker_ts": NOON,
        "status": "PLACED",
        "amount": Decimal("10.00"),
        "currency": "EUR",
    },
    "bronze.salesforce_accounts": {"isdeleted": False, "createddate": NOON, "systemmodstamp": NOON},
    "bronze.salesforce_leads": {
        "isdeleted": False,
        "isconverted": False,
        "createddate": NOON,
        "systemmodstamp": NOON,
    },
    "bronze.hubspot_contacts": {"archived": False, "createdate": NOON, "lastmodifieddate": NOON},
    "bronze.vendor_shipments": {"file": "shipments_20250115.csv", "line": 1, "status": "CREATED"},
    "bronze.fx_rates": {"publication": "daily"},
}
SYSTEM: Row = {
    "_run_id": "run-1",
    "_source": "test",
    "_landed_at": NOON,
    "_position": "1",
    "_payload_hash": "-",
}


def at(text: str) -> dt.datetime:
    """An instant in UTC from ISO text."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def nullable(table: str) -> StructType:
    """The contract's schema with every column nullable."""
    return StructType([StructField(field.name, field.dataType) for field in schema(contracts.load(table))])


def complete(table: str, row: Row) -> Row:
    """A row with every column of the contract: given, default, or null."""
    known = SYSTEM | DEFAULTS.get(table, {}) | row
    names = contracts.load(table).columns
    unknown = set(row) - {column.name for column in names}
    assert not unknown, f"{table} has no columns {unknown}"
    return {column.name: known.get(column.name) for column in names}


def frame(spark: SparkSession, table: str, rows: Iterable[Row]) -> DataFrame:
    """A DataFrame of the contract's types; missing columns are filled as `complete` says."""
    fields = nullable(table)
    return local_frame(
        spark, [tuple(complete(table, row)[field.name] for field in fields) for row in rows], fields
    )


def collect(df: DataFrame) -> list[Row]:
    """Rows as dicts, timestamps as aware datetimes (Spark's own conversion fails at the ends of the calendar)."""
    times = [field.name for field in df.schema if isinstance(field.dataType, TimestampType)]
    raw = df.withColumns({name: F.unix_micros(name) for name in times}) if times else df
    rows = [row.asDict() for row in raw.collect()]
    for row in rows:
        for name in times:
            row[name] = None if row[name] is None else EPOCH + dt.timedelta(microseconds=row[name])
    return rows


def ordered(rows: Iterable[Row], *columns: str) -> list[Row]:
    """Rows in the order of `columns`, so that lists of rows compare."""
    return sorted(rows, key=lambda row: tuple((row[c] is not None, row[c]) for c in columns))


def assert_schema(df: DataFrame, table: str) -> None:
    """Names and types are the contract's, in its order."""
    got = [(field.name, field.dataType.simpleString()) for field in df.schema]
    assert got == [(field.name, field.dataType.simpleString()) for field in nullable(table)]


class Silver:
    """A Silver table that lives in Python: batches go through the module, winners stay."""

    def __init__(self, spark: SparkSession, module: ModuleType) -> None:
        self._spark = spark
        self._module = module
        self._rows: dict[tuple[Any, ...], Row] = {}
        self.classes: Counter[str] = Counter()
        self.generated: Counter[str] = Counter()

    @property
    def rows(self) -> list[Row]:
        return list(self._rows.values())

    def add(self, *batches: Sequence[Row]) -> list[Row]:
        """One batch, a list of rows for each input. Returns the resolved rows; counts add up in `classes`."""
        module = self._module
        source = module.transform(
            *(frame(self._spark, table, batch) for table, batch in zip(module.INPUTS, batches, strict=True))
        )
        assert_schema(source, module.TABLE)
        resolved = module.resolve(source, frame(self._spark, module.TABLE, self.rows))
        rows = collect(resolved)
        for row in rows:
            label, is_generated = row.pop("_class"), row.pop("_generated")
            (self.generated if is_generated else self.classes)[label] += 1
            key = tuple(row[column] for column in module.KEY)
            if label in ("inserted", "updated"):
                assert (label == "updated") == (key in self._rows), f"{label} {key}"
                assert key not in {k for k, kept in self._rows.items() if kept.get("_new")}, f"twice {key}"
                self._rows[key] = row | {"_new": True}
        for row in self._rows.values():
            row.pop("_new", None)
        return rows

    def one(self, *key: Any) -> Row:
        return self._rows[key]
