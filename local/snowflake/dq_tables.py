"""Tables with known flaws for the data-quality runner: SALES.SHOP, and the sample's orders in SALES.PUBLIC.

The same day gives the same rows: nothing is drawn by chance but by seeds, and dates are counted back from the day. Each
table has eight weeks of days that are built alike; the last of them, the day before ``today``, has the flaws. What the
runner has to find is declared where the rows are made, and counted from nothing else.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from local.samples import crm, orders
from local.samples.base import Flaws, Sizes, Spec

DATABASE, SCHEMA = "SALES", "SHOP"
ORDERS = "SALES.PUBLIC.ORDERS"
DAYS = 57  # the last of them under test, eight weeks of history before it
ODD = 'it\'s; "odd".näme'
SILENT_DAYS = 35  # since RETURNS has had rows
ORDER_ROWS = 20_000

Status = Literal["failed", "error", "skipped"]
Row = dict[str, Any]
_COUNTRIES, _CURRENCIES = ("DE", "FR", "NL", "US", "GB"), ("EUR", "USD", "GBP")


@dataclass(frozen=True)
class Flaw:
    """What the runner has to say of a table: the rule as the report calls it, and how many rows break it.

    ``rows`` None: the rule counts none. ``is_old``: it was so the day before already.
    """

    schema: str
    table: str
    rule: str
    rows: int | None = None
    status: Status = "failed"
    is_old: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        return self.schema, self.table, self.rule


@dataclass
class Made:
    """A table with its rows, or a view (``query``) and the rows that it has to have.

    ``read`` is what the runner's user may do with it: SELECT, REFERENCES or nothing.
    """

    name: str
    columns: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    dated: str | None = "LOADED_AT"
    transient: bool = False
    read: str | None = "SELECT"
    query: str = ""

    @cached_property
    def by_day(self) -> dict[date, list[Row]]:
        """The rows by the day on which they came in."""
        found: dict[date, list[Row]] = {}
        if self.dated is not None:
            for row in self.rows:
                found.setdefault(row[self.dated].date(), []).append(row)
        return found


@dataclass
class Shop:
    """All tables of the schema, and what is wrong with them."""

    today: date
    tables: list[Made] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)

    @property
    def day(self) -> date:
        """The day under test."""
        return self.today - timedelta(days=1)

    @property
    def days(self) -> list[date]:
        return [self.day - timedelta(days=back) for back in reversed(range(DAYS))]

    def table(self, name: str) -> Made:
        return next(table for table in self.tables if table.name == name)

    def declare(
        self,
        table: str,
        rule: str,
        rows: int | None = None,
        status: Status = "failed",
        *,
        is_old: bool = False,
    ) -> None:
        self.flaws.append(Flaw(SCHEMA, table, rule, rows, status, is_old))


def shop(today: date) -> Shop:
    """The tables of a day and what the runner has to find in them."""
    made = Shop(today)
    for make in (_customers, _payments, _invoices, _shipments, _events, _odd, _returns, _others):
        make(made)
    return made


# Tables --------------------------------------------------------------------------------------------------------


def _customers(made: Shop) -> None:
    """Ids that are missing or there twice, addresses that are none, countries that there are not."""

    def row(day: date, number: int, at: datetime) -> Row:
        return {
            "CUSTOMER_ID": f"CUS-{day:%Y%m%d}-{number:04d}",
            "EMAIL": f"customer{number}.{day:%d%m}@example.com",
            "COUNTRY_CODE": _COUNTRIES[number % 5],
            "STATUS": ("ACTIVE", "ACTIVE", "NEW", "CLOSED")[number % 4],
            "CREATED_AT": at - timedelta(minutes=1),
            "LOADED_AT": at,
        }

    columns = dict.fromkeys(("CUSTOMER_ID", "EMAIL", "COUNTRY_CODE", "STATUS"), "VARCHAR")
    table = Made("CUSTOMERS", columns | {"CREATED_AT": "TIMESTAMP_NTZ", "LOADED_AT": "TIMESTAMP_NTZ"})
    table.rows = list(_rows(made.days, 150, row))
    spoiled = _spoiled(table, made)
    first = table.by_day[made.day][0]["CUSTOMER_ID"]
    _put(spoiled, 2, CUSTOMER_ID=None)
    _put(spoiled, 3, CUSTOMER_ID=first)
    _put(spoiled, 4, EMAIL="nobody at example.com")
    _put(spoiled, 2, COUNTRY_CODE="XX")
    made.tables.append(table)
    made.declare("CUSTOMERS", "not_null(CUSTOMER_ID)", 2)
    made.declare("CUSTOMERS", "unique(CUSTOMER_ID)", 3)
    made.declare("CUSTOMERS", "regex(EMAIL)", 4)
    made.declare("CUSTOMERS", "accepted_values(COUNTRY_CODE)", 2)


def _payments(made: Shop) -> None:
    """Amounts below zero, customers that there are not, days to come, payments of an earlier day again."""
    known = {
        day: [row["CUSTOMER_ID"] for row in rows] for day, rows in made.table("CUSTOMERS").by_day.items()
    }
    customers = {day: [name for name in names if name] for day, names in known.items()}

    def row(day: date, number: int, at: datetime) -> Row:
        return {
            "PAYMENT_ID": f"PAY-{day:%Y%m%d}-{number:04d}",
            "CUSTOMER_ID": customers[day][number % len(customers[day])],
            "AMOUNT": _money(day, number),
            "CURRENCY": _CURRENCIES[number % 3],
            "METHOD": ("CARD", "TRANSFER", "WALLET")[number % 3],
            "STATUS": ("SETTLED", "SETTLED", "SETTLED", "REFUNDED")[number % 4],
            "REFUND_REASON": "returned" if number % 4 == 3 else None,
            "PAID_AT": at - timedelta(minutes=2),
            "LOADED_AT": at,
        }

    text = dict.fromkeys(("METHOD", "STATUS", "REFUND_REASON"), "VARCHAR")
    columns = {
        "PAYMENT_ID": "VARCHAR",
        "CUSTOMER_ID": "VARCHAR",
        "AMOUNT": "NUMBER(12,2)",
        "CURRENCY": "VARCHAR",
    }
    table = Made("PAYMENTS", columns | text | {"PAID_AT": "TIMESTAMP_TZ", "LOADED_AT": "TIMESTAMP_NTZ"})
    table.rows = list(_rows(made.days, 300, row))
    spoiled = _spoiled(table, made)
    earlier = table.by_day[made.day - timedelta(days=3)][0]["PAYMENT_ID"]
    _put(spoiled, 5, AMOUNT=Decimal("-12.50"))
    _put(spoiled, 4, CUSTOMER_ID="CUS-NOBODY")
    _put(spoiled, 3, CURRENCY="ZZZ")
    _put(spoiled, 2, PAID_AT=datetime.combine(made.today + timedelta(days=3), time()))
    _put(spoiled, 2, PAYMENT_ID=earlier)
    _put(spoiled, 3, METHOD="CASH")
    _put((row for row in spoiled if row["STATUS"] == "REFUNDED"), 2, REFUND_REASON=None)
    made.tables.append(table)
    settled = [row for row in table.rows if row["STATUS"] == "SETTLED" and row["AMOUNT"] >= 0]
    made.tables.append(
        Made(
            "SETTLED_PAYMENTS",
            {name: table.columns[name] for name in ("PAYMENT_ID", "AMOUNT", "LOADED_AT")},
            settled,
            query="SELECT PAYMENT_ID, AMOUNT, LOADED_AT FROM SALES.SHOP.PAYMENTS "
            "WHERE STATUS = 'SETTLED' AND AMOUNT >= 0",
        )
    )
    made.declare("PAYMENTS", "range(AMOUNT)", 5)
    made.declare("PAYMENTS", "referential(CUSTOMER_ID)", 4)
    made.declare("PAYMENTS", "accepted_values(CURRENCY)", 3)
    made.declare("PAYMENTS", "not_in_future(PAID_AT)", 2)
    made.declare("PAYMENTS", "unique(PAYMENT_ID)", 2)
    made.declare("PAYMENTS", "accepted_values(METHOD)", 3)
    made.declare("PAYMENTS", "refunds have a reason", 2)


def _invoices(made: Shop) -> None:
    """Nothing is wrong with them."""

    def row(day: date, number: int, at: datetime) -> Row:
        return {
            "INVOICE_ID": int(f"{day:%y%m%d}{number:05d}"),
            "INVOICE_NUMBER": f"INV-{day:%Y%m%d}-{number:04d}",
            "TOTAL": _money(day, number),
            "DUE_DATE": day + timedelta(days=14),
            "LOADED_AT": at,
        }

    columns = {"INVOICE_ID": "NUMBER(38,0)", "INVOICE_NUMBER": "VARCHAR", "TOTAL": "NUMBER(12,2)"}
    table = Made("INVOICES", columns | {"DUE_DATE": "DATE", "LOADED_AT": "TIMESTAMP_NTZ"})
    table.rows = list(_rows(made.days, 200, row))
    made.tables.append(table)


def _shipments(made: Shop) -> None:
    """Less than half of a usual day, and of many nobody knows the carrier."""

    def row(day: date, number: int, at: datetime) -> Row:
        unknown = number % 5 < 2 if day == made.day else number % 50 == 49
        return {
            "SHIPMENT_ID": f"SHP-{day:%Y%m%d}-{number:04d}",
            "CARRIER": None if unknown else ("north", "south", "east", "west")[number % 4],
            "WEIGHT_KG": 0.5 + number % 40,
            "LOADED_AT": at,
        }

    columns = {
        "SHIPMENT_ID": "VARCHAR",
        "CARRIER": "VARCHAR",
        "WEIGHT_KG": "FLOAT",
        "LOADED_AT": "TIMESTAMP_NTZ",
    }
    table = Made("SHIPMENTS", columns)
    table.rows = [*_rows(made.days[:-1], 240, row), *_rows(made.days[-1:], 100, row)]
    made.tables.append(table)
    made.declare("SHIPMENTS", "volume_anomaly")
    made.declare("SHIPMENTS", "null_share_anomaly(CARRIER)")


def _events(made: Shop) -> None:
    """Transient; the loader stood still from nine in the morning, and a few sessions have all of the events."""

    def row(day: date, number: int, at: datetime) -> Row:
        last = day == made.day
        begins = datetime.combine(day, time())
        return {
            "SESSION_KEY": f"{day:%j}-{number % 6 if last else number}",
            "PAGE": ("/", "/cart", "/pay")[number % 3],
            "LOADED_AT": begins + (at - begins) * 9 / 24 if last else at,
        }

    columns = {"SESSION_KEY": "VARCHAR", "PAGE": "VARCHAR", "LOADED_AT": "TIMESTAMP_NTZ"}
    table = Made("WEB_EVENTS", columns, transient=True)
    table.rows = list(_rows(made.days, 300, row))
    made.tables.append(table)
    made.declare("WEB_EVENTS", "freshness_anomaly")
    made.declare("WEB_EVENTS", "distinct_share_anomaly(SESSION_KEY)")


def _odd(made: Shop) -> None:
    """Names that break whatever does not quote them."""

    def row(day: date, number: int, at: datetime) -> Row:
        return {
            "select": number,
            "e-mail": f"o'{number}@example.com",
            "amount; DROP TABLE x --": Decimal(number) / 4,
            'Straße "7"': "yes",
            "loaded_at": at,
        }

    columns = {"select": "NUMBER(38,0)", "e-mail": "VARCHAR", "amount; DROP TABLE x --": "NUMBER(10,2)"}
    table = Made(ODD, columns | {'Straße "7"': "VARCHAR", "loaded_at": "TIMESTAMP_NTZ"}, dated="loaded_at")
    table.rows = list(_rows(made.days, 120, row))
    _put(_spoiled(table, made), 3, **{"e-mail": "it's none"})
    made.tables.append(table)
    made.declare(ODD, "regex(e-mail)", 3)


def _returns(made: Shop) -> None:
    """Was active, and has fallen silent."""

    def row(day: date, number: int, at: datetime) -> Row:
        return {"RETURN_ID": f"RET-{day:%Y%m%d}-{number:03d}", "LOADED_AT": at}

    table = Made("RETURNS", {"RETURN_ID": "VARCHAR", "LOADED_AT": "TIMESTAMP_NTZ"})
    table.rows = list(_rows(made.days[:-SILENT_DAYS], 60, row))
    made.tables.append(table)
    made.declare("RETURNS", "active", is_old=True)


def _others(made: Shop) -> None:
    """One without a date, one that hangs, one that may be seen and not read, one that may not even be seen."""

    def row(day: date, number: int, at: datetime) -> Row:
        return {"ENTRY_ID": number, "LOADED_AT": at}

    carriers = Made("CARRIERS", {"CODE": "VARCHAR", "NAME": "VARCHAR"}, dated=None)
    carriers.rows = [{"CODE": name[0], "NAME": name} for name in ("north", "south", "east", "west")]
    dated = {"ENTRY_ID": "NUMBER(38,0)", "LOADED_AT": "TIMESTAMP_NTZ"}
    for name, read in (("LEDGER", "SELECT"), ("SALARIES", "REFERENCES"), ("BOARD_MINUTES", None)):
        made.tables.append(Made(name, dated, list(_rows(made.days, 20, row)), read=read))
    made.tables.append(carriers)
    made.declare("CARRIERS", "checked", status="skipped", is_old=True)
    made.declare("LEDGER", "checked", status="error")
    made.declare("SALARIES", "checked", status="error", is_old=True)


# Rows ----------------------------------------------------------------------------------------------------------


def _rows(days: Sequence[date], usual: int, row: Callable[[date, int, datetime], Row]) -> Iterator[Row]:
    """The rows of days, from ten past midnight to ten to midnight; at weekends a third fewer."""
    for day in days:
        count = usual if day.weekday() < 5 else usual * 2 // 3
        begins = datetime.combine(day, time(0, 10))
        for number in range(count):
            yield row(day, number, begins + timedelta(minutes=1_420) * number / (count - 1))


def _spoiled(table: Made, made: Shop) -> Iterator[Row]:
    """Rows of the day under test, each once, in an order that the table's name decides; the first is left alone."""
    rows = table.by_day[made.day][1:]
    random.Random(table.name).shuffle(rows)
    return iter(rows)


def _put(rows: Iterator[Row], count: int, **cells: Any) -> None:
    for _ in range(count):
        next(rows).update(cells)


def _money(day: date, number: int) -> Decimal:
    """Between 1.00 and 1,000.00; all over the place, and the same for the same row."""
    return Decimal(100 + (day.toordinal() * 104_729 + number * 7_919) % 99_901) / 100


# The sample's orders -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OrderRows:
    """The rows of the sample's orders as text, as its data file has them, and what is wrong with them."""

    header: list[str]
    rows: list[list[str]]
    flaws: list[Flaw]


def sample_orders(today: date, count: int = ORDER_ROWS) -> OrderRows:
    """The warehouse's orders of the two years before a day, with the flaws of the sample."""
    spec = Spec(until=today, sizes=Sizes(orders=count, accounts=500))
    found = Flaws("real")
    rows, _ = orders.warehouse_rows(spec, orders.warehouse_events(spec, crm.accounts(spec)), found)
    counts = {kind: len(known["keys"]) for kind, known in found.found[orders.WAREHOUSE].items()}  # type: ignore[arg-type]
    told = {
        "not_null(ORDER_ID)": counts["null_order_id"],
        "not_null(EVENT_TS)": counts["null_event_ts"],
        "unique(ORDER_ID, EVENT_TS)": counts["exact_duplicate"] + counts["conflict"],
        "accepted_values(STATUS)": counts["unknown_status"],
        "accepted_values(CURRENCY)": counts["unknown_currency"],
        "range(AMOUNT)": counts["negative_amount"],
    }
    return OrderRows(
        list(orders.ORDER_HEADER),
        rows,
        [Flaw("PUBLIC", "ORDERS", rule, number) for rule, number in told.items() if number],
    )


# Into the local Snowflake --------------------------------------------------------------------------------------


def seed(cursor: Any, made: Shop, folder: Path) -> None:
    """Make the tables anew through the connector, with the rows before the day under test.

    ``folder`` is for the files that are loaded.
    """
    cursor.execute(f"DROP SCHEMA IF EXISTS {DATABASE}.{SCHEMA}")
    cursor.execute(f"CREATE SCHEMA {DATABASE}.{SCHEMA}")
    cursor.execute(f"CREATE STAGE {DATABASE}.{SCHEMA}.SEED")
    for table in made.tables:
        if table.query:
            cursor.execute(f"CREATE VIEW {full(table.name)} AS {table.query}")
            continue
        kind = "TRANSIENT TABLE" if table.transient else "TABLE"
        columns = ", ".join(f"{quoted(name)} {type_}" for name, type_ in table.columns.items())
        cursor.execute(f"CREATE {kind} {full(table.name)} ({columns})")
        is_last = table.by_day.get(made.day, [])
        _load(cursor, table, table.rows[: len(table.rows) - len(is_last)], folder / "before.csv")


def seed_day(cursor: Any, made: Shop, folder: Path) -> None:
    """Add the rows of the day under test, which have the flaws."""
    for table in made.tables:
        if not table.query and made.day in table.by_day:
            _load(cursor, table, table.by_day[made.day], folder / "day.csv")


def _load(cursor: Any, table: Made, rows: Sequence[Row], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        for row in rows:
            writer.writerow("" if row[name] is None else row[name] for name in table.columns)
    cursor.execute(f"PUT file://{file} @{DATABASE}.{SCHEMA}.SEED AUTO_COMPRESS=FALSE OVERWRITE=TRUE")
    cursor.execute(
        f"COPY INTO {full(table.name)} FROM @{DATABASE}.{SCHEMA}.SEED/{file.name} "
        "FILE_FORMAT = (TYPE = CSV FIELD_OPTIONALLY_ENCLOSED_BY = '\"') FORCE = TRUE"
    )


def grants(made: Shop) -> list[tuple[str, ...]]:
    """What the runner's user may read of the schema."""
    return [(table.read, DATABASE, SCHEMA, table.name) for table in made.tables if table.read]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def full(name: str) -> str:
    return f"{DATABASE}.{SCHEMA}.{quoted(name)}"
