"""Order events as the warehouse and the event stream have them, and the shipments that the vendor reports."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from zoneinfo import ZoneInfo

from local.samples import words
from local.samples.base import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Flaws,
    Spec,
    money,
    sql_timestamp,
    to_datetime,
    to_us,
    utc,
)
from local.samples.crm import Account, salesforce_id

ORDER_HEADER = [
    "ORDER_ID", "EVENT_TS", "CUSTOMER_ID", "STATUS", "AMOUNT", "CURRENCY", "SHIPPED_AT", "DELIVERED_AT", "LOADED_AT",
]  # fmt: skip
SHIPMENT_HEADER = [
    "shipment_id", "order_id", "carrier", "tracking_number", "status", "shipped_local", "delivered_local", "weight_kg",
    "cost", "currency",
]  # fmt: skip

BERLIN = ZoneInfo("Europe/Berlin")
LATE_AFTER = 30 * DAY
FIRST_FILES = 5  # files of the vendor, one a day, that the first day finds
WAREHOUSE = "bronze.snowflake_orders"
STREAM = "bronze.kafka_orders"
SHIPMENTS = "bronze.vendor_shipments"

# Share of the warehouse's rows with each flaw. Every flawed row has exactly one flaw, so the counts add up.
REJECTED_SHARES = {
    "negative_amount": 0.0004,
    "unknown_status": 0.0003,
    "unknown_currency": 0.00025,
    "null_order_id": 0.0001,
    "null_event_ts": 0.00005,
}
# Cells that a typed column cannot hold: the double then serves the whole column as VARCHAR.
UNTYPED_SHARES = {"unparseable_amount": 0.0001, "unparseable_event_ts": 0.00005}


@dataclass(frozen=True)
class Event:
    """One state of an order; its identity is (order_id, event_us)."""

    order_id: str
    event_us: int
    customer_id: str
    status: str
    cents: int
    currency: str
    shipped_us: int | None
    delivered_us: int | None
    loaded_us: int

    def row(self) -> list[str]:
        return [
            self.order_id, sql_timestamp(self.event_us), self.customer_id, self.status, money(self.cents),
            self.currency, sql_timestamp(self.shipped_us), sql_timestamp(self.delivered_us),
            sql_timestamp(self.loaded_us),
        ]  # fmt: skip

    @property
    def key(self) -> str:
        return f"{self.order_id}|{sql_timestamp(self.event_us)}"


def _order_id(number: int) -> str:
    return f"ORD-{number:08d}"


def life_cycle(rng: random.Random, order_id: str, customer_id: str, placed: int, end: int) -> list[Event]:
    """The events of one order that happened before `end`, in their order."""
    # A long tail of amounts, two decimals, now and then free of charge.
    cents = 0 if rng.random() < 0.0005 else int(rng.lognormvariate(8.6, 1.1)) + 1
    currency = rng.choices(words.CURRENCIES, words.CURRENCY_WEIGHTS)[0]
    fate = rng.random()
    states = ["PLACED"]
    if fate > 0.48:
        states.append("CANCELLED" if fate < 0.53 else "PAID")
    if fate > 0.73:
        states.append("CANCELLED" if fate < 0.76 else "SHIPPED")
    if fate > 0.95:
        states.append("SHIPPED")  # told again once it is delivered
    events: list[Event] = []
    moment, shipped, delivered = placed, None, None
    for state in states:
        if state == "SHIPPED":
            if shipped is None:
                shipped = moment - rng.randrange(MINUTE, HOUR)
            else:
                delivered = moment - rng.randrange(MINUTE, HOUR)
        if moment >= end - 15 * MINUTE:
            break
        loaded = moment + rng.randrange(30 * SECOND, 10 * MINUTE)
        events.append(
            Event(order_id, moment, customer_id, state, cents, currency, shipped, delivered, loaded)
        )
        moment += rng.randrange(2 * HOUR, 4 * DAY)
    return events


def _customer(rng: random.Random, of: list[Account]) -> str:
    # Some accounts buy much more than others.
    return of[int(len(of) * rng.random() ** 2)].id if of else salesforce_id("001", 1001)


def warehouse_events(spec: Spec, of: list[Account]) -> list[Event]:
    """The clean order events of the first day, in the order of loading."""
    rng = spec.rng("orders")
    wanted = _clean_rows(spec)
    events: list[Event] = []
    number = 1
    while len(events) < wanted:
        placed = rng.randrange(spec.start_us, spec.end_us - HOUR)
        events.extend(life_cycle(rng, _order_id(number), _customer(rng, of), placed, spec.end_us))
        number += 1
    del events[wanted:]
    events.sort(key=lambda e: (e.loaded_us, e.order_id))
    return events


def _clean_rows(spec: Spec) -> int:
    """Rows that remain for clean events when the copies that flaws add make up the rest."""
    flaws = Flaws(spec.flaws)
    rows = spec.sizes.orders
    return max(0, rows - flaws.count(rows, 0.0012) - flaws.count(rows, 0.0002))


def warehouse_rows(spec: Spec, events: list[Event], flaws: Flaws) -> tuple[list[list[str]], list[Event]]:
    """The warehouse file, the events with flaws worked in, by load time; and the events that have none."""
    rng = spec.rng("order flaws")
    size = spec.sizes.orders
    events = list(events)
    shares = dict(REJECTED_SHARES)
    if spec.flaws == "all":
        shares |= UNTYPED_SHARES
    free = list(range(len(events)))
    rng.shuffle(free)

    def take(share: float) -> list[int]:
        count = min(len(free), flaws.count(size, share))
        return [free.pop() for _ in range(count)]

    unknown = take(0.002)
    for index in unknown:
        events[index] = replace(events[index], customer_id=salesforce_id("001", 800_000_000 + index))
    flaws.declare(WAREHOUSE, "unknown_customer", "keep", [events[i].key for i in unknown])

    late = [i for i in take(0.0015) if events[i].event_us < spec.end_us - LATE_AFTER - 20 * DAY]
    for index in late:
        loaded = events[index].event_us + LATE_AFTER + rng.randrange(DAY, 15 * DAY)
        events[index] = replace(events[index], loaded_us=loaded)
    flaws.declare(WAREHOUSE, "late_event", "keep", [events[i].key for i in late])

    copies: list[Event] = []
    for index in take(0.0012):
        copies.append(events[index])
    flaws.declare(WAREHOUSE, "exact_duplicate", "duplicate", [e.key for e in copies])
    conflicts = []
    for index in take(0.0002):
        old = events[index]
        conflicts.append(replace(old, cents=old.cents + 100, loaded_us=old.loaded_us + SECOND))
    flaws.declare(WAREHOUSE, "conflict", "conflict", [e.key for e in conflicts])

    spoiled: dict[int, list[str]] = {}
    for kind, share in shares.items():
        indexes = take(share)
        keys = []
        for index in indexes:
            if kind == "negative_amount":
                events[index] = replace(events[index], cents=-abs(events[index].cents) - 1)
            row = _spoil(rng, events[index].row(), kind)
            spoiled[index] = row
            keys.append(f"{row[0]}|{row[1]}")
        flaws.declare(WAREHOUSE, kind, "reject", keys)

    rows = [spoiled.get(index) or event.row() for index, event in enumerate(events)]
    rows.extend(event.row() for event in copies + conflicts)
    rows.sort(key=lambda row: (row[8], row[0], row[1]))
    return rows, [events[index] for index in sorted(free)]


def _spoil(rng: random.Random, row: list[str], kind: str) -> list[str]:
    if kind == "unknown_status":
        row[3] = rng.choice(("LOST", "paid", "REFUNDED"))
    elif kind == "unknown_currency":
        row[5] = rng.choice(("XXX", "BTC", "ZZZ"))
    elif kind == "null_order_id":
        row[0] = ""
    elif kind == "null_event_ts":
        row[1] = ""
    elif kind == "unparseable_amount":
        row[4] = rng.choice(("12,50", "n/a", "1e"))
    elif kind == "unparseable_event_ts":
        row[1] = rng.choice(("yesterday", "2026-02-30 10:00:00"))
    return row


def later_events(spec: Spec, base: list[Event], of: list[Account], flaws: Flaws) -> list[Event]:
    """The warehouse's events loaded on a later day: new orders, next states of known ones, late events."""
    rng = spec.rng("orders", spec.day)
    start, end = spec.window_us(spec.day)
    wanted = max(20, spec.sizes.orders // 50)
    number = 10_000_000 + spec.day * 1_000_000
    result: list[Event] = []
    while len(result) < wanted * 6 // 10:
        placed = rng.randrange(start + MINUTE, end - HOUR)
        result.extend(life_cycle(rng, _order_id(number), _customer(rng, of), placed, end))
        number += 1
    last: dict[str, Event] = {}
    for event in base:
        known = last.get(event.order_id)
        if known is None or known.event_us < event.event_us:
            last[event.order_id] = event
    open_orders = [e for e in last.values() if e.status in ("PLACED", "PAID")]
    rng.shuffle(open_orders)
    for event in open_orders[: wanted * 3 // 10]:
        moment = rng.randrange(start + MINUTE, end - HOUR)
        status = "PAID" if event.status == "PLACED" else "SHIPPED"
        shipped = moment - MINUTE if status == "SHIPPED" else None
        result.append(
            replace(event, event_us=moment, status=status, shipped_us=shipped, loaded_us=moment + MINUTE)
        )
    late = []
    while len(result) < wanted:
        # These happened long ago and are loaded only now; some are older than what is stored of their order.
        event = replace(
            rng.choice(open_orders or result),
            status="PAID",
            loaded_us=rng.randrange(start + HOUR, end - HOUR),
        )
        event = replace(event, event_us=event.event_us - 40 * DAY - rng.randrange(10**9))
        result.append(event)
        late.append(event.key)
    flaws.declare(WAREHOUSE, "late_event", "keep", late)
    result.sort(key=lambda e: (e.loaded_us, e.order_id))
    return result


def poisoned_rows(spec: Spec, events: list[Event], flaws: Flaws) -> tuple[list[str], list[list[str]]]:
    """The day's warehouse file, spoiled as `spec.poison` says: its header and rows."""
    header, rows = list(ORDER_HEADER), [event.row() for event in events]
    keys: list[str] = []
    effect = "stop"
    if spec.poison == "shares":
        effect = "reject"
        for number, row in enumerate(rows):
            if number % 5 == 0:
                row[4] = "-" + row[4].lstrip("-") if row[4] != "0.00" else "-0.01"
                keys.append(f"{row[0]}|{row[1]}")
    elif spec.poison == "set_rule":
        effect = "conflict"
        for number, event in enumerate(events):
            if number % 2 == 0:
                rows.append(replace(event, cents=event.cents + 1).row())
                keys.append(event.key)
    elif spec.poison == "volume":
        rows = []
    elif spec.poison == "missing_column":
        position = header.index("AMOUNT")
        del header[position]
        for row in rows:
            del row[position]
        keys = ["AMOUNT"]
    flaws.declare(WAREHOUSE, f"poison_{spec.poison}", effect, keys)
    return header, rows


# The stream ----------------------------------------------------------------------------------------------------


def _message(event: Event, rng: random.Random) -> dict[str, object]:
    """The stream's form of an event: times with a zone, the amount as a number or as text."""
    zone = BERLIN if rng.random() < 0.3 else None

    def iso(us: int) -> str:
        moment = utc(us)
        return moment.astimezone(zone).isoformat() if zone else moment.isoformat().replace("+00:00", "Z")

    body: dict[str, object] = {
        "order_id": event.order_id,
        "event_ts": iso(event.event_us),
        "customer_id": event.customer_id,
        "status": event.status,
        "amount": event.cents / 100 if rng.random() < 0.5 else money(event.cents),
        "currency": event.currency,
    }
    if event.shipped_us is not None:
        body["shipped_at"] = iso(event.shipped_us)
    if event.delivered_us is not None:
        body["delivered_at"] = iso(event.delivered_us)
    return body


def _line(event: Event, body: object) -> dict[str, object]:
    value = body if isinstance(body, str) or body is None else json.dumps(body, ensure_ascii=False)
    return {"key": event.order_id, "value": value, "timestamp_ms": event.loaded_us // 1000}


def stream_lines(
    spec: Spec, base: list[Event], of: list[Account], flaws: Flaws, day: int
) -> list[dict[str, object]]:
    """The messages of a day: orders of the stream's own, events of `base` that the warehouse has too, broken ones."""
    rng = spec.rng("stream", day)
    size = spec.sizes.kafka if day == 1 else max(10, spec.sizes.kafka // 10)
    start, end = (spec.end_us - 2 * DAY, spec.end_us) if day == 1 else spec.window_us(day)
    shared = rng.sample(base, min(len(base), flaws.count(size, 0.05)))
    contested, shared = shared[: len(shared) // 20], shared[len(shared) // 20 :]
    repeats = flaws.count(size, 0.0025)
    own: list[Event] = []
    number = 50_000_000 + day * 1_000_000
    while len(own) < size - len(shared) - len(contested) - repeats:
        placed = rng.randrange(start, end - HOUR)
        own.extend(life_cycle(rng, _order_id(number), _customer(rng, of), placed, end))
        number += 1
    del own[size - len(shared) - len(contested) - repeats :]
    flaws.declare(STREAM, "also_in_warehouse", "superseded", [e.key for e in shared])
    flaws.declare(STREAM, "conflict", "conflict", [e.key for e in contested])

    lines = [(event.loaded_us, event, _message(event, rng)) for event in own + shared]
    lines += [(e.loaded_us, e, _message(replace(e, cents=e.cents + 500), rng)) for e in contested]

    spoilable = list(range(len(own)))
    rng.shuffle(spoilable)
    spoiled: dict[int, dict[str, object]] = {}
    kinds = {
        "invalid_json": 0.001,
        "tombstone": 0.0005,
        "not_an_object": 0.0005,
        "unparseable_amount": 0.0005,
        "unparseable_event_ts": 0.0005,
        "negative_amount": 0.0005,
        "unknown_status": 0.0005,
        "null_order_id": 0.0005,
        "null_key": 0.0005,
    }
    for kind, share in kinds.items() if day == 1 else []:
        keys = []
        for _ in range(min(len(spoilable), flaws.count(size, share))):
            index = spoilable.pop()
            _, event, body = lines[index]
            keys.append(event.key)
            spoiled[index] = _spoil_message(event, dict(body), kind)
        flaws.declare(STREAM, kind, "keep" if kind == "null_key" else "reject", keys)

    result = [
        (loaded, spoiled[i] if i in spoiled else _line(event, body))
        for i, (loaded, event, body) in enumerate(lines)
    ]
    again = [spoilable.pop() for _ in range(min(len(spoilable), repeats))]
    result += [(lines[i][0] + SECOND, _line(lines[i][1], lines[i][2])) for i in again]
    flaws.declare(STREAM, "exact_duplicate", "duplicate", [lines[i][1].key for i in again])
    result.sort(key=lambda pair: pair[0])
    return [line for _, line in result]


def _spoil_message(event: Event, body: dict[str, object], kind: str) -> dict[str, object]:
    if kind == "invalid_json":
        return _line(event, json.dumps(body)[:-7])
    if kind == "tombstone":
        return _line(event, None)
    if kind == "not_an_object":
        return _line(event, json.dumps([event.order_id]))
    if kind == "unparseable_amount":
        body["amount"] = "12,50"
    elif kind == "unparseable_event_ts":
        body["event_ts"] = "yesterday"
    elif kind == "negative_amount":
        body["amount"] = money(-abs(event.cents) - 1)
    elif kind == "unknown_status":
        body["status"] = "LOST"
    elif kind == "null_order_id":
        body["order_id"] = None
    line = _line(event, body)
    return line | {"key": None} if kind == "null_key" else line


# The vendor ----------------------------------------------------------------------------------------------------


def _wall(us: int) -> str:
    """Berlin wall time, as the vendor writes it, moved out of the hour that happens twice."""
    local = utc(us).astimezone(BERLIN)
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        local = utc(us + 2 * HOUR).astimezone(BERLIN)
    return local.strftime("%Y-%m-%d %H:%M:%S")


def _transition_walls(before: int) -> tuple[str, str]:
    """The newest wall time before that instant that happened twice, and the newest that never happened."""
    found: dict[int, str] = {}
    day = before - DAY
    while len(found) < 2:
        wall = to_datetime(day).replace(hour=2, minute=30, second=0)
        early, later = (wall.replace(tzinfo=BERLIN, fold=fold).utcoffset() for fold in (0, 1))
        assert early is not None
        assert later is not None
        if early != later:
            found.setdefault(1 if early > later else -1, wall.strftime("%Y-%m-%d %H:%M:%S"))
        day -= DAY
    return found[1], found[-1]


def shipment_files(spec: Spec, base: list[Event], flaws: Flaws, day: int) -> dict[str, list[list[str]]]:
    """The vendor's daily files by name; a file tells nothing that happened after its day.

    A shipment reported twice is meant as it is in the later file.
    """
    rng = spec.rng("shipments", day)
    shipped = [
        e for e in base if e.status == "SHIPPED" and e.delivered_us is None and e.shipped_us is not None
    ]
    if not shipped or not spec.sizes.shipments:
        return {}
    days = FIRST_FILES if day == 1 else 1
    size = spec.sizes.shipments if day == 1 else max(5, spec.sizes.shipments // 10)
    per_file = -(-size // days)
    end = spec.end_us if day == 1 else spec.window_us(day)[1]
    ends = [end - (days - 1 - position) * DAY for position in range(days)]
    known = [[e for e in shipped if e.shipped_us is not None and e.shipped_us < told] for told in ends]
    parts: list[list[list[str]]] = [[] for _ in ends]
    offset = 0 if day == 1 else day * 1_000_000
    for number in range(size):
        position = next(each for each in range(number // per_file, days) if known[each])
        event = known[position][-1 - (number * 7) % len(known[position])]
        assert event.shipped_us is not None
        status = rng.choice(("CREATED", "IN_TRANSIT", "DELIVERED", "DELIVERED", "RETURNED"))
        done = (
            event.shipped_us + rng.randrange(8 * HOUR, 5 * DAY)
            if status in ("DELIVERED", "RETURNED")
            else None
        )
        if done is not None and done >= ends[position]:
            status, done = "IN_TRANSIT", None
        parts[position].append(
            [
                f"SHP-{offset + number:07d}",
                event.order_id,
                rng.choice(words.CARRIERS),
                f"00{rng.randrange(10**9, 10**10)}",
                status,
                "" if status == "CREATED" else _wall(event.shipped_us),
                "" if done is None else _wall(done),
                f"{rng.randrange(50, 31_500) / 1000:.3f}",
                money(rng.randrange(290, 4_999)),
                rng.choice(("EUR", "EUR", "PLN", "CZK")),
            ]
        )
    flawed = _flaw_shipments(spec, rng, list(chain(*parts)), flaws) if day == 1 else set()
    files: dict[str, list[list[str]]] = {}
    for part, told in zip(parts, ends, strict=True):
        if files and part:
            # The next day's file tells some shipments of the day before again, further on their way.
            earlier = list(files.values())[-1]
            again = [old for old in earlier[:: max(1, len(earlier) // 20)] if old[0] not in flawed]
            part += [later for old in again if (later := _delivered(old, told))]
        if part:
            files[f"vendor_shipments_{to_datetime(told - DAY):%Y-%m-%d}.csv"] = part
    return files


def _delivered(row: list[str], before: int) -> list[str] | None:
    """A shipment under way as it is two days after it was shipped; None where that is not over by then."""
    if row[4] != "IN_TRANSIT":
        return None
    done = to_us(datetime.fromisoformat(row[5])) + 2 * DAY
    return [*row[:4], "DELIVERED", row[5], _wall(done), *row[7:]] if done < before - DAY else None


def _flaw_shipments(spec: Spec, rng: random.Random, rows: list[list[str]], flaws: Flaws) -> set[str]:
    """Spoil some rows; returns the ids of these shipments, which are told once only."""
    # Before the oldest file's day, so that no file tells of a time after its own.
    twice, never = _transition_walls(spec.end_us - FIRST_FILES * DAY)
    flawed: set[str] = set()
    free = list(range(len(rows)))
    rng.shuffle(free)
    kinds = (
        "ambiguous_local_time",
        "nonexistent_local_time",
        "unparseable_weight",
        "unknown_status",
        "null_key",
    )
    for kind in kinds:
        keys = []
        for _ in range(flaws.count(len(rows), 0.0005)):
            row = rows[free.pop()]
            flawed.add(row[0])
            if kind == "ambiguous_local_time":
                row[4:7] = ["IN_TRANSIT", twice, ""]
            elif kind == "nonexistent_local_time":
                row[4:7] = ["IN_TRANSIT", never, ""]
            elif kind == "unparseable_weight":
                row[7] = "12 kg"
            elif kind == "unknown_status":
                row[4] = "LOST"
            else:
                row[0] = ""
            keys.append(row[0] or row[1])
        flaws.declare(SHIPMENTS, kind, "reject", keys)
    unknown = []
    for _ in range(flaws.count(len(rows), 0.0015)):
        row = rows[free.pop()]
        row[1] = "ORD-99999999"
        unknown.append(row[0])
    flaws.declare(SHIPMENTS, "unknown_order", "keep", unknown)
    return flawed | {"", *unknown}
