"""Silver and Gold by dicts and Decimal, written from docs/transformations.md; shares no code with the library.

Bronze rows are dicts (column -> value) with timestamps as aware datetimes; so are the rows returned.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

Row = dict[str, Any]

UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
# Wide enough for every product and quotient below to be exact or correctly rounded.
WIDE = Context(prec=120, rounding=ROUND_HALF_UP)
ACCOUNTS = (
    "id",
    "name",
    "type",
    "industry",
    "country",
    "phone",
    "website",
    "is_deleted",
    "created_at",
    "modified_at",
)
LEADS = (
    "id", "first_name", "last_name", "email", "company", "status", "country", "converted_account_id",
    "is_converted", "is_deleted", "created_at", "modified_at",
)  # fmt: skip
CONTACTS = (
    "id", "email", "first_name", "last_name", "phone", "company", "lifecycle_stage", "country", "account_id",
    "merged_into", "is_deleted", "created_at", "modified_at",
)  # fmt: skip
SHIPMENTS = (
    "id", "order_id", "carrier", "tracking_number", "status", "shipped_at", "delivered_at", "weight_kg", "cost",
    "currency",
)  # fmt: skip
ORDERS = ("order_id", "event_ts", "customer_id", "status", "amount", "currency", "shipped_at", "delivered_at")
QUOTES = ("as_of_date", "ccy", "ccy_per_eur")
SCALES = {"amount": 2, "cost": 2, "weight_kg": 3, "ccy_per_eur": 12}


def clean(text: str | None) -> str | None:
    return (text or "").strip() or None


def instant_text(moment: dt.datetime | None) -> str:
    if moment is None:
        return ""
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    return f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}T{seconds:05d}.{moment.microsecond:06d}"


def payload_hash(row: Row, columns: Sequence[str]) -> str:
    return hashlib.sha256(
        json.dumps(
            {column: text(row[column], column) for column in sorted(columns) if row[column] is not None},
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
    ).hexdigest()


def text(value: Any, column: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:.{SCALES[column]}f}"
    if isinstance(value, dt.datetime):
        return str((value - EPOCH) // dt.timedelta(microseconds=1))
    return str(value)


def half_up(numerator: Decimal, denominator: Decimal, scale: int, precision: int) -> Decimal | None:
    exact_enough = WIDE.divide(numerator, denominator)
    rounded = exact_enough.quantize(Decimal(1).scaleb(-scale), context=WIDE)
    return rounded if abs(rounded) < Decimal(10) ** (precision - scale) else None


def greatest(rows: Iterable[Row], key: Sequence[str], time: str) -> list[Row]:
    """The row of each key that the total order puts last."""
    best: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        name = tuple(row[column] for column in key)
        if name not in best or order(row, time) > order(best[name], time):
            best[name] = row
    return list(best.values())


def order(row: Row, time: str) -> tuple[Any, ...]:
    moment = row[time]
    return (
        (moment is not None, moment.encode() if isinstance(moment, str) else moment or 0),
        row["_source_rank"],
        row["_source_position"].encode(),
        (row["_landed_at"] is not None, row["_landed_at"] or 0),
        row["_payload_hash"],
    )


def classes(source: Sequence[Row], stored: Sequence[Row], key: Sequence[str], time: str) -> list[str]:
    """The class of each source row; rows carry `_run_id`, the tie-break among rows equal in the order."""
    found = []
    for number, row in enumerate(source):
        rivals = [(1, 0, other) for other in stored if all(other[c] == row[c] for c in key)]
        rivals += [(0, n, other) for n, other in enumerate(source) if all(other[c] == row[c] for c in key)]

        def place(rival: tuple[int, int, Row]) -> tuple[Any, ...]:
            is_stored, n, other = rival
            return (*order(other, time), is_stored, tuple(-ord(c) for c in other["_run_id"]), -n)

        rivals.sort(key=place)
        _, winner_number, winner = rivals[-1]
        mine = next(rival for rival in rivals if rival[0] == 0 and rival[1] == number)
        same = [r for r in rivals if (r[2][time], r[2]["_payload_hash"]) == (row[time], row["_payload_hash"])]
        if winner is row and winner_number == number:
            found.append("updated" if any(r[0] for r in rivals) else "inserted")
        elif any(r is not mine and (r[0] or place(r) > place(mine)) for r in same):
            found.append("duplicate")
        else:
            found.append("conflict" if row[time] == winner[time] else "superseded")
    return found


def silver_orders(snowflake: Iterable[Row], kafka: Iterable[Row]) -> list[Row]:
    rows = []
    for source, rank, bronze in (("snowflake", 2, snowflake), ("kafka", 1, kafka)):
        for b in bronze:
            row = {column: b[column] for column in ORDERS}
            row["customer_id"] = clean(b["customer_id"])
            row |= {"source": source, "event_month": f"{b['event_ts'].year:04d}-{b['event_ts'].month:02d}"}
            is_kafka = source == "kafka"
            position = (
                f"{b['partition']:010d}/{b['offset']:020d}" if is_kafka else instant_text(b["loaded_at"])
            )
            row |= {"_source_rank": rank, "_source_position": position, "_landed_at": b["_landed_at"]}
            row |= {"_payload_hash": payload_hash(row, ORDERS), "_run_id": b["_run_id"]}
            rows.append(row)
    return rows


def silver_accounts(bronze: Iterable[Row]) -> list[Row]:
    rows = []
    for b in bronze:
        row = {column: clean(b[column]) for column in ("name", "type", "industry", "phone", "website")}
        row |= {"id": b["id"], "country": clean(b["billingcountry"]), "is_deleted": bool(b["isdeleted"])}
        row |= {"created_at": b["createddate"], "modified_at": b["systemmodstamp"]}
        rows.append(_latest_state(row, ACCOUNTS, b))
    return rows


def silver_leads(bronze: Iterable[Row]) -> list[Row]:
    rows = []
    for b in bronze:
        row = {column: clean(b[column]) for column in ("email", "company", "status", "country")}
        row |= {"id": b["id"], "first_name": clean(b["firstname"]), "last_name": clean(b["lastname"])}
        row |= {
            "converted_account_id": clean(b["convertedaccountid"]),
            "is_converted": bool(b["isconverted"]),
        }
        row |= {"is_deleted": bool(b["isdeleted"])}
        row |= {"created_at": b["createddate"], "modified_at": b["systemmodstamp"]}
        rows.append(_latest_state(row, LEADS, b))
    return rows


def silver_contacts(bronze: Iterable[Row]) -> list[Row]:
    rows = []
    for b in bronze:
        row = {column: clean(b[column]) for column in ("email", "phone", "company", "country", "merged_into")}
        row |= {"id": b["id"], "first_name": clean(b["firstname"]), "last_name": clean(b["lastname"])}
        row |= {"lifecycle_stage": clean(b["lifecyclestage"]), "account_id": clean(b["salesforceaccountid"])}
        row |= {"is_deleted": bool(b["archived"]) or row["merged_into"] is not None}
        row |= {"created_at": b["createdate"], "modified_at": b["lastmodifieddate"]}
        rows.append(_latest_state(row, CONTACTS, b))
    return rows


def _latest_state(row: Row, columns: Sequence[str], bronze: Row) -> Row:
    return {column: row[column] for column in columns} | {
        "_source_rank": 2 if row["is_deleted"] else 1,
        "_source_position": "",
        "_landed_at": bronze["_landed_at"],
        "_payload_hash": payload_hash(row, columns),
        "_run_id": bronze["_run_id"],
    }


def silver_shipments(bronze: Iterable[Row]) -> list[Row]:
    rows = []
    for b in bronze:
        row = {"id": b["shipment_id"]}
        row |= {column: clean(b[column]) for column in ("order_id", "carrier", "tracking_number", "status")}
        row |= {column: b[column] for column in ("shipped_at", "delivered_at", "weight_kg", "cost")}
        row |= {"currency": clean(b["currency"])}
        tail = {"is_deleted": False, "file": b["file"], "line": b["line"], "_source_rank": 1}
        tail |= {"_source_position": f"{instant_text(b['_landed_at'])}#{b['line']:010d}"}
        tail |= {"_landed_at": b["_landed_at"]}
        rows.append(row | tail | {"_payload_hash": payload_hash(row, SHIPMENTS), "_run_id": b["_run_id"]})
    return rows


def fx_quotes(bronze: Iterable[Row]) -> list[Row]:
    """Step 1 of silver.fx_rates before the choice of the greatest."""
    rows = []
    for b in bronze:
        row = {column: b[column] for column in (*QUOTES, "publication", "_landed_at", "_run_id")}
        row |= {"_source_rank": 2 if b["publication"] == "history" else 1, "_source_position": ""}
        rows.append(row | {"_payload_hash": payload_hash(row, QUOTES)})
    return rows


def silver_fx(bronze: Iterable[Row]) -> list[Row]:
    quotes = [quote for quote in fx_quotes(bronze) if quote["ccy"] != "EUR"]
    standing = greatest(quotes, ("as_of_date", "ccy"), "_landed_at")
    usd = {row["as_of_date"]: row for row in standing if row["ccy"] == "USD" and row["ccy_per_eur"] > 0}
    for row in usd.values():
        euro = row | {"ccy": "EUR", "ccy_per_eur": Decimal(1)}
        standing.append(euro | {"_payload_hash": payload_hash(euro, QUOTES)})
    for row in standing:
        base = usd[row["as_of_date"]]["ccy_per_eur"] if row["as_of_date"] in usd else None
        rate = None if base is None else half_up(base, row["ccy_per_eur"], 12, 20)
        row |= {"usd_per_eur": base, "rate_to_base": rate}
    return standing


def dim_customers(accounts: Iterable[Row], contacts: Iterable[Row], publish_id: str) -> list[Row]:
    living = [c["account_id"] for c in contacts if not c["is_deleted"] and c["merged_into"] is None]
    return [
        {column: a[column] for column in ("id", "name", "type", "industry", "country")}
        | {"is_active": not a["is_deleted"], "contacts": living.count(a["id"]), "_publish_id": publish_id}
        for a in accounts
    ]


def newest_usable(fx: Iterable[Row], ccy: str, day: dt.date, staleness: int) -> Row | None:
    candidates = [
        row
        for row in fx
        if row["ccy"] == ccy
        and row["usd_per_eur"] is not None
        and row["ccy_per_eur"] > 0
        and 0 <= (day - row["as_of_date"]).days <= staleness
    ]
    return max(candidates, key=lambda row: row["as_of_date"], default=None)


def dim_fx(fx: Sequence[Row], staleness: int, publish_id: str) -> list[Row]:
    rows = []
    end = max(row["as_of_date"] for row in fx).toordinal() + staleness
    for ccy in {row["ccy"] for row in fx}:
        quotes = [row for row in fx if row["ccy"] == ccy]
        start = min(row["as_of_date"] for row in quotes).toordinal()
        for ordinal in range(start, min(end, dt.date.max.toordinal()) + 1):
            day = dt.date.fromordinal(ordinal)
            quote = newest_usable(quotes, ccy, day, staleness) or {}
            row = {column: quote.get(column) for column in ("rate_to_base", "ccy_per_eur", "usd_per_eur")}
            row |= {"as_of_date": day, "ccy": ccy, "rate_as_of_date": quote.get("as_of_date")}
            row |= {
                "is_carried_forward": bool(quote) and quote["as_of_date"] < day,
                "_publish_id": publish_id,
            }
            rows.append(row)
    return rows


def fact_orders(
    orders: Iterable[Row],
    customers: Iterable[Row],
    fx: Sequence[Row],
    previous: Iterable[Row],
    *,
    run_date: dt.date,
    staleness: int,
    restate_days: int,
    publish_id: str,
) -> list[Row]:
    """From Silver and the ids of the customers; `fx` is silver.fx_rates, not the calendar."""
    known = {customer["id"] for customer in customers}
    published = {row["order_id"]: row for row in previous}
    events: dict[str, list[Row]] = {}
    for event in orders:
        events.setdefault(event["order_id"], []).append(event)
    rows = []
    for order_id, history in events.items():
        last = max(history, key=lambda event: order(event, "event_ts"))
        day = min(event["event_ts"] for event in history).date()
        before = published.get(order_id)
        if (
            before is not None
            and (before["order_date"], before["currency"]) == (day, last["currency"])
            and day.toordinal() < run_date.toordinal() - restate_days
        ):
            quotes = tuple(before[column] for column in ("fx_as_of_date", "usd_per_eur", "ccy_per_eur"))
        else:
            quote = newest_usable(fx, last["currency"], day, staleness) or {}
            quotes = tuple(quote.get(column) for column in ("as_of_date", "usd_per_eur", "ccy_per_eur"))
        usd = None
        if None not in quotes:
            usd = half_up(WIDE.multiply(last["amount"], quotes[1]), quotes[2], 2, 18)
        if usd is None:
            quotes = (None, None, None)
        rows.append(
            {
                "order_id": order_id,
                "customer_id": last["customer_id"],
                "order_date": day,
                "currency": last["currency"],
                "amount_native": last["amount"],
                "amount_usd": usd,
                "fx_as_of_date": quotes[0],
                "usd_per_eur": quotes[1],
                "ccy_per_eur": quotes[2],
                "status": last["status"],
                "shipped_at": millis(
                    min((e["shipped_at"] for e in history if e["shipped_at"]), default=None)
                ),
                "delivered_at": millis(
                    max((e["delivered_at"] for e in history if e["delivered_at"]), default=None)
                ),
                "event_ts": millis(last["event_ts"]),
                "is_known_customer": last["customer_id"] in known,
                "_publish_id": publish_id,
            }
        )
    return rows


def millis(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.replace(microsecond=moment.microsecond // 1000 * 1000)
